"""A third venue that only tests know: constant product, 0.1 % fee."""

from __future__ import annotations

from order_engine.venues.mock import raydium
from order_engine.venues.mock.pools import PoolSwap, PoolView
from order_engine.venues.registry import VenueListing

FEE_NUMERATOR = 10
"""Of Raydium's denominator, 10,000."""

LISTING = VenueListing("orca", simulation="tests.support.orca")


def swap(view: PoolView, amount_in: int) -> PoolSwap:
    return raydium.swap(view, amount_in, FEE_NUMERATOR)
