"""The page and its server: routes of a few lines over one `Sounds`."""
