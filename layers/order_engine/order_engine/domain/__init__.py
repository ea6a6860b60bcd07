"""What an order is: standard library and pydantic only; nothing else of the engine."""
