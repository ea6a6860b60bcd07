"""Release orders at rest when their condition is met; expire those whose time has passed.

One tick serves every resting order: it asks each venue once for the price of each pair that orders
wait for, and lets Postgres find the orders whose condition that price meets. Releasing is one
guarded statement that skips rows another tick holds, so ticks may overlap or die half-way. What is
released waits for its turn like every other order; a tick also starts what waits while slots are
free, for those whose handing on was lost.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from order_engine.domain.orders import Order, OrderType, VenueName
from order_engine.domain.transitions import Claimed, MoveResult, PairDemand, VenuePrice
from order_engine.domain.types import order_types
from order_engine.execution.outbox import stream_outbox
from order_engine.execution.ports import EventStream, RestingOrders
from order_engine.execution.resting.offers import FineSizes, Offers
from order_engine.execution.resting.pace import Pace, in_turn
from order_engine.execution.turns import Starts, Turns
from order_engine.measures import Measure
from order_engine.venues.contract import Venue

EXPIRIES_PER_TICK = 500


@dataclass(frozen=True, slots=True)
class TickReport:
    """Count what one tick did."""

    pairs: int
    quotes: int
    asked_again: int
    released: int
    expired: int
    started: int
    left_to_next_tick: int
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


class Watch:
    """Look after the orders at rest."""

    def __init__(
        self,
        orders: RestingOrders,
        stream: EventStream,
        turns: Turns,
        venues: Mapping[VenueName, Venue],
        pace: Pace,
    ) -> None:
        self._orders = orders
        self._stream = stream
        self._turns = turns
        self._venues = venues
        self._pace = pace
        self._fine_sizes: FineSizes = {}

    def tick(self) -> TickReport:
        """Expire what is past, release what is met, start what waits.

        Urgent orders go first: there are few, and their moment does not come again.
        """
        expired = self._orders.expire_due(EXPIRIES_PER_TICK)
        self._stream_all(expired)
        urgent, others = self._demands(is_urgent=True), self._demands(is_urgent=False)
        turn = self._pace.rotation()
        most = self._pace.pairs_per_tick(len(self._venues))
        first, rest = self._pace.shares(len(urgent), len(others), most=most, turn=turn)
        now_urgent, now_others = in_turn(urgent, first, turn), in_turn(others, rest, turn)
        offers = self._offers(len(now_urgent) + len(now_others))
        starts = Starts()
        released = self._snipe(now_urgent, offers, starts)
        priced = [(demand, prices) for demand in now_others if (prices := offers.of(demand.pair))]
        released += self._stream_and_start(
            self._release(priced, self._pace.releases_per_tick), starts
        )
        starts.add(self._turns.start_waiting())
        self._orders.write_notes()
        return _report(len(now_others), offers, released, starts, len(expired))

    def pool_created(self, token: str) -> TickReport:
        """Release the orders that wait for a pool of this token, at once."""
        waiting = [
            demand
            for demand in self._demands(is_urgent=True)
            if token in (demand.pair.token_in, demand.pair.token_out)
        ]
        most = self._pace.pairs_per_tick(len(self._venues))
        served = in_turn(waiting, most, self._pace.rotation())
        offers = self._offers(len(served))
        starts = Starts()
        released = self._snipe(served, offers, starts)
        self._orders.write_notes()
        return _report(0, offers, released, starts, expired=0)

    def _offers(self, pairs: int) -> Offers:
        spare = self._pace.quotes_per_tick - pairs * len(self._venues)
        return Offers(self._venues, self._fine_sizes, max(0, spare))

    def _demands(self, *, is_urgent: bool) -> list[_Demand]:
        return [
            _Demand(rules.name, pair)
            for rules in order_types()
            if rules.rests and rules.is_urgent is is_urgent
            for pair in self._orders.pairs_at_rest(rules.name)
        ]

    def _snipe(self, demands: Sequence[_Demand], offers: Offers, starts: Starts) -> list[Order]:
        """Release all whose condition is met, and start them before the next pair is asked for."""
        released: list[Order] = []
        for demand in demands:
            prices = offers.of(demand.pair)
            moves = self._orders.release(demand.order_type, demand.pair, prices) if prices else []
            if moves:
                released += self._stream_and_start(moves, starts)
                starts.add(self._turns.start_waiting())
        return released

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

    def _stream_and_start(self, moves: Sequence[MoveResult], starts: Starts) -> list[Order]:
        """Stream the events; start those that have a slot: without a number of slots, all."""
        orders = self._stream_all(moves)
        in_slots = [order for order in orders if order.started_at is not None]
        starts.add(
            self._turns.start_all([Claimed(order.order_id, order.execution) for order in in_slots])
        )
        return orders

    def _stream_all(self, moves: Sequence[MoveResult]) -> list[Order]:
        """Stream the events of all the orders together: one by one a burst would outlast a tick."""
        events = [event for move in moves for event in move.unstreamed]
        stream_outbox(self._orders, self._stream, events)
        return [move.order for move in moves if move.order is not None]


def _report(
    pairs: int, offers: Offers, released: Sequence[Order], starts: Starts, expired: int
) -> TickReport:
    return TickReport(
        pairs=pairs,
        quotes=offers.quotes,
        asked_again=offers.asked_again,
        released=len(released),
        expired=expired,
        started=starts.started,
        left_to_next_tick=starts.left,
        order_ids=[order.order_id for order in released],
    )
