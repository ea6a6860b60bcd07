"""The order stream's rows as values: what ``websocket`` writes and ``publish`` delivers."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from enum import Enum, auto
from typing import Any

TICKET_LIFETIME = timedelta(seconds=60)


@dataclass(frozen=True, slots=True)
class Ticket:
    """Say who may open a stream, and of which order when it is bound to one."""

    user_id: str
    order_id: str | None = None


@dataclass(frozen=True, slots=True)
class Connection:
    """Tell who has connected.

    ``user_id`` is empty for a nameless client of an open stack. ``order_id`` is set when the
    connection was opened with a ticket of one order: it may see that order and nothing else.
    """

    connection_id: str
    user_id: str = ""
    order_id: str | None = None


@dataclass(frozen=True, slots=True)
class Topic:
    """Name what a subscription listens to: one order, or all orders of a user."""

    order_id: str | None = None
    user_id: str | None = None

    @property
    def partition_key(self) -> str:
        """Return the partition under which the subscription's row is."""
        return f"order#{self.order_id}" if self.order_id is not None else f"user#{self.user_id}"


class SubscriptionOutcome(Enum):
    """Tell what came of a request to subscribe."""

    SUBSCRIBED = auto()
    CONNECTION_UNKNOWN = auto()
    TOO_MANY = auto()


@dataclass(frozen=True, slots=True)
class Subscription:
    """Show a subscription as it is stored.

    ``greeting`` is the JSON message that goes out before anything else, ``None`` once it has gone
    out. ``connecting_since_ms`` is set for a row written by ``$connect``: until the handshake is
    over, the connection cannot be posted to. ``failing_since_ms`` is when posts began to time out.
    ``replayed`` tells, of a subscription to all orders of a user, how far each order had been sent
    when the subscription began.
    """

    partition_key: str
    connection_id: str
    subscription_id: str
    after_seq: int = 0
    greeting: str | None = None
    connecting_since_ms: int | None = None
    failing_since_ms: int | None = None
    replayed: Mapping[str, int] = field(default_factory=dict)

    @property
    def is_of_user(self) -> bool:
        """Tell whether it is to all orders of a user."""
        return self.partition_key.startswith("user#")


@dataclass(frozen=True, slots=True)
class StoredEvent:
    """Carry an event as its subscribers get it."""

    seq: int
    body: str
    timestamp: str | None = None


@dataclass(frozen=True, slots=True)
class OrderRows:
    """Show what the stream holds about one order.

    ``cursors`` maps subscription ids to the highest ``seq`` known to be delivered; it may lag
    behind, never run ahead. ``wake_keys`` are the sort keys of rows that only woke ``publish``.
    ``events`` may be those of a batch only, for subscribers who have got all that came before.
    """

    order_id: str
    user_id: str | None = None
    events: Mapping[int, StoredEvent] = field(default_factory=dict)
    subscriptions: tuple[Subscription, ...] = ()
    cursors: Mapping[str, int] = field(default_factory=dict)
    wake_keys: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class UserRows:
    """Show the subscriptions to all orders of a user."""

    user_id: str
    subscriptions: tuple[Subscription, ...] = ()
    wake_keys: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Listeners:
    """Show who listens to one order, and the sort keys of rows that only woke ``publish``."""

    subscriptions: tuple[Subscription, ...] = ()
    wake_keys: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class OrderLook:
    """Tell what a look at an order finds, without its events.

    ``listened_ms`` is when somebody last began to listen to it, ``None`` when nobody does.
    ``has_more`` tells whether the event after the last known one is written already.
    """

    listened_ms: int | None = None
    cursors: Mapping[str, int] = field(default_factory=dict)
    has_more: bool = False


@dataclass(frozen=True, slots=True)
class Looks:
    """Tell what one look at many orders and users finds.

    ``users`` has the users whose orders somebody listens to, with when one last began to.
    """

    orders: Mapping[str, OrderLook] = field(default_factory=dict)
    users: Mapping[str, int] = field(default_factory=dict)


def subscribed_message(topic: Topic, after_seq: int, request_id: Any = None) -> dict[str, Any]:
    """Return the message that opens a subscription."""
    message: dict[str, Any] = {"type": "subscribed"}
    if topic.order_id is not None:
        message |= {"orderId": topic.order_id, "afterSeq": after_seq}
    else:
        message |= {"userId": topic.user_id}
    if request_id is not None:
        message["requestId"] = request_id
    return message
