"""What people teach: labels of windows, and tags that are learned from them."""
