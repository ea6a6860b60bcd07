"""What the pages function serves: prepared once, then answered as it is."""
