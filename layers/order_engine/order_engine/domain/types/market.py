"""A market order executes at once, at the best price there is."""

from order_engine.domain.types.rules import OrderTypeRules


class Market(OrderTypeRules):
    """Execute at once; only the slippage tolerance bounds the price."""

    name = "market"
