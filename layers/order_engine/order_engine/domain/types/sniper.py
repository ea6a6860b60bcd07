"""A sniper order waits for a pool to open, and takes it if it is large and cheap enough."""

from order_engine.domain.money import EXACT
from order_engine.domain.orders import ExecutionTerms, Quote
from order_engine.domain.types.rules import ROUNDING_UP, OrderTypeRules, base_units_up


class Sniper(OrderTypeRules):
    """Execute as soon as a pool of the kind wanted is open.

    ``only_venue``, ``min_liquidity`` (tokenIn) and ``max_price`` (tokenIn per tokenOut) bound it.
    """

    name = "sniper"
    terms = frozenset({"trigger", "expires_at"})
    rests = True
    awaits_opening = True
    is_urgent = True
    default_slippage_bps = 1_000

    def admits(self, terms: ExecutionTerms, quote: Quote) -> bool:
        """Tell whether the pool is at the venue wanted and large enough."""
        if terms.only_venue is not None and quote.dex != terms.only_venue:
            return False
        return quote.liquidity >= EXACT.multiply(terms.min_liquidity, quote.price)

    def is_met(self, terms: ExecutionTerms, quote: Quote) -> bool:
        """Tell whether the pool is open, of the kind wanted, and cheap enough."""
        return self.admits(terms, quote) and (
            terms.max_price is None or EXACT.multiply(quote.price, terms.max_price) >= 1
        )

    def least_amount_out(self, terms: ExecutionTerms) -> int:
        """Return what the highest price still gives for the whole amount."""
        if terms.max_price is None:
            return 0
        return base_units_up(ROUNDING_UP.divide(terms.amount_in, terms.max_price), terms.token_out)
