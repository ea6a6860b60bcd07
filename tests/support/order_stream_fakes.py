"""An order stream, a clock and a connection management API in memory."""

import json
import threading
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor, Future
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any

from order_engine.errors import StreamUnavailable
from order_engine.streaming.ports import PostOutcome
from order_engine.streaming.rows import (
    Connection,
    OrderRows,
    StoredEvent,
    Subscription,
    SubscriptionOutcome,
    Ticket,
    Topic,
    UserRows,
    subscribed_message,
)

START = datetime(2026, 11, 21, 2, 40, tzinfo=UTC)

type Record = dict[str, Any]


class FakeClock:
    """Stand still but for those who sleep; counts seconds, too."""

    def __init__(self) -> None:
        self.moment = START
        self.slept_seconds = 0.0

    def now(self) -> datetime:
        return self.moment

    def timer(self) -> float:
        return (self.moment - START).total_seconds()

    def sleep(self, seconds: float) -> None:
        self.slept_seconds += seconds
        self.advance(seconds)

    def advance(self, seconds: float) -> None:
        self.moment += timedelta(seconds=seconds)


class Inline(Executor):
    """Run at once what is submitted, so that a test has one order of things."""

    def __init__(self, _threads: int) -> None:
        pass

    def submit[T](self, work: Callable[..., T], /, *args: Any, **kwargs: Any) -> Future[T]:
        future: Future[T] = Future()
        try:
            future.set_result(work(*args, **kwargs))
        except Exception as error:  # noqa: BLE001 - as the executors of the standard library do
            future.set_exception(error)
        return future


@dataclass
class Partition:
    """Hold the rows under one partition key."""

    user_id: str | None = None
    events: dict[int, StoredEvent] = field(default_factory=dict)
    subscriptions: dict[str, Subscription] = field(default_factory=dict)
    cursors: dict[str, int] = field(default_factory=dict)
    wake_keys: set[str] = field(default_factory=set)
    orders: list[str] = field(default_factory=list)


