"""What is done to an order from its acceptance to its end.

Here live the services that change orders, and the ports through which they do; they know no adapter
and no venue but by its contract.
"""
