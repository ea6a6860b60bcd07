"""Move an order, and do what follows from it: tell its subscribers, hand its slot on."""

from dataclasses import dataclass

from order_engine.domain.transitions import MoveResult, Transition
from order_engine.execution.outbox import stream_outbox
from order_engine.execution.ports import EventStream, OrderRepository
from order_engine.execution.turns import Turns


@dataclass(frozen=True, slots=True)
class Moved:
    """Tell what a transition came to, and up to which event the order is known to be streamed."""

    result: MoveResult
    streamed_seq: int


class Moves:
    """Carry out transitions; everyone who moves an order does so here."""

    def __init__(self, orders: OrderRepository, stream: EventStream, turns: Turns) -> None:
        self._orders = orders
        self._stream = stream
        self._turns = turns

    def move(self, transition: Transition) -> Moved:
        """Carry out one guarded transition, stream its event, start who was given its slot.

        Raises ``DatabaseUnavailable``. A stream that is away holds nobody up.
        """
        result = self._orders.move(transition)
        is_streamed = stream_outbox(self._orders, self._stream, result.unstreamed)
        self._turns.hand_on(result)
        return Moved(result, result.order.seq if result.order and is_streamed else 0)
