"""What an order is, and which changes it may go through.

Here live values and rules without input or output: they import the standard library and pydantic,
and nothing else of the engine.
"""
