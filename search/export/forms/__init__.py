"""Forms in which other people's code reads captioned sounds: a module for each who reads."""
