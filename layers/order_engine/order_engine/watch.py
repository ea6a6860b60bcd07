"""Release orders at rest when their condition is met; expire those whose time has passed.

One tick serves every resting order: it asks each venue once for the price of each pair that has
limit orders, and lets Postgres find the orders whose limit that price meets. Releasing is one
guarded statement that skips rows another tick holds, so ticks may overlap or die half-way: what
was released without being started is started by the reconciler.
"""

import logging
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from decimal import Decimal
from typing import Any

from order_engine.errors import ExecutionNotStarted, OutcomeUnknown, Retryable
from order_engine.lifecycle import stream_outbox
from order_engine.orders import Order, Quote
from order_engine.orders import Venue as VenueName
from order_engine.ports import EventStream, ExecutionStarter, RestingOrders, Venue
from order_engine.transitions import MoveResult, Pace, PairDemand, VenuePrice

logger = logging.getLogger(__name__)

PARALLEL_STARTS = 16
EXPIRIES_PER_TICK = 500


@dataclass(slots=True)
class TickReport:
    """Count what one tick did."""

    pairs: int = 0
    quotes: int = 0
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
        pairs = self._pace.affordable(self._orders.resting_pairs())
        for pair in pairs:
            report.pairs += 1
            prices = self._prices(pair, report)
            if room > 0 and prices:
                released = self._orders.release_limits(pair, prices, room)
                room -= len(released)
                self._start_all(released, report)
        return report

    def pool_created(self, token: str) -> TickReport:
        """Release the sniper orders that wait for this token, at once."""
        report = TickReport()
        for pair in self._orders.sniped_pairs():
            if token in (pair.token_in, pair.token_out):
                self._snipe(pair, report)
        return report

    def _snipe(self, pair: PairDemand, report: TickReport) -> None:
        prices = self._prices(pair, report)
        if prices:
            self._start_all(self._orders.release_snipers(pair, prices), report)

    def _prices(self, pair: PairDemand, report: TickReport) -> list[VenuePrice]:
        """Ask every venue once, at the pair's smallest resting size: its best price."""
        prices = []
        for name, venue in self._venues.items():
            report.quotes += 1
            try:
                answer = venue.quote(
                    {
                        "action": "quote",
                        "tokenIn": pair.token_in,
                        "tokenOut": pair.token_out,
                        "amountIn": str(pair.smallest_amount_in),
                    }
                )
            except (Retryable, OutcomeUnknown):
                logger.warning("no price this tick", extra={"venue": name})
                continue
            if answer["outcome"] == "quoted":
                quote = Quote.model_validate(answer["quote"])
                prices.append(venue_price(name, quote, pair.smallest_amount_in))
        return prices

    def _start_all(self, released: Sequence[MoveResult], report: TickReport) -> None:
        orders = self._stream_all(released)
        report.released += len(orders)
        report.order_ids.extend(order.order_id for order in orders)
        with ThreadPoolExecutor(PARALLEL_STARTS) as pool:
            report.left_to_reconciler += sum(not ok for ok in pool.map(self._start, orders))

    def _stream_all(self, moves: Iterable[MoveResult]) -> list[Order]:
        orders = []
        for move in moves:
            stream_outbox(self._orders, self._stream, move.unstreamed)
            if move.order is not None:
                orders.append(move.order)
        return orders

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
