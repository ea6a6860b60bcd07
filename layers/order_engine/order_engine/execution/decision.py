"""Which venue gets the order, and what must come out at least."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal

from order_engine.domain.failures import Failure, FailureCode
from order_engine.domain.money import decimal_text, from_base_units, minimum_out, to_base_units
from order_engine.domain.orders import ExecutionTerms
from order_engine.domain.routing import best_quote
from order_engine.domain.tokens import TOKENS
from order_engine.domain.types import rules_of
from order_engine.venues.contract import AnyQuoteAnswer, Quoted, Unavailable, VenueQuote

FAILURE_CODES: Mapping[str, FailureCode] = {
    "unavailable": FailureCode.VENUE_UNAVAILABLE,
    "venue_rejected": FailureCode.VENUE_REJECTED,
    "insufficient_liquidity": FailureCode.INSUFFICIENT_LIQUIDITY,
    "no_route": FailureCode.NO_ROUTE,
    "expired": FailureCode.TX_EXPIRED,
}
"""What an outcome means for the attempt; of several venues', the first in this order."""


@dataclass(frozen=True, slots=True)
class Choice:
    """Name the best of the quotes, and the least output (tokenOut) that the swap may give."""

    quotes: tuple[VenueQuote, ...]
    best: VenueQuote
    min_amount_out: Decimal


def choose(
    terms: ExecutionTerms, answers: Sequence[AnyQuoteAnswer], attempt: int, now: datetime
) -> Choice | Failure:
    """Return the choice, or why there is none.

    ``LIMIT_NOT_MET`` when there are quotes, and none that the order's terms allow.
    """
    answers = [_unless_past(answer, now) for answer in answers]
    quotes = tuple(answer.quote for answer in answers if isinstance(answer, Quoted))
    if not quotes:
        return _why_no_quote(answers, attempt)
    rules = rules_of(terms.type)
    admitted = [quote for quote in quotes if rules.admits(terms, quote)]
    if not admitted:
        return Failure.of(FailureCode.LIMIT_NOT_MET, "no pool of the kind wanted", attempt)
    # A near-tie goes to the deeper pool; should that one miss the bound, the best price decides.
    for best in (best_quote(admitted), max(admitted, key=lambda quote: quote.amount_out)):
        least = minimum_amount_out(terms, best.amount_out)
        if best.amount_out >= least:
            return Choice(quotes, best, least)
    detail = f"the best venue pays {decimal_text(best.price)} per {terms.token_in}"
    return Failure.of(FailureCode.LIMIT_NOT_MET, detail, attempt)


def minimum_amount_out(terms: ExecutionTerms, quoted_amount_out: Decimal) -> Decimal:
    """Return the least acceptable output, in units of ``token_out``.

    The stricter of the slippage tolerance on the quote and of what the order's type demands.
    """
    decimals = TOKENS[terms.token_out].decimals
    tolerated = minimum_out(to_base_units(quoted_amount_out, decimals), terms.slippage_bps)
    return from_base_units(max(tolerated, rules_of(terms.type).least_amount_out(terms)), decimals)


def _unless_past(answer: AnyQuoteAnswer, now: datetime) -> AnyQuoteAnswer:
    if isinstance(answer, Quoted) and answer.quote.is_past(now):
        return Unavailable(detail=f"{answer.quote.dex}'s quote has expired")
    return answer


def _why_no_quote(answers: Sequence[AnyQuoteAnswer], attempt: int) -> Failure:
    outcomes = {answer.outcome for answer in answers}
    detail = "; ".join(answer.detail for answer in answers if not isinstance(answer, Quoted))
    code = next(
        (FAILURE_CODES[outcome] for outcome in FAILURE_CODES if outcome in outcomes),
        FailureCode.NO_ROUTE,
    )
    return Failure.of(code, detail, attempt)
