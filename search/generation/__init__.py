"""What queries see of a store: immutable segments of rows, and generations that list them."""
