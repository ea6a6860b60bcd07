"""Which venue gets the order."""

from collections.abc import Sequence
from decimal import Decimal

from order_engine.domain.money import BASIS_POINTS
from order_engine.domain.orders import Quote

NEAR_TIE_BPS = Decimal(5)
"""Outputs within this distance count as equal, and the deeper pool wins: a better price by a hair
is worth less than a pool that moves less before the swap lands."""


def best_quote[AnyQuote: Quote](quotes: Sequence[AnyQuote]) -> AnyQuote:
    """Return the quote with the best net amount out; liquidity decides near-ties.

    Raises ``ValueError`` when there is no quote.
    """
    if not quotes:
        raise ValueError("no quotes to choose from")
    best_amount_out = max(quote.amount_out for quote in quotes)
    threshold = best_amount_out * (1 - NEAR_TIE_BPS / BASIS_POINTS)
    contenders = [quote for quote in quotes if quote.amount_out >= threshold]
    return max(contenders, key=lambda quote: (quote.liquidity, quote.amount_out, quote.dex))