class FakeStream:
    """Keep rows in dictionaries and put each insertion into ``records``.

    Operations named in ``unavailable``, alone or as (operation, key), raise ``StreamUnavailable``.
    """

    def __init__(self, clock: FakeClock) -> None:
        self.clock = clock
        self.partitions: dict[str, Partition] = defaultdict(Partition)
        self.records: list[Record] = []
        self.unavailable: set[object] = set()
        self.reads: list[tuple[str, str]] = []
        self.connections: dict[str, Connection] = {}
        self.tickets: dict[str, Ticket] = {}
        self.most_subscriptions = 100
        self._ids = 0
        self._lock = threading.Lock()

    # What tests do

    def write(self, order_id: str, *seqs: int, user_id: str = "ann") -> None:
        """Write events of an order, in the order given; the first one tells the owner."""
        for seq in seqs:
            partition = self.partitions[f"order#{order_id}"]
            if seq == 1:
                partition.user_id = user_id
                self.partitions[f"user#{user_id}"].orders.append(order_id)
            body = json.dumps({"orderId": order_id, "seq": seq})
            partition.user_id = partition.user_id or user_id
            if seq not in partition.events:
                timestamp = self.clock.now().isoformat()
                partition.events[seq] = StoredEvent(seq, body, timestamp)
                self._insert(f"order#{order_id}", f"event#{seq:010d}")

    def listen(
        self,
        connection_id: str,
        *,
        order_id: str | None = None,
        user_id: str | None = None,
        after_seq: int = 0,
        greeting: Mapping[str, Any] | None = None,
        connecting: bool = False,
    ) -> None:
        """Subscribe a connection, as ``$connect`` does when ``connecting``."""
        topic = Topic(order_id=order_id, user_id=user_id)
        message = subscribed_message(topic, after_seq) if greeting is None else greeting
        self.subscribe(connection_id, topic, "", after_seq, message, self.clock.now())
        if connecting:
            rows = self.partitions[topic.partition_key].subscriptions
            rows[connection_id] = replace(
                rows[connection_id], connecting_since_ms=int(self.clock.now().timestamp() * 1000)
            )

    def subscription(self, connection_id: str, partition_key: str) -> Subscription | None:
        return self.partitions[partition_key].subscriptions.get(connection_id)

    def take_records(self) -> list[Record]:
        """Return the insertions since the last time."""
        taken, self.records = self.records, []
        return taken

    # What publish does

    def order_rows(self, order_id: str) -> OrderRows:
        self._check("order_rows", order_id)
        rows = self.partitions[f"order#{order_id}"]
        return OrderRows(
            order_id,
            rows.user_id,
            dict(rows.events),
            tuple(rows.subscriptions.values()),
            dict(rows.cursors),
            tuple(rows.wake_keys),
        )

    def user_rows(self, user_id: str) -> UserRows:
        self._check("user_rows", user_id)
        rows = self.partitions[f"user#{user_id}"]
        return UserRows(user_id, tuple(rows.subscriptions.values()), tuple(rows.wake_keys))

    def recent_orders(self, user_id: str, limit: int) -> list[str]:
        self._check("recent_orders", user_id)
        return self.partitions[f"user#{user_id}"].orders[-limit:]

    def mark_greeted(self, subscription: Subscription, after_seq: int) -> None:
        self._check("mark_greeted", subscription.connection_id)
        self._change(subscription, greeting=None, connecting_since_ms=None, after_seq=after_seq)

    def mark_failing(self, subscription: Subscription, now: datetime) -> None:
        self._change(subscription, failing_since_ms=int(now.timestamp() * 1000))

    def mark_reachable(self, subscription: Subscription) -> None:
        self._change(subscription, failing_since_ms=None)

    def remove_subscription(self, subscription: Subscription) -> None:
        self._check("remove_subscription", subscription.connection_id)
        rows = self.partitions[subscription.partition_key].subscriptions
        rows.pop(subscription.connection_id, None)

    def forget_connection(self, connection_id: str) -> int:
        self._check("forget_connection", connection_id)
        self.connections.pop(connection_id, None)
        found = [
            rows.subscriptions.pop(connection_id)
            for rows in self.partitions.values()
            if connection_id in rows.subscriptions
        ]
        return len(found)

    def wake_again(self, wakes: Sequence[tuple[str, str]], now: datetime) -> None:
        self._check("wake_again", "")
        for partition_key, connection_id in wakes:
            self._wake(partition_key, connection_id)

    def remove_wakes(self, keys: Sequence[tuple[str, str]]) -> None:
        self._check("remove_wakes", "")
        for partition_key, sort_key in keys:
            self.partitions[partition_key].wake_keys.discard(sort_key)

    def save_cursors(self, cursors: Mapping[str, Mapping[str, int]], now: datetime) -> None:
        self._check("save_cursors", "")
        for order_id, by_id in cursors.items():
            self.partitions[f"order#{order_id}"].cursors = dict(by_id)

    # What subscriptions do

    def redeem_ticket(self, ticket: str, now: datetime) -> Ticket | None:
        self._check("redeem_ticket", ticket)
        return self.tickets.pop(ticket, None)

    def owner_of(self, order_id: str) -> str | None:
        self._check("owner_of", order_id)
        return self.partitions[f"order#{order_id}"].user_id

    def register_connection(
        self, connection: Connection, topic: Topic | None, after_seq: int, now: datetime
    ) -> None:
        self._check("register_connection", connection.connection_id)
        self.connections[connection.connection_id] = connection
        if topic is not None:
            self.listen(
                connection.connection_id,
                order_id=topic.order_id,
                user_id=topic.user_id,
                after_seq=after_seq,
                connecting=True,
            )

    def connection_and_owner(
        self, connection_id: str, order_id: str | None
    ) -> tuple[Connection | None, str | None]:
        self._check("connection_and_owner", connection_id)
        owner = None if order_id is None else self.partitions[f"order#{order_id}"].user_id
        return self.connections.get(connection_id), owner

    def subscribe(
        self,
        connection_id: str,
        topic: Topic,
        user_id: str,
        after_seq: int,
        greeting: Mapping[str, Any],
        now: datetime,
    ) -> SubscriptionOutcome:
        self._check("subscribe", connection_id)
        rows = self.partitions[topic.partition_key].subscriptions
        is_new = connection_id not in rows
        held = sum(connection_id in part.subscriptions for part in self.partitions.values())
        if is_new and held >= self.most_subscriptions:
            return SubscriptionOutcome.TOO_MANY
        rows[connection_id] = Subscription(
            topic.partition_key,
            connection_id,
            f"{connection_id}-{self._next_id()}",
            after_seq,
            json.dumps(greeting),
        )
        if is_new:
            self._insert(topic.partition_key, f"conn#{connection_id}")
        else:
            self._wake(topic.partition_key, connection_id)
        return SubscriptionOutcome.SUBSCRIBED

    def unsubscribe(self, connection_id: str, topic: Topic) -> bool:
        rows = self.partitions[topic.partition_key].subscriptions
        return rows.pop(connection_id, None) is not None

    def _check(self, operation: str, key: str) -> None:
        with self._lock:
            self.reads.append((operation, key))
        if operation in self.unavailable or (operation, key) in self.unavailable:
            raise StreamUnavailable(f"{operation} {key}")

    def _change(self, subscription: Subscription, **changes: Any) -> None:
        rows = self.partitions[subscription.partition_key].subscriptions
        current = rows.get(subscription.connection_id)
        if current is not None and current.subscription_id == subscription.subscription_id:
            rows[subscription.connection_id] = replace(current, **changes)

    def _wake(self, partition_key: str, connection_id: str) -> None:
        sort_key = f"conn#{connection_id}#again#{self._next_id()}"
        self.partitions[partition_key].wake_keys.add(sort_key)
        self._insert(partition_key, sort_key)

    def _insert(self, partition_key: str, sort_key: str) -> None:
        self.records.append(record(partition_key, sort_key))

    def _next_id(self) -> int:
        with self._lock:
            self._ids += 1
            return self._ids


