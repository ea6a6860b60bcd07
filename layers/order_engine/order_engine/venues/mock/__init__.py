"""All that is simulated, and only that."""
