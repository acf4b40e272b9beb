"""What people touch: the command, and what it prints."""
