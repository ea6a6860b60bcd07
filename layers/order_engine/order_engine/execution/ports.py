"""What the domain needs from the outside, as protocols."""

from collections.abc import Sequence
from datetime import timedelta
from enum import Enum
from typing import Protocol

from order_engine.domain.changes import Amendment
from order_engine.domain.events import OrderEvent
from order_engine.domain.orders import Order, OrderType
from order_engine.domain.transitions import (
    Claimed,
    FailedAttempt,
    IntakeLimits,
    MoveResult,
    NewOrder,
    PairDemand,
    Refusal,
    Storage,
    Transition,
    VenuePrice,
)


class OrderRepository(Protocol):
    """Keep orders and their events.

    Every method raises ``DatabaseUnavailable`` when the database cannot serve.
    """

    def insert(self, order: NewOrder, limits: IntakeLimits = IntakeLimits()) -> Storage | Refusal:
        """Store a new order with its first events, or find the one stored under the same key.

        A new order is refused when a limit is reached; one that was stored is found all the same.
        """
        ...

    def is_stored(self, user_id: str, idempotency_key: str) -> bool:
        """Tell whether the user has an order under this key."""
        ...

    def move(self, transition: Transition) -> MoveResult:
        """Carry out one guarded transition; the only way an order's state changes.

        A slot that it frees is given to the next waiting order, which the caller then starts.
        """
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

    def note_streamed(self, order_id: str, seq: int) -> None:
        """Remember that the order's events up to ``seq`` are streamed; written down later."""
        ...

    def write_notes(self) -> None:
        """Write down what is remembered of streamed events."""
        ...


class WaitingOrders(Protocol):
    """Hand out the slots to orders that wait for their turn."""

    def claim_next(self) -> Claimed | None:
        """Give a free slot, if there is one, to the order whose turn it is, if one waits."""
        ...

    def claim_unstarted(self, older_than: timedelta, limit: int) -> list[Claimed]:
        """Return orders that were given a slot so long ago and have not moved since.

        Nobody is given the same one again for the same length of time.
        """
        ...


class EventStream(Protocol):
    """Hand committed events to the subscribers."""

    def append(self, events: Sequence[OrderEvent]) -> None:
        """Write events, in order; raise ``StreamUnavailable`` when they could not be written."""
        ...


class ExecutionStarter(Protocol):
    """Start the execution of an order."""

    def start(self, order_id: str, execution: str) -> None:
        """Start it; one that exists already is success. Raises ``ExecutionNotStarted``."""
        ...


class ExecutionState(Enum):
    """Tell whether an execution is at work."""

    RUNNING = "running"
    ENDED = "ended"
    MISSING = "missing"


class ExecutionControl(ExecutionStarter, Protocol):
    """Start, watch and stop executions."""

    def state_of(self, execution: str) -> ExecutionState:
        """Return whether it runs; raises ``Retryable`` when that cannot be told."""
        ...

    def stop(self, execution: str) -> None:
        """Stop it if it runs; best effort, since the order's status fences it anyway."""
        ...


class ReconcilableOrders(OrderRepository, Protocol):
    """Find and take over orders that nobody works on."""

    def take_stale(
        self, older_than: timedelta, limit: int, order_id: str | None = None
    ) -> list[Order]:
        """Take up to ``limit`` orders in execution that have not moved for so long.

        A taken order is not taken again, by anyone, for the same length of time.
        """
        ...

    def restart(self, order_id: str, generation: int) -> Order | None:
        """Hand the order to its next execution; None when another reconciler did."""
        ...

    def outbox(self, older_than: timedelta, limit: int) -> list[list[OrderEvent]]:
        """Return committed events that the stream has not seen for so long, grouped by order."""
        ...


class AmendableOrders(Protocol):
    """Change the terms of orders that rest or wait."""

    def amend(self, order_id: str, amendment: Amendment) -> tuple[Order | None, bool]:
        """Return the order as it then stands, and whether it was changed: at rest, or waiting."""
        ...


class RestingOrders(OrderRepository, Protocol):
    """Find, release, expire and amend orders at rest."""

    def pairs_at_rest(self, order_type: OrderType) -> list[PairDemand]:
        """Return the pairs that orders of the type wait for, always in the same order."""
        ...

    def release(
        self,
        order_type: OrderType,
        pair: PairDemand,
        prices: Sequence[VenuePrice],
        limit: int | None = None,
    ) -> list[MoveResult]:
        """Release orders that a price meets, up to ``limit``: best limit first, then oldest."""
        ...

    def expire_due(self, limit: int) -> list[MoveResult]:
        """Expire up to ``limit`` orders at rest whose time has passed."""
        ...
