"""A change of an order's state as a value, and what came of it."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from enum import Enum
from typing import Any

from order_engine.domain.events import EventDetails, OrderEvent
from order_engine.domain.failures import Failure
from order_engine.domain.orders import Order, OrderTerms
from order_engine.domain.statuses import OrderStatus, sources_of


def execution_name(order_id: str, generation: int) -> str:
    """Name the execution: the order's id, then ``<id>-<generation>`` for a restart."""
    return order_id if generation == 0 else f"{order_id}-{generation}"


@dataclass(frozen=True, slots=True)
class NewOrder:
    """State an order to be stored."""

    order_id: str
    terms: OrderTerms
    idempotency_key: str | None
    terms_digest: str
    status: OrderStatus = OrderStatus.PENDING


@dataclass(frozen=True, slots=True)
class Storage:
    """Tell what storing an order came to; ``created`` is false for one stored before."""

    order: Order
    created: bool
    terms_digest: str
    idempotency_key: str | None = None


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
    """State one change of an order: to ``target``, with column values and event details.

    ``changes`` maps column names of ``orders`` to values. ``resolution`` settles the current
    transaction in the same change. ``next_attempt`` counts the attempt up.
    """

    order_id: str
    target: OrderStatus
    guard: Guard
    execution: str | None = None
    attempt: int | None = None
    next_attempt: bool = False
    sources: frozenset[OrderStatus] | None = None
    changes: Mapping[str, Any] = field(default_factory=dict)
    details: EventDetails = field(default_factory=EventDetails)

    @property
    def allowed_sources(self) -> frozenset[OrderStatus]:
        """Return the statuses the order may be in: the table's, or fewer."""
        allowed = sources_of(self.target)
        return allowed if self.sources is None else allowed & self.sources


@dataclass(frozen=True, slots=True)
class MoveResult:
    """Tell what a transition came to.

    ``moved``: it was carried out now. ``replayed``: the same transition was carried out before
    (a retried call). Neither: the order, as it stands in ``order``, did not allow it.
    """

    order: Order | None
    moved: bool = False
    replayed: bool = False
    unstreamed: tuple[OrderEvent, ...] = ()

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
    resolution: str | None = None
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
    ``liquidity_in`` is the pool's value in tokenIn.
    """

    venue: str
    price: Decimal
    amount_in: Decimal
    impact: Decimal
    liquidity_in: Decimal


@dataclass(frozen=True, slots=True)
class Pace:
    """Bound how fast resting orders are released, and how many quotes a tick asks for.

    ``rotation`` counts the ticks: by it, pairs take turns.
    """

    releases_per_tick: int = 50
    in_flight: int = 50
    quotes_per_tick: int = 20
    venues: int = 2
    rotation: Callable[[], int] = lambda: 0

    def room(self, in_flight: int) -> int:
        """Return how many limit orders may be released now."""
        return max(0, min(self.releases_per_tick, self.in_flight - in_flight))

    def affordable(self, pairs: Sequence[PairDemand]) -> list[PairDemand]:
        """Return the pairs whose turn it is; each is the first of them in its turn."""
        if not pairs:
            return []
        most = max(1, self.quotes_per_tick // self.venues)
        step = most if len(pairs) > most else 1
        start = self.rotation() * step % len(pairs)
        return [*pairs[start:], *pairs[:start]][:most]
