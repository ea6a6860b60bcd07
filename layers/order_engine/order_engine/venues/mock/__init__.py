"""The simulated venues, and the chain and the market that they share.

All that is simulated lives here and nothing else does; only ``bootstrap`` and tests import it.
"""
