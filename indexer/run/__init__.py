"""One run: what is computed, and what is recorded of it."""
