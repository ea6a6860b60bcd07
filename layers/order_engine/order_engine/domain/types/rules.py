"""What an order type has to say."""

from decimal import ROUND_UP, Context, Decimal
from typing import ClassVar

from order_engine.domain.failures import FailureCode
from order_engine.domain.orders import ExecutionTerms, Quote
from order_engine.domain.tokens import TOKENS

ROUNDING_UP = Context(prec=76, rounding=ROUND_UP)


class OrderTypeRules:
    """Say all that is particular to one type; the defaults are those of a market order.

    ``terms``: the names of the terms that its orders must have, of those that others may not.
    ``rests``: it waits until a quote meets its condition. ``awaits_opening``: it waits for a pool
    to open, and is refused while one is open already. ``is_urgent``: its moment does not come
    again, so it goes before all others that wait for a turn, and tries again after a second and
    not after ever longer pauses. ``met_at_once``: what to warn of when the condition is met on
    arrival.
    """

    name: ClassVar[str]
    terms: ClassVar[frozenset[str]] = frozenset()
    rests: ClassVar[bool] = False
    awaits_opening: ClassVar[bool] = False
    is_urgent: ClassVar[bool] = False
    met_at_once: ClassVar[str | None] = None
    default_slippage_bps: ClassVar[int] = 50

    def admits(self, terms: ExecutionTerms, quote: Quote) -> bool:
        """Tell whether the quote is of a pool that the order may use."""
        return True

    def is_met(self, terms: ExecutionTerms, quote: Quote) -> bool:
        """Tell whether this quote releases the order; ``resting.py`` says the same in SQL."""
        return True

    def least_amount_out(self, terms: ExecutionTerms) -> int:
        """Return what must come out whatever was quoted, in base units of ``token_out``."""
        return 0

    def counts(self, code: FailureCode) -> bool:
        """Tell whether such a failure is held against the order's ``max_retries``."""
        return True


def base_units_up(amount: Decimal, token: str) -> int:
    """Return an amount in base units of the token, rounded up."""
    return int(
        amount.scaleb(TOKENS[token].decimals, context=ROUNDING_UP).to_integral_value(
            rounding=ROUND_UP, context=ROUNDING_UP
        )
    )
