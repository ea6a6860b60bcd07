"""Orders at rest: the watch over them."""
