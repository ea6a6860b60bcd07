"""An order stream, a clock and a connection management API in memory."""

import json
import threading
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import Executor, Future
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any

from order_engine.adapters.dynamodb.keys import CONNECTION_LIFETIME
from order_engine.adapters.dynamodb.subscriptions import MAX_SUBSCRIPTIONS
from order_engine.clock import timestamp_text
from order_engine.domain.events import OrderEvent
from order_engine.errors import StreamUnavailable
from order_engine.streaming.ports import PostOutcome
from order_engine.streaming.rows import (
    TICKET_LIFETIME,
    Connection,
    Listeners,
    Looks,
    OrderLook,
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
    """Hold the rows under one partition key; ``user_id`` is whose order its events name."""

    user_id: str | None = None
    listened_ms: int | None = None
    events: dict[int, StoredEvent] = field(default_factory=dict)
    subscriptions: dict[str, Subscription] = field(default_factory=dict)
    cursors: dict[str, int] = field(default_factory=dict)
    wake_keys: set[str] = field(default_factory=set)
    orders: dict[str, str] = field(default_factory=dict)

    @property
    def owner(self) -> str | None:
        """Return whose order it is, which the first event tells."""
        return self.user_id if 1 in self.events else None

    def take_rows_of(self, connection_id: str) -> int:
        """Delete a connection's rows and return how many there were."""
        wakes = {key for key in self.wake_keys if key.startswith(f"conn#{connection_id}#")}
        self.wake_keys -= wakes
        return len(wakes) + (self.subscriptions.pop(connection_id, None) is not None)


class FakeStream:
    """Keep rows in dictionaries and put each insertion into ``records``.

    A record shows the event as its row is when the record is taken.

    ``tests/contracts`` holds it against the real one. Operations named in ``unavailable``, alone or
    as (operation, key), raise ``StreamUnavailable``.
    """

    def __init__(self, clock: FakeClock) -> None:
        self.clock = clock
        self.partitions: dict[str, Partition] = defaultdict(Partition)
        self.records: list[Record] = []
        self.unavailable: set[object] = set()
        self.reads: list[tuple[str, str]] = []
        self.connections: dict[str, Connection] = {}
        self.most_subscriptions = MAX_SUBSCRIPTIONS
        self._held: Counter[str] = Counter()
        self._expiries: dict[str, datetime] = {}
        self._tickets: dict[str, tuple[Ticket, datetime]] = {}
        self._ids = 0
        self._lock = threading.Lock()

    # What tests do

    def write(self, order_id: str, *seqs: int, user_id: str = "ann") -> None:
        """Write events of an order, in the order given; the first one tells the owner."""
        for seq in seqs:
            body = json.dumps({"orderId": order_id, "seq": seq})
            event = StoredEvent(seq, body, timestamp_text(self.clock.now()))
            self._store(order_id, user_id, event)

    def listen(
        self,
        connection_id: str,
        *,
        order_id: str | None = None,
        user_id: str | None = None,
        after_seq: int = 0,
        greeting: Mapping[str, Any] | None = None,
        connecting: bool = False,
        is_marked: bool = False,
    ) -> None:
        """Subscribe a connection, as ``$connect`` does when ``connecting``.

        ``is_marked`` says that ``mark_listened`` was called before.
        """
        topic = Topic(order_id=order_id, user_id=user_id)
        now = self.clock.now()
        if connecting:
            connection = Connection(connection_id)
            self.register_connection(connection, topic, after_seq, now, is_marked=is_marked)
            return
        if connection_id not in self.connections:
            self.register_connection(Connection(connection_id), None, 0, now)
        message = subscribed_message(topic, after_seq) if greeting is None else greeting
        self.subscribe(connection_id, topic, "", after_seq, message, now)

    def keep_tickets(self, tickets: Mapping[str, Ticket]) -> None:
        """Have these tickets open something from now on."""
        expiry = self.clock.now() + TICKET_LIFETIME
        self._tickets |= {secret: (ticket, expiry) for secret, ticket in tickets.items()}

    def subscription(self, connection_id: str, partition_key: str) -> Subscription | None:
        return self.partitions[partition_key].subscriptions.get(connection_id)

    def take_records(self) -> list[Record]:
        """Return the insertions since the last time."""
        taken, self.records = self.records, []
        for each in taken:
            key, sort_key = (each["dynamodb"]["Keys"][name]["S"] for name in ("pk", "sk"))
            seq = int(sort_key.removeprefix("event#")) if sort_key.startswith("event#") else 0
            event = self.partitions[key].events.get(seq)
            if event is not None:
                image = {"pk": key, "sk": sort_key, "event": event.body}
                image |= {"userId": self.partitions[key].user_id, "timestamp": event.timestamp}
                each["dynamodb"]["NewImage"] = {name: {"S": image[name]} for name in image}
        return taken

    # What the writers of events do

    def append(self, events: Sequence[OrderEvent]) -> None:
        self._check("append", "")
        for event in events:
            body = json.dumps(event.to_json_dict(), separators=(",", ":"))
            stored = StoredEvent(event.seq, body, timestamp_text(event.timestamp))
            self._store(event.order_id, event.user_id, stored)

    # What publish does

    def look(self, last_seqs: Mapping[str, int], user_ids: Collection[str]) -> Looks:
        self._check("look", "")
        orders = {key: self.partitions[f"order#{key}"] for key in last_seqs}
        users = {key: self.partitions[f"user#{key}"].listened_ms for key in user_ids}
        return Looks(
            {
                key: OrderLook(
                    rows.listened_ms, dict(rows.cursors), last_seqs[key] + 1 in rows.events
                )
                for key, rows in orders.items()
            },
            {key: listened_ms for key, listened_ms in users.items() if listened_ms is not None},
        )

    def order_listeners(self, order_id: str) -> Listeners:
        self._check("order_listeners", order_id)
        rows = self.partitions[f"order#{order_id}"]
        return Listeners(_sorted(rows.subscriptions), tuple(sorted(rows.wake_keys)))

    def order_rows(self, order_id: str) -> OrderRows:
        self._check("order_rows", order_id)
        rows = self.partitions[f"order#{order_id}"]
        return OrderRows(
            order_id,
            rows.user_id,
            dict(sorted(rows.events.items())),
            _sorted(rows.subscriptions),
            dict(rows.cursors),
            tuple(sorted(rows.wake_keys)),
        )

    def user_rows(self, user_id: str) -> UserRows:
        self._check("user_rows", user_id)
        rows = self.partitions[f"user#{user_id}"]
        return UserRows(user_id, _sorted(rows.subscriptions), tuple(sorted(rows.wake_keys)))

    def recent_orders(self, user_id: str, limit: int) -> list[str]:
        self._check("recent_orders", user_id)
        orders = self.partitions[f"orders#{user_id}"].orders
        return [orders[key] for key in sorted(orders)[-limit:]]

    def mark_greeted(
        self, subscription: Subscription, after_seq: int, replayed: Mapping[str, int] | None = None
    ) -> None:
        self._check("mark_greeted", subscription.connection_id)
        changes: dict[str, Any] = {"replayed": dict(replayed)} if replayed else {}
        changes |= {"greeting": None, "connecting_since_ms": None, "after_seq": after_seq}
        self._change(subscription, **changes)

    def mark_failing(self, subscription: Subscription, now: datetime) -> None:
        self._check("mark_failing", subscription.connection_id)
        self._change(subscription, failing_since_ms=int(now.timestamp() * 1000))

    def mark_reachable(self, subscription: Subscription) -> None:
        self._check("mark_reachable", subscription.connection_id)
        self._change(subscription, failing_since_ms=None)

    def remove_subscription(self, subscription: Subscription) -> None:
        self._check("remove_subscription", subscription.connection_id)
        rows = self.partitions[subscription.partition_key].subscriptions
        rows.pop(subscription.connection_id, None)

    def forget_listened(self, partition_key: str, listened_ms: int) -> None:
        self._check("forget_listened", partition_key)
        if self.partitions[partition_key].listened_ms == listened_ms:
            self.partitions[partition_key].listened_ms = None

    def forget_connection(self, connection_id: str) -> int:
        self._check("forget_connection", connection_id)
        own_row = self.connections.pop(connection_id, None)
        own_rows = 0 if own_row is None else 2 if own_row.user_id else 1
        self._expiries.pop(connection_id, None)
        return own_rows + sum(rows.take_rows_of(connection_id) for rows in self.partitions.values())

    def wake_again(self, wakes: Sequence[tuple[str, str]], now: datetime) -> None:
        self._check("wake_again", "")
        for partition_key, connection_id in sorted(set(wakes)):
            self._wake(partition_key, connection_id)

    def remove_wakes(self, keys: Sequence[tuple[str, str]]) -> None:
        self._check("remove_wakes", "")
        for partition_key, sort_key in keys:
            self.partitions[partition_key].wake_keys.discard(sort_key)

    def save_cursors(self, cursors: Mapping[str, Mapping[str, int]], now: datetime) -> None:
        self._check("save_cursors", "")
        for order_id, by_id in cursors.items():
            self.partitions[f"order#{order_id}"].cursors = dict(by_id)

    # What the api does

    def issue_ticket(self, user_id: str, order_id: str | None, now: datetime) -> str:
        self._check("issue_ticket", user_id)
        secret = f"ticket {self._next_id()}"
        self._tickets[secret] = Ticket(user_id, order_id), now + TICKET_LIFETIME
        return secret

    def connection_user(self, connection_id: str) -> str | None:
        self._check("connection_user", connection_id)
        connection = self.connections.get(connection_id)
        if connection is None or connection.order_id is not None:
            return None
        return connection.user_id or None

    def subscribe_connection(
        self,
        connection_id: str,
        order_id: str,
        user_id: str,
        after_seq: int,
        greeting: Mapping[str, Any],
        now: datetime,
    ) -> SubscriptionOutcome:
        topic = Topic(order_id=order_id)
        return self.subscribe(connection_id, topic, user_id, after_seq, greeting, now)

    # What subscriptions do

    def redeem_ticket(self, ticket: str, now: datetime) -> Ticket | None:
        self._check("redeem_ticket", ticket)
        with self._lock:
            kept, expiry = self._tickets.pop(ticket, (None, now))
        return kept if now < expiry else None

    def owner_of(self, order_id: str) -> str | None:
        self._check("owner_of", order_id)
        return self.partitions[f"order#{order_id}"].owner

    def register_connection(
        self,
        connection: Connection,
        topic: Topic | None,
        after_seq: int,
        now: datetime,
        *,
        is_marked: bool = False,
    ) -> None:
        connection_id = connection.connection_id
        self._check("register_connection", connection_id)
        if topic is not None and not is_marked:
            self.mark_listened(topic, now)
        if connection_id not in self.connections:
            self._insert(f"connection#{connection_id}", "connection")
            if connection.user_id:
                self._insert(f"connections#{connection.user_id}", f"connection#{connection_id}")
        self.connections[connection_id] = connection
        self._expiries[connection_id] = now + CONNECTION_LIFETIME
        self._held[connection_id] = 0 if topic is None else 1
        if topic is not None:
            self._put_subscription(
                connection_id,
                topic,
                after_seq,
                subscribed_message(topic, after_seq),
                connecting_since_ms=int(now.timestamp() * 1000),
            )

    def connections_of(self, user_id: str, but: str, now: datetime) -> int:
        self._check("connections_of", user_id)
        return sum(
            connection.user_id == user_id and key != but and self._expiries[key] > now
            for key, connection in self.connections.items()
        )

    def connection_and_owner(
        self, connection_id: str, order_id: str | None
    ) -> tuple[Connection | None, str | None]:
        self._check("connection_and_owner", connection_id)
        owner = None if order_id is None else self.partitions[f"order#{order_id}"].owner
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
        self.mark_listened(topic, now)
        if connection_id in self.partitions[topic.partition_key].subscriptions:
            self._put_subscription(connection_id, topic, after_seq, greeting)
            self._wake(topic.partition_key, connection_id)
            return SubscriptionOutcome.SUBSCRIBED
        if connection_id not in self.connections:
            return SubscriptionOutcome.CONNECTION_UNKNOWN
        if self._held[connection_id] >= self.most_subscriptions:
            return SubscriptionOutcome.TOO_MANY
        self._held[connection_id] += 1
        self._put_subscription(connection_id, topic, after_seq, greeting)
        return SubscriptionOutcome.SUBSCRIBED

    def unsubscribe(self, connection_id: str, topic: Topic) -> bool:
        self._check("unsubscribe", connection_id)
        rows = self.partitions[topic.partition_key].subscriptions
        if rows.pop(connection_id, None) is None:
            return False
        self._held[connection_id] -= 1
        return True

    def mark_listened(self, topic: Topic, now: datetime) -> None:
        """Note that somebody is about to subscribe."""
        rows = self.partitions[topic.partition_key]
        if rows.listened_ms is None:
            self._insert(topic.partition_key, "listened")
        rows.listened_ms = int(now.timestamp() * 1000)

    def _check(self, operation: str, key: str) -> None:
        with self._lock:
            self.reads.append((operation, key))
        if operation in self.unavailable or (operation, key) in self.unavailable:
            raise StreamUnavailable(f"{operation} {key}")

    def _store(self, order_id: str, user_id: str, event: StoredEvent) -> None:
        partition_key = f"order#{order_id}"
        partition = self.partitions[partition_key]
        if event.seq in partition.events:
            return
        if event.seq == 1:
            sort_key = f"order#{event.timestamp}#{order_id}"
            self.partitions[f"orders#{user_id}"].orders[sort_key] = order_id
            self._insert(f"orders#{user_id}", sort_key)
        partition.user_id = partition.user_id or user_id
        partition.events[event.seq] = event
        self._insert(partition_key, f"event#{event.seq:010d}")

    def _put_subscription(
        self,
        connection_id: str,
        topic: Topic,
        after_seq: int,
        greeting: Mapping[str, Any],
        connecting_since_ms: int | None = None,
    ) -> None:
        rows = self.partitions[topic.partition_key].subscriptions
        if connection_id not in rows:
            self._insert(topic.partition_key, f"conn#{connection_id}")
        rows[connection_id] = Subscription(
            topic.partition_key,
            connection_id,
            f"{connection_id}-{self._next_id()}",
            after_seq,
            json.dumps(greeting, separators=(",", ":")),
            connecting_since_ms,
        )

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


def _sorted(subscriptions: Mapping[str, Subscription]) -> tuple[Subscription, ...]:
    return tuple(subscriptions[connection_id] for connection_id in sorted(subscriptions))


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
