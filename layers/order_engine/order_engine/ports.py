"""What the domain needs from the outside, as protocols."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Protocol

from order_engine.events import OrderEvent
from order_engine.orders import Order
from order_engine.transitions import FailedAttempt, MoveResult, NewOrder, Storage, Transition


class Clock(Protocol):
    """Tell the time."""

    def now(self) -> datetime:
        """Return the current time, aware, in UTC."""
        ...


class Venue(Protocol):
    """Trade at one exchange; all that a real Raydium or Meteora client would implement.

    Requests and answers are JSON-ready mappings. Expected outcomes are answers; technical trouble
    raises ``VenueUnavailable`` (nothing happened) or ``VenueTimeout`` (look it up).
    """

    def quote(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """Price a swap."""
        ...

    def build(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """Build and sign the swap's transaction."""
        ...

    def send(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """Send a signed transaction; sending the same signature again does nothing more."""
        ...

    def check(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """Look up what became of a signature."""
        ...


class OrderRepository(Protocol):
    """Keep orders and their events.

    Every method raises ``DatabaseUnavailable`` when the database cannot serve.
    """

    def insert(self, order: NewOrder) -> Storage:
        """Store a new order with its first event, or find the one stored under the same key."""
        ...

    def move(self, transition: Transition) -> MoveResult:
        """Carry out one guarded transition; the only way an order's state changes."""
        ...

    def resume_routing(
        self, order_id: str, execution: str, after_attempt: int | None
    ) -> Order | None:
        """Begin the next attempt of an order that is at ``routing`` already; no event."""
        ...

    def record_failed_attempt(self, failed: FailedAttempt) -> Order | None:
        """Note the failure of the current attempt, once; the status stays."""
        ...

    def get(self, order_id: str) -> Order | None:
        """Return an order."""
        ...

    def events_of(self, order_id: str) -> list[OrderEvent]:
        """Return an order's events in order."""
        ...

    def mark_streamed(self, events: Sequence[OrderEvent]) -> None:
        """Note that these events have reached the order stream."""
        ...


class EventStream(Protocol):
    """Hand committed events to the subscribers."""

    def append(self, events: Sequence[OrderEvent]) -> None:
        """Write events, in order; raise ``StreamUnavailable`` when they could not be written."""
        ...

    def announce(self, order: Order, events: Sequence[OrderEvent]) -> None:
        """Write a new order's owner and first events; raise ``StreamUnavailable``."""
        ...


class ExecutionStarter(Protocol):
    """Start the execution of an order."""

    def start(self, order_id: str, execution: str) -> None:
        """Start it; one that exists already is success. Raises ``ExecutionNotStarted``."""
        ...
