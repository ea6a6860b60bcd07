"""Exchanges that orders are sent to.

Here live the contract that every venue keeps and the registry that lists them; a venue, real or
simulated, has a folder of its own.
"""