class FakeGateway:
    """Deliver to ``inbox``, or do what is scripted for a connection.

    A script is a list of outcomes, one per post, the last one repeated; or a function.
    """

    def __init__(self) -> None:
        self.inbox: dict[str, list[dict[str, Any]]] = defaultdict(list)
        self.scripts: dict[str, list[PostOutcome] | Callable[[], PostOutcome]] = {}
        self.posts: list[str] = []
        self.disconnected: list[str] = []
        self.disconnect_outcome = PostOutcome.DELIVERED
        self._lock = threading.Lock()

    def post(self, connection_id: str, message: str) -> PostOutcome:
        script = self.scripts.get(connection_id)
        if callable(script):
            outcome = script()
        elif script:
            outcome = script.pop(0) if len(script) > 1 else script[0]
        else:
            outcome = PostOutcome.DELIVERED
        with self._lock:
            self.posts.append(connection_id)
            if outcome is PostOutcome.DELIVERED:
                self.inbox[connection_id].append(json.loads(message))
        return outcome

    def disconnect(self, connection_id: str) -> PostOutcome:
        self.disconnected.append(connection_id)
        return self.disconnect_outcome

    def seqs(self, connection_id: str, order_id: str = "o1") -> list[int]:
        """Return the ``seq`` of an order's events that a connection got, as they came."""
        return [
            message["seq"]
            for message in self.inbox[connection_id]
            if message.get("orderId") == order_id and "seq" in message
        ]

    def first_seqs(self, connection_id: str, order_id: str) -> list[int]:
        """Return the same without repetitions."""
        return list(dict.fromkeys(self.seqs(connection_id, order_id)))


def record(partition_key: str, sort_key: str, event_name: str = "INSERT") -> Record:
    """Make a record of the table's stream."""
    return {
        "eventName": event_name,
        "dynamodb": {
            "Keys": {"pk": {"S": partition_key}, "sk": {"S": sort_key}},
            "SequenceNumber": "100000000000000000001",
        },
    }
