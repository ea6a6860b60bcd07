"""Release orders at rest when their condition is met; expire those whose time has passed.

One tick serves every resting order: it asks each venue once for the price of each pair that has
limit orders, and lets Postgres find the orders whose limit that price meets. Releasing is one
guarded statement that skips rows another tick holds, so ticks may overlap or die half-way: what
was released without being started is started by the reconciler.

The price is asked at the pair's smallest resting size, but never at a sliver of the pool: there,
rounding to base units would hide the price from every other order of the pair.
"""

import logging
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from decimal import ROUND_UP, Decimal
from typing import Any

from order_engine.domain.money import decimal_text
from order_engine.domain.orders import Order, Quote
from order_engine.domain.orders import Venue as VenueName
from order_engine.domain.tokens import TOKENS
from order_engine.domain.transitions import MoveResult, Pace, PairDemand, VenuePrice
from order_engine.errors import ExecutionNotStarted, OutcomeUnknown, Retryable
from order_engine.execution.outbox import stream_outbox
from order_engine.execution.ports import EventStream, ExecutionStarter, RestingOrders
from order_engine.venues.contract import Venue

logger = logging.getLogger(__name__)

PARALLEL_STARTS = 16
EXPIRIES_PER_TICK = 500
FINE_SHARE = Decimal("0.00001")
"""A size of at least this share of the pool tells price and impact exactly enough."""
FIRST_FINE_SIZE = Decimal(1)
"""Tokens to ask with when the smallest size buys nothing and the pool is not known yet."""

Offer = tuple[PairDemand, list[VenuePrice]]


@dataclass(slots=True)
class TickReport:
    """Count what one tick did."""

    pairs: int = 0
    quotes: int = 0
    asked_again: int = 0
    released: int = 0
    expired: int = 0
    left_to_reconciler: int = 0
    order_ids: list[str] = field(default_factory=list)

    def to_json_dict(self) -> dict[str, Any]:
        """Return the counts for the log."""
        return asdict(self)


