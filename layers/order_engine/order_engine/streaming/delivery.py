"""What one connection is to get in one invocation, and how far that came."""

from collections import deque
from dataclasses import dataclass, field
from datetime import datetime
from enum import Enum, auto

from order_engine.streaming.rows import OrderRows, StoredEvent, Subscription

HANDSHAKE_MS = 30_000
"""How long a connection may answer 410 because it is being opened: API Gateway gives ``$connect``
29 s, and the subscription is written before that is over."""

UNREACHABLE_MS = 10_000
"""How long posts to a connection may time out before it is closed."""


class Halt(Enum):
    """Say why posting to a connection stopped before all was sent."""

    GONE = auto()
    REFUSED = auto()
    TIMED_OUT = auto()
    NOT_REACHED = auto()


@dataclass(slots=True)
class Lane:
    """One order's events for one connection, however many of its subscriptions cover the order."""

    rows: OrderRows
    cursors: dict[str, int] = field(default_factory=dict)
    subscriptions: dict[str, Subscription] = field(default_factory=dict)
    origins: set[str] = field(default_factory=set)
    fresh: set[int] = field(default_factory=set)
    pending: tuple[StoredEvent, ...] = ()
    sent: int = 0

    def prepare(self) -> None:
        """Collect the events to send: all that follow the lowest cursor without a gap."""
        first = min(self.cursors.values()) + 1
        pending: list[StoredEvent] = []
        while (event := self.rows.events.get(first + len(pending))) is not None:
            pending.append(event)
        self.pending = tuple(pending)

    @property
    def finished(self) -> bool:
        """Tell whether all was sent."""
        return not self.pending or self.sent == self.pending[-1].seq


@dataclass(slots=True)
class Delivery:
    """What one connection is to get in one invocation, and how far that came.

    ``is_live`` tells that something has just happened for it: it was not only put off before.
    ``replayed`` has, by subscription to all orders of a user, how far orders of its beginning came.
    """

    connection_id: str
    lanes: dict[str, Lane] = field(default_factory=dict)
    greetings: dict[str, Subscription] = field(default_factory=dict)
    greeted: set[str] = field(default_factory=set)
    queue: deque[Lane] = field(default_factory=deque)
    halt: Halt | None = None
    is_open: bool = False
    is_live: bool = False
    posts: int = 0
    seconds: float = 0.0
    replayed: dict[str, dict[str, int]] = field(default_factory=dict)

    @property
    def subscriptions(self) -> dict[str, Subscription]:
        """Return the subscriptions that are served, by id."""
        found = dict(self.greetings)
        for lane in self.lanes.values():
            found |= lane.subscriptions
        return found

    @property
    def is_failing(self) -> bool:
        """Tell whether posts to it have timed out before."""
        return any(item.failing_since_ms is not None for item in self.subscriptions.values())

    @property
    def origins_left(self) -> set[str]:
        """Return the partitions to be woken again for what was not sent."""
        left = {
            subscription.partition_key
            for key, subscription in self.greetings.items()
            if key not in self.greeted
        }
        for lane in self.lanes.values():
            if not lane.finished:
                left |= lane.origins
        return left

    def may_be_connecting(self, now: datetime) -> bool:
        """Tell whether the handshake may not be over yet, so that 410 is no end."""
        if self.is_open:
            return False
        since = [item.connecting_since_ms for item in self.subscriptions.values()]
        return any(ms is not None and now.timestamp() * 1000 - ms < HANDSHAKE_MS for ms in since)

    def is_unreachable(self, now: datetime) -> bool:
        """Tell whether posts have timed out for so long that the connection is to be closed."""
        if self.halt is not Halt.TIMED_OUT:
            return False
        since = [item.failing_since_ms for item in self.subscriptions.values()]
        return any(ms is not None and now.timestamp() * 1000 - ms >= UNREACHABLE_MS for ms in since)
