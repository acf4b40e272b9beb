"""What files a library has, and what is new about them."""
