"""The engine's services on the orders and stand-ins of a test."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from tests.support.postgres import Orders

from order_engine.clock import SystemClock
from order_engine.domain.events import OrderEvent
from order_engine.execution.lifecycle import Lifecycle
from order_engine.execution.moves import Moves
from order_engine.execution.ports import EventStream, ExecutionStarter
from order_engine.execution.turns import Turns


@dataclass
class Streamed:
    """Keep the events that were streamed."""

    events: list[OrderEvent] = field(default_factory=list)

    def append(self, events: Sequence[OrderEvent]) -> None:
        self.events.extend(events)


class StartsNothing:
    """Take every start and do nothing."""

    def start(self, order_id: str, execution: str) -> None:
        pass


def moves_of(
    orders: Orders, stream: EventStream, executions: ExecutionStarter | None = None
) -> Moves:
    """Return what moves these orders."""
    return Moves(orders, stream, Turns(orders, executions or StartsNothing()))


def lifecycle_of(
    orders: Orders, stream: EventStream, executions: ExecutionStarter | None = None
) -> Lifecycle:
    """Return the lifecycle of these orders."""
    return Lifecycle(orders, moves_of(orders, stream, executions), SystemClock())
