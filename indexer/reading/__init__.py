"""Files to batches of windows, in processes that may die."""
