"""A fourth order type that only tests know: at a price it becomes a market order."""

from __future__ import annotations

from order_engine.adapters.postgres.resting import ESTIMATED_PRICE
from order_engine.domain.orders import ExecutionTerms, Quote
from order_engine.domain.types.rules import OrderTypeRules

CONDITION = "orders.limit_price <= " + ESTIMATED_PRICE


class IfTouched(OrderTypeRules):
    """Execute at any price once a venue has paid ``limit_price``."""

    name = "if_touched"
    terms = frozenset({"limit_price", "expires_at"})
    rests = True

    def is_met(self, terms: ExecutionTerms, quote: Quote) -> bool:
        return terms.limit_price is not None and quote.price >= terms.limit_price
