"""The command: each function parses, makes one call, and prints."""
