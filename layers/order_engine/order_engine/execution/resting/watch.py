"""Release orders at rest when their condition is met; expire those whose time has passed.

One tick serves every resting order: it asks each venue once for the price of each pair that orders
wait for, and lets Postgres find the orders whose condition that price meets. Releasing is one
guarded statement that skips rows another tick holds, so ticks may overlap or die half-way: what
was released without being started is started by the reconciler.
"""

import logging
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from typing import Any

from order_engine.domain.orders import Order, OrderType, VenueName
from order_engine.domain.transitions import MoveResult, PairDemand, VenuePrice
from order_engine.domain.types import order_types
from order_engine.errors import ExecutionNotStarted
from order_engine.execution.outbox import stream_outbox
from order_engine.execution.ports import EventStream, ExecutionStarter, RestingOrders
from order_engine.execution.resting.offers import FineSizes, Offers
from order_engine.execution.resting.pace import Pace, in_turn
from order_engine.measures import Measure
from order_engine.venues.contract import Venue

logger = logging.getLogger(__name__)

PARALLEL_STARTS = 16
EXPIRIES_PER_TICK = 500


@dataclass(frozen=True, slots=True)
class TickReport:
    """Count what one tick did."""

    pairs: int
    quotes: int
    asked_again: int
    released: int
    expired: int
    left_to_reconciler: int
    order_ids: list[str]

    def to_json_dict(self) -> dict[str, Any]:
        """Return the counts for the log."""
        return asdict(self)

    def measures(self) -> list[Measure]:
        """Return the counts as metrics."""
        return [Measure("OrdersReleased", self.released), Measure("OrdersExpired", self.expired)]


@dataclass(frozen=True, slots=True)
class _Demand:
    """Orders of one type that wait for one pair."""

    order_type: OrderType
    pair: PairDemand


@dataclass(frozen=True, slots=True)
class _Started:
    order_ids: list[str]
    left_to_reconciler: int


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
        self._fine_sizes: FineSizes = {}

    def tick(self) -> TickReport:
        """Expire what is past, release what is met.

        Sniper orders go first and are not paced: there are few, and their moment does not come
        again. Limit orders are released as fast as the pace allows, so that a thousand of them
        leave the venues room for market orders.
        """
        expired = self._orders.expire_due(EXPIRIES_PER_TICK)
        self._stream_all(expired)
        urgent, paced = self._demands(is_paced=False), self._demands(is_paced=True)
        turn = self._pace.rotation()
        most = self._pace.pairs_per_tick(len(self._venues))
        first, rest = self._pace.shares(len(urgent), len(paced), most=most, turn=turn)
        now_urgent, now_paced = in_turn(urgent, first, turn), in_turn(paced, rest, turn)
        offers = self._offers(len(now_urgent) + len(now_paced))
        started = self._snipe(now_urgent, offers)
        room = self._pace.room(self._orders.in_flight(self._types(is_paced=True)))
        priced = [(demand, prices) for demand in now_paced if (prices := offers.of(demand.pair))]
        started.append(self._start_all(self._release(priced, room)))
        return _report(len(now_paced), offers, started, len(expired))

    def pool_created(self, token: str) -> TickReport:
        """Release the orders that wait for a pool of this token, at once."""
        waiting = [
            demand
            for demand in self._demands(is_paced=False)
            if token in (demand.pair.token_in, demand.pair.token_out)
        ]
        most = self._pace.pairs_per_tick(len(self._venues))
        served = in_turn(waiting, most, self._pace.rotation())
        offers = self._offers(len(served))
        return _report(0, offers, self._snipe(served, offers), expired=0)

    def _offers(self, pairs: int) -> Offers:
        spare = self._pace.quotes_per_tick - pairs * len(self._venues)
        return Offers(self._venues, self._fine_sizes, max(0, spare))

    def _types(self, *, is_paced: bool) -> list[OrderType]:
        return [rules.name for rules in order_types() if rules.rests and rules.is_paced is is_paced]

    def _demands(self, *, is_paced: bool) -> list[_Demand]:
        return [
            _Demand(order_type, pair)
            for order_type in self._types(is_paced=is_paced)
            for pair in self._orders.pairs_at_rest(order_type)
        ]

    def _snipe(self, demands: Sequence[_Demand], offers: Offers) -> list[_Started]:
        """Release all whose condition is met, and start them before the next pair is asked for."""
        return [
            self._start_all(self._orders.release(demand.order_type, demand.pair, prices))
            for demand in demands
            if (prices := offers.of(demand.pair))
        ]

    def _release(
        self, priced: Sequence[tuple[_Demand, list[VenuePrice]]], room: int
    ) -> list[MoveResult]:
        """Share the room among the pairs; what one pair leaves, the others may take."""
        released: list[MoveResult] = []
        waiting = list(priced)
        while waiting and room > 0:
            share = max(1, room // len(waiting))
            turn, waiting = waiting[:room], waiting[room:]
            for demand, prices in turn:
                moves = self._orders.release(demand.order_type, demand.pair, prices, share)
                released += moves
                room -= len(moves)
                if len(moves) == share:
                    waiting.append((demand, prices))
        return released

    def _start_all(self, released: Sequence[MoveResult]) -> _Started:
        orders = self._stream_all(released)
        # The first start makes the client, which is not safe to make in several threads at once.
        started = [self._start(order) for order in orders[:1]]
        with ThreadPoolExecutor(PARALLEL_STARTS) as pool:
            started += pool.map(self._start, orders[1:])
        return _Started([order.order_id for order in orders], started.count(False))

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


def _report(pairs: int, offers: Offers, started: Sequence[_Started], expired: int) -> TickReport:
    order_ids = [order_id for some in started for order_id in some.order_ids]
    return TickReport(
        pairs=pairs,
        quotes=offers.quotes,
        asked_again=offers.asked_again,
        released=len(order_ids),
        expired=expired,
        left_to_reconciler=sum(some.left_to_reconciler for some in started),
        order_ids=order_ids,
    )
