"""What publishing needs from the outside, as protocols."""

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from enum import Enum, auto
from typing import Protocol

from order_engine.streaming.rows import Listeners, Looks, OrderRows, Subscription, UserRows


class PostOutcome(Enum):
    """Tell what came of a call to the connection management API."""

    DELIVERED = auto()
    GONE = auto()
    TIMED_OUT = auto()
    UNAVAILABLE = auto()
    REFUSED = auto()


class ConnectionGateway(Protocol):
    """Reach connected clients; one try per call, and a short one."""

    def post(self, connection_id: str, message: str) -> PostOutcome:
        """Send a message."""
        ...

    def disconnect(self, connection_id: str) -> PostOutcome:
        """Close the connection."""
        ...


class Rows(Protocol):
    """Read and keep the order stream's rows; every method may raise ``StreamUnavailable``."""

    def look(self, last_seqs: Mapping[str, int], user_ids: Collection[str]) -> Looks:
        """Find out in one read whether anybody listens to orders and users.

        ``last_seqs`` has, for each order, the last event that is known.
        """
        ...

    def order_rows(self, order_id: str) -> OrderRows:
        """Read all about an order."""
        ...

    def order_listeners(self, order_id: str) -> Listeners:
        """Read the subscriptions to an order, and none of its events."""
        ...

    def user_rows(self, user_id: str) -> UserRows:
        """Read the subscriptions to a user's orders."""
        ...

    def recent_orders(self, user_id: str, limit: int) -> list[str]:
        """Return a user's newest orders, oldest first."""
        ...

    def mark_greeted(
        self, subscription: Subscription, after_seq: int, replayed: Mapping[str, int] | None = None
    ) -> None:
        """Note that the greeting and the events up to ``after_seq`` have gone out.

        ``replayed`` is how far a user's orders have been sent at the subscription's beginning.
        """
        ...

    def mark_failing(self, subscription: Subscription, now: datetime) -> None:
        """Note since when posts time out."""
        ...

    def mark_reachable(self, subscription: Subscription) -> None:
        """Take that note back."""
        ...

    def remove_subscription(self, subscription: Subscription) -> None:
        """Delete one subscription."""
        ...

    def forget_listened(self, partition_key: str, listened_ms: int) -> None:
        """Note that nobody listens any more, unless somebody began to after ``listened_ms``."""
        ...

    def forget_connection(self, connection_id: str) -> int:
        """Delete all rows of a connection."""
        ...

    def wake_again(self, wakes: Sequence[tuple[str, str]], now: datetime) -> None:
        """Have (partition key, connection id) pairs come as records once more."""
        ...

    def remove_wakes(self, keys: Sequence[tuple[str, str]]) -> None:
        """Delete rows of ``wake_again``, by partition and sort key."""
        ...

    def save_cursors(self, cursors: Mapping[str, Mapping[str, int]], now: datetime) -> None:
        """Write down cursors by order and subscription id, in place of the order's last ones."""
        ...
