"""The state machine that executes an order."""