class Watch:
    """Look after the orders at rest."""

    def __init__(
        self,
        orders: RestingOrders,
        stream: EventStream,
        executions: ExecutionStarter,
        venues: Mapping[VenueName, Venue],
        pace: Pace,
    ) -> None:
        self._orders = orders
        self._stream = stream
        self._executions = executions
        self._venues = venues
        self._pace = pace
        self._fine_sizes: dict[tuple[VenueName, str, str], Decimal] = {}

    def tick(self) -> TickReport:
        """Expire what is past, release what is met.

        Sniper orders go first and are not paced: there are few, and their moment does not come
        again. Limit orders are released as fast as the pace allows, so that a thousand of them
        leave the venues room for market orders.
        """
        report = TickReport()
        expired = self._orders.expire_due(EXPIRIES_PER_TICK)
        self._stream_all(expired)
        report.expired = len(expired)
        for pair in self._orders.sniped_pairs():
            self._snipe(pair, report)
        room = self._pace.room(self._orders.in_flight())
        offers: list[Offer] = []
        pairs = self._pace.affordable(self._orders.resting_pairs())
        spare_quotes = self._pace.quotes_per_tick - len(pairs) * len(self._venues)
        for pair in pairs:
            report.pairs += 1
            prices = self._prices(pair, report, spare_quotes)
            if prices:
                offers.append((pair, prices))
        self._start_all(self._release(offers, room), report)
        return report

    def pool_created(self, token: str) -> TickReport:
        """Release the sniper orders that wait for this token, at once."""
        report = TickReport()
        for pair in self._orders.sniped_pairs():
            if token in (pair.token_in, pair.token_out):
                self._snipe(pair, report)
        return report

    def _snipe(self, pair: PairDemand, report: TickReport) -> None:
        prices = self._prices(pair, report, self._pace.quotes_per_tick)
        if prices:
            self._start_all(self._orders.release_snipers(pair, prices), report)

    def _release(self, offers: Sequence[Offer], room: int) -> list[MoveResult]:
        """Share the room among the pairs; what one pair leaves, the others may take."""
        released: list[MoveResult] = []
        waiting = list(offers)
        while waiting and room > 0:
            share = max(1, room // len(waiting))
            turn, waiting = waiting[:room], waiting[room:]
            for pair, prices in turn:
                moves = self._orders.release_limits(pair, prices, share)
                released += moves
                room -= len(moves)
                if len(moves) == share:
                    waiting.append((pair, prices))
        return released

    def _prices(self, pair: PairDemand, report: TickReport, spare_quotes: int) -> list[VenuePrice]:
        """Ask every venue for its best price."""
        prices = []
        for name, venue in self._venues.items():
            try:
                price = self._price(pair, name, venue, report, spare_quotes)
            except (Retryable, OutcomeUnknown):
                logger.warning("no price this tick", extra={"venue": name})
                continue
            if price is not None:
                prices.append(price)
        return prices

    def _price(
        self,
        pair: PairDemand,
        name: VenueName,
        venue: Venue,
        report: TickReport,
        spare_quotes: int,
    ) -> VenuePrice | None:
        """Ask once; a second time when the size turns out far too small, if quotes are left.

        What is exact enough is remembered for the next tick.
        """
        key = (name, pair.token_in, pair.token_out)
        size = max(pair.smallest_amount_in, self._fine_sizes.get(key, Decimal(0)))
        outcome, price = self._ask(pair, size, name, venue, report)
        if outcome == "no_route":
            return None
        fine_size = self._fine_sizes[key] = _fine_size(price, pair.token_in)
        if 2 * size >= fine_size or report.asked_again >= spare_quotes:
            return price
        report.asked_again += 1
        _, finer = self._ask(pair, fine_size, name, venue, report)
        return finer or price

    def _ask(
        self, pair: PairDemand, size: Decimal, name: VenueName, venue: Venue, report: TickReport
    ) -> tuple[str, VenuePrice | None]:
        report.quotes += 1
        answer = venue.quote(
            {
                "action": "quote",
                "tokenIn": pair.token_in,
                "tokenOut": pair.token_out,
                "amountIn": decimal_text(size),
            }
        )
        if answer["outcome"] != "quoted":
            return answer["outcome"], None
        return "quoted", venue_price(name, Quote.model_validate(answer["quote"]), size)

    def _start_all(self, released: Sequence[MoveResult], report: TickReport) -> None:
        orders = self._stream_all(released)
        report.released += len(orders)
        report.order_ids.extend(order.order_id for order in orders)
        # The first start makes the client, which is not safe to make in several threads at once.
        started = [self._start(order) for order in orders[:1]]
        with ThreadPoolExecutor(PARALLEL_STARTS) as pool:
            started += pool.map(self._start, orders[1:])
        report.left_to_reconciler += started.count(False)

    def _stream_all(self, moves: Sequence[MoveResult]) -> list[Order]:
        """Stream the events of all the orders together: one by one a burst would outlast a tick."""
        events = [event for move in moves for event in move.unstreamed]
        stream_outbox(self._orders, self._stream, events)
        return [move.order for move in moves if move.order is not None]

    def _start(self, order: Order) -> bool:
        try:
            self._executions.start(order.order_id, order.execution)
        except ExecutionNotStarted:
            logger.warning("start left to the reconciler", extra={"order_id": order.order_id})
            return False
        return True


def venue_price(name: VenueName, quote: Quote, amount_in: Decimal) -> VenuePrice:
    """Return what a quote says of a venue: its price at this size and how it falls with size."""
    return VenuePrice(
        venue=name,
        price=quote.price,
        amount_in=amount_in,
        impact=min(quote.price_impact_pct / 100, Decimal("0.99")),
        liquidity_in=quote.liquidity / quote.price if quote.price else Decimal(0),
    )


def _fine_size(price: VenuePrice | None, token: str) -> Decimal:
    """Return the least size to ask with, given what the last answer told of the pool."""
    if price is None:
        return FIRST_FINE_SIZE
    unit = Decimal(1).scaleb(-TOKENS[token].decimals)
    return (price.liquidity_in * FINE_SHARE).quantize(unit, ROUND_UP)
