"""What venues would pay for the pairs that orders wait for.

The price is asked at the pair's smallest resting size, but never at a sliver of the pool: there,
rounding to base units would hide the price from every other order of the pair.
"""

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import ROUND_UP, Decimal

from order_engine.domain.orders import Quote, VenueName
from order_engine.domain.tokens import TOKENS
from order_engine.domain.transitions import PairDemand, VenuePrice
from order_engine.errors import OutcomeUnknown, Retryable
from order_engine.venues.contract import NoRoute, QuoteAnswer, Quoted, QuoteRequest, Venue

logger = logging.getLogger(__name__)

FINE_SHARE = Decimal("0.00001")
"""A size of at least this share of the pool tells price and impact exactly enough."""
FIRST_FINE_SIZE = Decimal(1)
"""Tokens to ask with when the smallest size buys nothing and the pool is not known yet."""

type FineSizes = dict[tuple[VenueName, str, str], Decimal]


@dataclass(slots=True)
class Offers:
    """Ask every venue for its price, within the quotes that one tick has to spare.

    ``fine_sizes`` outlives the tick: what was exact enough is asked with the next time.
    """

    venues: Mapping[VenueName, Venue]
    fine_sizes: FineSizes
    spare_quotes: int
    quotes: int = 0
    asked_again: int = 0

    def of(self, pair: PairDemand) -> list[VenuePrice]:
        """Return the price of each venue that has one."""
        prices = []
        for name, venue in self.venues.items():
            try:
                price = self._price(pair, name, venue)
            except (Retryable, OutcomeUnknown):
                logger.warning("no price this tick", extra={"venue": name})
                continue
            if price is not None:
                prices.append(price)
        return prices

    def _price(self, pair: PairDemand, name: VenueName, venue: Venue) -> VenuePrice | None:
        """Ask once; a second time when the size turns out far too small, if quotes are left."""
        key = (name, pair.token_in, pair.token_out)
        size = max(pair.smallest_amount_in, self.fine_sizes.get(key, Decimal(0)))
        answer = self._ask(pair, size, venue)
        if isinstance(answer, NoRoute):
            return None
        price = _price_in(answer, name, size)
        fine_size = self.fine_sizes[key] = _fine_size(price, pair.token_in)
        if 2 * size >= fine_size or not self.spare_quotes:
            return price
        self.spare_quotes -= 1
        self.asked_again += 1
        return _price_in(self._ask(pair, fine_size, venue), name, fine_size) or price

    def _ask(self, pair: PairDemand, size: Decimal, venue: Venue) -> QuoteAnswer:
        self.quotes += 1
        return venue.quote(
            QuoteRequest(token_in=pair.token_in, token_out=pair.token_out, amount_in=size)
        )


def venue_price(name: VenueName, quote: Quote, amount_in: Decimal) -> VenuePrice:
    """Return what a quote says of a venue: its price at this size and how it falls with size."""
    return VenuePrice(
        venue=name,
        price=quote.price,
        amount_in=amount_in,
        impact=min(quote.price_impact_pct / 100, Decimal("0.99")),
        liquidity=quote.liquidity,
    )


def _price_in(answer: QuoteAnswer, name: VenueName, size: Decimal) -> VenuePrice | None:
    return venue_price(name, answer.quote, size) if isinstance(answer, Quoted) else None


def _fine_size(price: VenuePrice | None, token: str) -> Decimal:
    """Return the least size to ask with, given what the last answer told of the pool."""
    if price is None or not price.price:
        return FIRST_FINE_SIZE
    unit = Decimal(1).scaleb(-TOKENS[token].decimals)
    return (price.liquidity / price.price * FINE_SHARE).quantize(unit, ROUND_UP)
