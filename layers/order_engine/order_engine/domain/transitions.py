"""A change of an order's state as a value, and what came of it."""

from dataclasses import dataclass
from decimal import Decimal
from enum import Enum

from order_engine.domain.changes import Change
from order_engine.domain.events import OrderEvent
from order_engine.domain.failures import Failure
from order_engine.domain.orders import Order, OrderTerms, Resolution
from order_engine.domain.statuses import OrderStatus, sources_of


def execution_name(order_id: str, generation: int) -> str:
    """Name the execution: the order's id, then ``<id>-<generation>`` for a restart."""
    return order_id if generation == 0 else f"{order_id}-{generation}"


@dataclass(frozen=True, slots=True)
class NewOrder:
    """State an order to be stored; ``rests``: it waits for its condition, not for its turn."""

    order_id: str
    terms: OrderTerms
    idempotency_key: str | None
    terms_digest: str
    rests: bool = False


@dataclass(frozen=True, slots=True)
class IntakeLimits:
    """Say how many orders are taken in; None does not limit.

    ``waiting_per_user`` and ``open_per_user``: orders of one user that wait for their turn, and
    that are at rest. ``burst`` orders of all users together within ``burst_seconds``.
    """

    waiting_per_user: int | None = None
    open_per_user: int | None = None
    burst: int | None = None
    burst_seconds: float = 1.0


class IntakeLimit(Enum):
    """Name the limit that an order was refused for."""

    WAITING_PER_USER = "waiting_per_user"
    OPEN_PER_USER = "open_per_user"
    ORDERS_PER_SECOND = "orders_per_second"


@dataclass(frozen=True, slots=True)
class Refusal:
    """Tell that an order was not stored; ``retry_after_seconds`` where the wait is known."""

    limit: IntakeLimit
    retry_after_seconds: float | None = None


@dataclass(frozen=True, slots=True)
class Storage:
    """Tell what storing an order came to; ``created`` is false for one stored before.

    ``unstreamed``: the events it began with, when it was created.
    """

    order: Order
    created: bool
    terms_digest: str
    idempotency_key: str | None = None
    unstreamed: tuple[OrderEvent, ...] = ()


@dataclass(frozen=True, slots=True)
class Claimed:
    """Name an order that was given a slot, and the execution that is to be started for it."""

    order_id: str
    execution: str


class Guard(Enum):
    """Say which execution may carry out a transition.

    ``CLAIM``: the order's current execution, once, as its first act.
    ``ATTEMPT``: the order's current execution, at the attempt it names.
    ``ANYONE``: whoever asks (the owner's cancel, the watch, the reconciler).
    """

    CLAIM = "claim"
    ATTEMPT = "attempt"
    ANYONE = "anyone"


@dataclass(frozen=True, slots=True)
class Transition:
    """State who makes which change of an order, and what must hold for it.

    ``execution`` and ``attempt`` are what ``guard`` compares with the order's own.
    """

    order_id: str
    change: Change
    guard: Guard
    execution: str | None = None
    attempt: int | None = None

    @property
    def target(self) -> OrderStatus:
        """Return the status that the order enters."""
        return self.change.target

    @property
    def allowed_sources(self) -> frozenset[OrderStatus]:
        """Return the statuses the order may be in: the table's, or fewer."""
        allowed, sources = sources_of(self.target), self.change.sources
        return allowed if sources is None else allowed & sources


@dataclass(frozen=True, slots=True)
class MoveResult:
    """Tell what a transition came to.

    ``moved``: it was carried out now. ``replayed``: the same transition was carried out before
    (a retried call). Neither: the order, as it stands in ``order``, did not allow it.
    ``freed_slot``: it held a slot and holds it no more; ``next_in_slot`` was given it.
    """

    order: Order | None
    moved: bool = False
    replayed: bool = False
    unstreamed: tuple[OrderEvent, ...] = ()
    freed_slot: bool = False
    next_in_slot: Claimed | None = None

    @property
    def done(self) -> bool:
        """Tell whether the order has gone through the transition, now or before."""
        return self.moved or self.replayed


@dataclass(frozen=True, slots=True)
class FailedAttempt:
    """Record that an attempt failed while the order stays where it is, waiting for the next.

    ``counts``: it is held against the order's ``max_retries``.
    """

    order_id: str
    execution: str
    attempt: int
    failure: Failure
    resolution: Resolution | None = None
    counts: bool = True


@dataclass(frozen=True, slots=True)
class PairDemand:
    """Name a pair that orders at rest wait for, with the smallest of their sizes."""

    token_in: str
    token_out: str
    smallest_amount_in: Decimal


@dataclass(frozen=True, slots=True)
class VenuePrice:
    """State a venue's net price for ``amount_in``, and what makes it worse for more.

    ``impact`` is the price impact of that size as a fraction. It grows about linearly with the
    size, which is enough to choose whom to release: the execution's own quotes decide.
    ``liquidity`` is the pool's value in tokenOut.
    """

    venue: str
    price: Decimal
    amount_in: Decimal
    impact: Decimal
    liquidity: Decimal
