"""A limit order waits for a price, and is never filled at a worse one."""

from order_engine.domain.failures import FailureCode
from order_engine.domain.money import EXACT
from order_engine.domain.orders import ExecutionTerms, Quote
from order_engine.domain.types.rules import OrderTypeRules, base_units_up


class Limit(OrderTypeRules):
    """Execute once a venue pays ``limit_price`` (tokenOut per tokenIn) or more."""

    name = "limit"
    terms = frozenset({"limit_price", "expires_at"})
    rests = True
    met_at_once = (
        "the limit is already marketable: the order executes at once, at the limit or better"
    )

    def is_met(self, terms: ExecutionTerms, quote: Quote) -> bool:
        """Tell whether the quote pays the limit price."""
        return terms.limit_price is not None and quote.price >= terms.limit_price

    def least_amount_out(self, terms: ExecutionTerms) -> int:
        """Return what the limit price gives for the whole amount."""
        if terms.limit_price is None:
            return 0
        return base_units_up(EXACT.multiply(terms.amount_in, terms.limit_price), terms.token_out)

    def counts(self, code: FailureCode) -> bool:
        """Tell that a revert does not count: the market moved away, and the order goes on."""
        return code is not FailureCode.SLIPPAGE_EXCEEDED
