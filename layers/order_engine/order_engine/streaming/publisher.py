"""Deliver the order stream's events to WebSocket connections.

A record of the table's stream only says where to look. For each order that a batch names, the
order's rows are read and every subscriber is sent the events above its cursor, as far as they
follow without a gap. Live delivery, replay to a late subscriber and the repair of a gap (an event
whose write was late) are therefore one and the same, and a record that comes twice does nothing.

A subscriber's cursor is the highest of three: where its subscription starts, what this execution
environment remembers to have posted, and what was written down after earlier deliveries (another
environment may have made them). It never runs ahead of what was posted, so an event may come
twice, but never late and never not at all.
"""

import logging
import threading
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import datetime
from enum import Enum, auto
from typing import Any, Protocol

from order_engine.errors import StreamUnavailable
from order_engine.measures import Measure
from order_engine.streaming.rows import OrderRows, StoredEvent, Subscription, UserRows

logger = logging.getLogger(__name__)

ORDER, USER = "order#", "user#"

REPLAYED_ORDERS = 50
"""How many of a user's newest orders a new subscriber to all of them gets from their beginning."""

POST_THREADS = 64
ROW_THREADS = 16
LANES_PER_CONNECTION = 4
"""Orders posted to one connection at once; within an order, posts follow one another."""

RETRY_DELAYS_SECONDS = (0.05, 0.1, 0.2, 0.35)
"""Waits between the tries of a post: together less than the second that others may be delayed."""

SLOW_AFTER_SECONDS = 1.0
SLOW_POST_SECONDS = 0.25
LONGEST_SECONDS = 5.0
"""A connection whose posts are slow is put off to the next invocation after ``SLOW_AFTER_SECONDS``,
any other after ``LONGEST_SECONDS``: its backlog must not hold up the shard."""

HANDSHAKE_MS = 30_000
"""How long a connection may answer 410 because it is being opened: API Gateway gives ``$connect``
29 s, and the subscription is written before that is over."""

UNREACHABLE_MS = 10_000
"""How long posts to a connection may time out before it is closed."""

HOPELESS_FAILURES = 16
HOPELESS_PAUSE_SECONDS = 1.0
"""After so many failures without one success the rest of the invocation's posts are put off, and
the next invocation a little, too: it is the management API that does not serve."""

REMEMBERED_CURSORS = 100_000

MAX_MEASURED_DELAYS = 100
"""CloudWatch takes so many values of a metric in one line of the log."""


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

    def order_rows(self, order_id: str) -> OrderRows:
        """Read all about an order."""
        ...

    def user_rows(self, user_id: str) -> UserRows:
        """Read the subscriptions to a user's orders."""
        ...

    def recent_orders(self, user_id: str, limit: int) -> list[str]:
        """Return a user's newest orders, oldest first."""
        ...

    def mark_greeted(self, subscription: Subscription, after_seq: int) -> None:
        """Note that the greeting and the events up to ``after_seq`` have gone out."""
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
        """Write down cursors by order and subscription id."""
        ...


class Clock(Protocol):
    """Tell the time."""

    def now(self) -> datetime:
        """Return the current time, aware, in UTC."""
        ...


@dataclass(slots=True)
class WakeUp:
    """Say why to look at a partition, and on whose behalf.

    ``everyone``: an event was written. ``newcomers``: these connections subscribed here.
    ``retries``: these could not be served before. ``fresh``: the events in this batch.
    """

    everyone: bool = False
    newcomers: set[str] = field(default_factory=set)
    retries: set[str] = field(default_factory=set)
    fresh: set[int] = field(default_factory=set)

    @property
    def connections(self) -> set[str]:
        """Return the connections concerned besides what concerns everyone."""
        return self.newcomers | self.retries

    @property
    def concerns_users(self) -> bool:
        """Tell whether subscribers to all orders of a user are concerned, too."""
        return self.everyone or bool(self.retries)


@dataclass(slots=True)
class Report:
    """Count what an invocation did.

    ``failed`` names the partitions that could not be served because DynamoDB did not: their
    records must come again. ``delays_ms`` run from an event's timestamp to its post.
    """

    events_published: int = 0
    greetings: int = 0
    posts_failed: int = 0
    connections_removed: int = 0
    connections_put_off: int = 0
    records_unreadable: int = 0
    delays_ms: list[float] = field(default_factory=list)
    order_ids: set[str] = field(default_factory=set)
    failed: set[str] = field(default_factory=set)

    def to_log(self) -> dict[str, Any]:
        """Return what the log tells of the invocation."""
        return {
            "order_ids": sorted(self.order_ids),
            "events": self.events_published,
            "greetings": self.greetings,
            "posts_failed": self.posts_failed,
            "removed": self.connections_removed,
            "put_off": self.connections_put_off,
            "unreadable": self.records_unreadable,
            "slowest_ms": round(max(self.delays_ms, default=0)),
        }

    def measures(self) -> list[Measure]:
        """Return the counts that are not 0 as metrics, and at most 100 of the delays."""
        counts = {
            "EventsPublished": self.events_published,
            "PostsFailed": self.posts_failed,
            "StaleConnectionsRemoved": self.connections_removed,
            "ConnectionsPutOff": self.connections_put_off,
            "UnreadableRecords": self.records_unreadable,
        }
        return [
            *(Measure(name, count) for name, count in counts.items() if count),
            *(
                Measure("DeliveryDelay", delay_ms, "Milliseconds")
                for delay_ms in self.delays_ms[:MAX_MEASURED_DELAYS]
            ),
        ]

    def raise_if_failed(self) -> None:
        """Raise ``StreamUnavailable`` when some partitions could not be served."""
        if self.failed:
            raise StreamUnavailable(f"{len(self.failed)} partitions not served")


@dataclass(frozen=True, slots=True)
class Timing:
    """Measure and pass time: ``timer`` counts seconds, ``sleep`` waits for some."""

    timer: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep


class Memory:
    """Remember, for the life of the execution environment, what was posted to whom."""

    def __init__(self, capacity: int = REMEMBERED_CURSORS) -> None:
        self._capacity = capacity
        self._cursors: OrderedDict[tuple[str, str], int] = OrderedDict()

    def cursor(self, subscription_id: str, order_id: str) -> int:
        """Return the highest ``seq`` posted to a subscription, 0 when none is remembered."""
        return self._cursors.get((subscription_id, order_id), 0)

    def advance(self, subscription_id: str, order_id: str, seq: int) -> None:
        """Note that the events up to ``seq`` have been posted."""
        key = (subscription_id, order_id)
        self._cursors[key] = max(seq, self._cursors.get(key, 0))
        self._cursors.move_to_end(key)
        while len(self._cursors) > self._capacity:
            self._cursors.popitem(last=False)

    def was_greeted(self, subscription_id: str) -> bool:
        """Tell whether the subscription's greeting has been posted."""
        return (subscription_id, "") in self._cursors

    def note_greeting(self, subscription_id: str) -> None:
        """Note that the subscription's greeting has been posted."""
        self.advance(subscription_id, "", 0)


class _Halt(Enum):
    """Say why posting to a connection stopped before all was sent."""

    GONE = auto()
    REFUSED = auto()
    TIMED_OUT = auto()
    NOT_REACHED = auto()


@dataclass(slots=True)
class _Lane:
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
class _Delivery:
    """What one connection is to get in one invocation, and how far that came."""

    connection_id: str
    lanes: dict[str, _Lane] = field(default_factory=dict)
    greetings: dict[str, Subscription] = field(default_factory=dict)
    greeted: set[str] = field(default_factory=set)
    queue: deque[_Lane] = field(default_factory=deque)
    halt: _Halt | None = None
    is_open: bool = False
    posts: int = 0
    seconds: float = 0.0

    @property
    def subscriptions(self) -> dict[str, Subscription]:
        """Return the subscriptions that are served, by id."""
        found = dict(self.greetings)
        for lane in self.lanes.values():
            found |= lane.subscriptions
        return found

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


@dataclass(slots=True)
class _Read:
    """What was read for a batch; what could not be read is missing."""

    orders: dict[str, OrderRows] = field(default_factory=dict)
    users: dict[str, UserRows] = field(default_factory=dict)
    recent: dict[str, list[str]] = field(default_factory=dict)


class Publisher:
    """Serve the subscribers that a batch of stream records concerns."""

    def __init__(
        self,
        rows: Rows,
        gateway: ConnectionGateway,
        clock: Clock,
        memory: Memory | None = None,
        timing: Timing = Timing(),
        executor: Callable[[int], Executor] = ThreadPoolExecutor,
    ) -> None:
        self._rows = rows
        self._gateway = gateway
        self._clock = clock
        self._memory = memory or Memory()
        self._timing = timing
        self._row_threads = executor(ROW_THREADS)
        self._post_threads = executor(POST_THREADS)

    def publish(self, records: Iterable[Mapping[str, Any]]) -> Report:
        """Bring all subscribers concerned up to date, in parallel over connections and orders.

        A subscriber that cannot be reached is served again later or closed, and never holds up
        another; only what DynamoDB did not serve ends up in the report's ``failed``.
        """
        report = Report()
        wake_ups = read_wake_ups(records, report)
        if not wake_ups:
            return report
        read = self._read(wake_ups, report)
        deliveries = self._plan(wake_ups, read)
        posting = _Posting(self._gateway, self._clock, self._timing, self._post_threads, report)
        posting.run(deliveries)
        self._settle(wake_ups, read, deliveries, report)
        return report

    # Reading

    def _read(self, wake_ups: Mapping[str, WakeUp], report: Report) -> _Read:
        """Read orders, their users and, for new subscribers, the users' orders, each once."""
        read = _Read()
        order_ids = [key.removeprefix(ORDER) for key in wake_ups if key.startswith(ORDER)]
        report.order_ids |= set(order_ids)
        user_ids = [key.removeprefix(USER) for key in wake_ups if key.startswith(USER)]
        orders = self._submit(self._rows.order_rows, order_ids)
        users = self._submit(self._rows.user_rows, user_ids)
        recent = self._submit(self._recent_orders, user_ids)
        read.orders, unread_orders = _collect(orders)
        read.users, unread_users = _collect(users)
        read.recent, unread_recent = _collect(recent)
        report.failed |= {ORDER + order_id for order_id in unread_orders}
        report.failed |= {USER + user_id for user_id in unread_users | unread_recent}

        orders_by_owner: dict[str, list[str]] = {}
        for order_id, rows in read.orders.items():
            if rows.user_id is not None and wake_ups[ORDER + order_id].concerns_users:
                orders_by_owner.setdefault(rows.user_id, []).append(order_id)
        users = self._submit(
            self._rows.user_rows, [user for user in orders_by_owner if user not in read.users]
        )
        users_by_order: dict[str, list[str]] = {}
        for user_id, recent_ids in read.recent.items():
            for order_id in recent_ids:
                users_by_order.setdefault(order_id, []).append(user_id)
        orders = self._submit(
            self._rows.order_rows, [order for order in users_by_order if order not in read.orders]
        )
        more_users, unread_users = _collect(users)
        more_orders, unread_orders = _collect(orders)
        read.users |= more_users
        read.orders |= more_orders
        report.failed |= {ORDER + key for user in unread_users for key in orders_by_owner[user]}
        report.failed |= {USER + key for order in unread_orders for key in users_by_order[order]}
        return read

    def _recent_orders(self, user_id: str) -> list[str]:
        return self._rows.recent_orders(user_id, REPLAYED_ORDERS)

    def _submit[K, V](self, read: Callable[[K], V], keys: Iterable[K]) -> dict[K, Future[V]]:
        return {key: self._row_threads.submit(read, key) for key in keys}

    # Planning

    def _plan(self, wake_ups: Mapping[str, WakeUp], read: _Read) -> list[_Delivery]:
        deliveries: dict[str, _Delivery] = {}
        for key, wake_up in wake_ups.items():
            if key.startswith(ORDER):
                self._plan_order(deliveries, key, wake_up, read)
            else:
                self._plan_user(deliveries, key, wake_up, read)
        for delivery in deliveries.values():
            for lane in delivery.lanes.values():
                lane.prepare()
        # Those that have been failing come last, so that they wait for the others, not vice versa.
        return sorted(
            (delivery for delivery in deliveries.values() if delivery.origins_left),
            key=lambda delivery: any(
                subscription.failing_since_ms for subscription in delivery.subscriptions.values()
            ),
        )

    def _plan_order(
        self, deliveries: dict[str, _Delivery], key: str, wake_up: WakeUp, read: _Read
    ) -> None:
        rows = read.orders.get(key.removeprefix(ORDER))
        if rows is not None:
            for subscription in _concerned(wake_up, rows, read.users):
                self._add(deliveries, subscription, rows, key, wake_up)

    def _plan_user(
        self, deliveries: dict[str, _Delivery], key: str, wake_up: WakeUp, read: _Read
    ) -> None:
        user_id = key.removeprefix(USER)
        user = read.users.get(user_id)
        replayed = [
            read.orders[order_id]
            for order_id in read.recent.get(user_id, ())
            if order_id in read.orders
        ]
        for subscription in user.subscriptions if user is not None else ():
            if subscription.connection_id in wake_up.connections:
                self._greet(deliveries, subscription)
                for rows in replayed:
                    self._add(deliveries, subscription, rows, key, wake_up)

    def _greet(self, deliveries: dict[str, _Delivery], subscription: Subscription) -> _Delivery:
        connection_id = subscription.connection_id
        delivery = deliveries.setdefault(connection_id, _Delivery(connection_id))
        key = subscription.subscription_id
        if subscription.greeting is not None and not self._memory.was_greeted(key):
            delivery.greetings[key] = subscription
        return delivery

    def _add(
        self,
        deliveries: dict[str, _Delivery],
        subscription: Subscription,
        rows: OrderRows,
        origin: str,
        wake_up: WakeUp,
    ) -> None:
        delivery = self._greet(deliveries, subscription)
        lane = delivery.lanes.setdefault(rows.order_id, _Lane(rows))
        key = subscription.subscription_id
        lane.subscriptions[key] = subscription
        lane.cursors[key] = max(
            subscription.after_seq,
            rows.cursors.get(key, 0),
            self._memory.cursor(key, rows.order_id),
        )
        lane.origins.add(origin)
        lane.fresh |= wake_up.fresh if origin == ORDER + rows.order_id else set()

    # Settling

    def _settle(
        self,
        wake_ups: Mapping[str, WakeUp],
        read: _Read,
        deliveries: Sequence[_Delivery],
        report: Report,
    ) -> None:
        """Remember what was sent, write it down, and see to those that were not reached."""
        now = self._clock.now()
        cursors: dict[str, dict[str, int]] = {}
        for delivery in deliveries:
            self._remember(delivery, cursors)
        settling = [self._row_threads.submit(self._settle_one, item, now) for item in deliveries]
        again: set[tuple[str, str]] = set()
        for delivery, future in zip(deliveries, settling, strict=True):
            settled = future.result()
            again |= {(key, delivery.connection_id) for key in settled.again}
            report.connections_removed += settled.removed
            report.connections_put_off += bool(settled.again)
        try:
            if again:
                self._rows.wake_again(sorted(again), now)
        except StreamUnavailable:
            logger.warning("connections not served", extra={"count": len(again)})
            report.failed |= {key for key, _ in again}
        self._write_down(wake_ups, read, cursors, now)

    def _remember(self, delivery: _Delivery, cursors: dict[str, dict[str, int]]) -> None:
        for key in delivery.greeted:
            self._memory.note_greeting(key)
        for order_id, lane in delivery.lanes.items():
            for key, cursor in lane.cursors.items():
                if lane.sent > cursor:
                    lane.cursors[key] = lane.sent
                    self._memory.advance(key, order_id, lane.sent)
                    if key not in delivery.greeted or lane.subscriptions[key].is_of_user:
                        cursors.setdefault(order_id, {})[key] = lane.sent

    def _settle_one(self, delivery: _Delivery, now: datetime) -> "_Settled":
        subscriptions = list(delivery.subscriptions.values())
        keys = {"connection_id": delivery.connection_id, "order_ids": sorted(delivery.lanes)}
        try:
            if delivery.halt is _Halt.GONE:
                logger.info("connection gone", extra=keys)
                for subscription in subscriptions:
                    self._rows.remove_subscription(subscription)
                return _Settled(removed=True)
            if delivery.halt is _Halt.REFUSED or _is_unreachable(delivery, now):
                outcome = self._gateway.disconnect(delivery.connection_id)
                if outcome in {PostOutcome.DELIVERED, PostOutcome.GONE}:
                    logger.warning("connection closed as unreachable", extra=keys)
                    self._rows.forget_connection(delivery.connection_id)
                    return _Settled(removed=True)
            for subscription in subscriptions:
                self._mark(delivery, subscription, now)
        except StreamUnavailable as error:
            # Only marks are lost: a greeting may come twice, a closed connection is tried again.
            logger.warning("subscription not updated", extra={**keys, "reason": str(error)})
        return _Settled(again=frozenset(delivery.origins_left))

    def _mark(self, delivery: _Delivery, subscription: Subscription, now: datetime) -> None:
        key = subscription.subscription_id
        if key in delivery.greeted:
            reached = [lane.cursors[key] for lane in delivery.lanes.values() if key in lane.cursors]
            after_seq = subscription.after_seq
            if reached and not subscription.is_of_user:
                after_seq = max(after_seq, *reached)
            self._rows.mark_greeted(subscription, after_seq)
        if delivery.halt is _Halt.TIMED_OUT and subscription.failing_since_ms is None:
            self._rows.mark_failing(subscription, now)
        elif delivery.halt is None and subscription.failing_since_ms is not None:
            self._rows.mark_reachable(subscription)

    def _write_down(
        self,
        wake_ups: Mapping[str, WakeUp],
        read: _Read,
        cursors: dict[str, dict[str, int]],
        now: datetime,
    ) -> None:
        for order_id, by_id in cursors.items():
            rows = read.orders[order_id]
            wake_up = wake_ups.get(ORDER + order_id)
            listening = None
            if wake_up is not None and wake_up.everyone and rows.user_id in read.users:
                listening = {
                    subscription.subscription_id
                    for subscription in _concerned(wake_up, rows, read.users)
                }
            for key, seq in rows.cursors.items():
                if listening is None or key in listening:
                    by_id.setdefault(key, seq)
        partitions: list[tuple[str, OrderRows | UserRows]] = [
            *((ORDER + order_id, order) for order_id, order in read.orders.items()),
            *((USER + user_id, user) for user_id, user in read.users.items()),
        ]
        wakes = [
            (key, sort_key)
            for key, partition in partitions
            if key in wake_ups
            for sort_key in partition.wake_keys
        ]
        try:
            if cursors:
                self._rows.save_cursors(cursors, now)
            if wakes:
                self._rows.remove_wakes(wakes)
        except StreamUnavailable as error:
            # Another environment may then post some events once more, which clients must expect.
            logger.warning("cursors not written", extra={"reason": str(error)})


@dataclass(frozen=True, slots=True)
class _Settled:
    removed: bool = False
    again: frozenset[str] = frozenset()


class _Posting:
    """Carry out an invocation's posts: in parallel, and none for long."""

    def __init__(
        self,
        gateway: ConnectionGateway,
        clock: Clock,
        timing: Timing,
        threads: Executor,
        report: Report,
    ) -> None:
        self._gateway = gateway
        self._clock = clock
        self._timing = timing
        self._threads = threads
        self._report = report
        self._changed = threading.Condition()
        self._running = 0
        self._bugs: list[BaseException] = []
        self._start = self._timing.timer()
        self._delivered = 0
        self._failed = 0

    def run(self, deliveries: Sequence[_Delivery]) -> None:
        """Post everything; returns when each delivery is complete or halted."""
        for delivery in deliveries:
            delivery.queue.extend(lane for lane in delivery.lanes.values() if lane.pending)
            if delivery.greetings:
                self._submit(self._greet, delivery)
            else:
                self._submit_lanes(delivery)
        with self._changed:
            self._changed.wait_for(lambda: self._running == 0)
        if self._bugs:
            raise self._bugs[0]
        self._report.posts_failed += self._failed
        if self._is_hopeless():
            self._timing.sleep(HOPELESS_PAUSE_SECONDS)

    def _greet(self, delivery: _Delivery) -> None:
        for key, subscription in delivery.greetings.items():
            if not self._post(delivery, subscription.greeting or ""):
                return
            delivery.greeted.add(key)
            self._count(greetings=1)
        self._submit_lanes(delivery)

    def _submit_lanes(self, delivery: _Delivery) -> None:
        for _ in range(min(len(delivery.queue), LANES_PER_CONNECTION)):
            self._submit(self._run_lanes, delivery)

    def _run_lanes(self, delivery: _Delivery) -> None:
        while delivery.queue:
            try:
                lane = delivery.queue.popleft()
            except IndexError:
                return
            for event in lane.pending:
                if not self._post(delivery, event.body):
                    return
                lane.sent = event.seq
                self._count(events=1, delay_ms=self._delay_ms(lane, event))

    def _post(self, delivery: _Delivery, message: str) -> bool:
        """Post until it is delivered (true) or the connection is halted."""
        for delay in (*RETRY_DELAYS_SECONDS, None):
            if delivery.halt is None and (self._is_hopeless() or self._is_too_slow(delivery)):
                delivery.halt = _Halt.NOT_REACHED
            if delivery.halt is not None:
                return False
            started = self._timing.timer()
            outcome = self._gateway.post(delivery.connection_id, message)
            delivery.seconds += self._timing.timer() - started
            delivery.posts += 1
            if outcome is PostOutcome.DELIVERED:
                self._delivered += 1
                delivery.is_open = True
                return True
            self._halt(delivery, outcome, last=delay is None)
            if delay is not None and delivery.halt is None:
                self._timing.sleep(delay)
        return False

    def _halt(self, delivery: _Delivery, outcome: PostOutcome, *, last: bool) -> None:
        if outcome is PostOutcome.GONE:
            if not _may_be_connecting(delivery, self._clock.now()):
                delivery.halt = _Halt.GONE
        else:
            self._failed += 1
        if outcome is PostOutcome.REFUSED:
            delivery.halt = _Halt.REFUSED
        elif outcome is PostOutcome.TIMED_OUT:
            # It has cost a second already: no second try while others wait for this invocation.
            delivery.halt = _Halt.TIMED_OUT
        elif last and delivery.halt is None:
            delivery.halt = _Halt.NOT_REACHED

    def _is_hopeless(self) -> bool:
        return self._delivered == 0 and self._failed >= HOPELESS_FAILURES

    def _is_too_slow(self, delivery: _Delivery) -> bool:
        elapsed = self._timing.timer() - self._start
        if elapsed < SLOW_AFTER_SECONDS or not delivery.posts:
            return False
        return elapsed > LONGEST_SECONDS or delivery.seconds / delivery.posts > SLOW_POST_SECONDS

    def _delay_ms(self, lane: _Lane, event: StoredEvent) -> float | None:
        if event.seq not in lane.fresh or event.timestamp is None:
            return None
        try:
            written = datetime.fromisoformat(event.timestamp)
            return (self._clock.now() - written).total_seconds() * 1000
        except (ValueError, TypeError):
            return None  # not worth holding up anything

    def _count(self, *, greetings: int = 0, events: int = 0, delay_ms: float | None = None) -> None:
        with self._changed:
            self._report.greetings += greetings
            self._report.events_published += events
            if delay_ms is not None:
                self._report.delays_ms.append(delay_ms)

    def _submit(self, work: Callable[[_Delivery], None], delivery: _Delivery) -> None:
        with self._changed:
            self._running += 1
        self._threads.submit(work, delivery).add_done_callback(self._finish)

    def _finish(self, future: Future[None]) -> None:
        with self._changed:
            self._running -= 1
            error = future.exception()
            if error is not None:
                self._bugs.append(error)
            if self._running == 0:
                self._changed.notify_all()


def read_wake_ups(records: Iterable[Mapping[str, Any]], report: Report) -> dict[str, WakeUp]:
    """Collect what a batch of stream records says about where to look.

    A record without readable keys is logged, counted and passed over: it names no subscriber, a
    repetition could not mend it, and the rows it stems from are read with the next record of the
    same order. Failing for it would only hold up the orders behind it in the shard.
    """
    wake_ups: dict[str, WakeUp] = {}
    for record in records:
        try:
            event_name = record["eventName"]
            key, sort_key = (str(record["dynamodb"]["Keys"][name]["S"]) for name in ("pk", "sk"))
            seq = int(sort_key.removeprefix("event#")) if sort_key.startswith("event#") else None
        except (KeyError, TypeError, ValueError) as error:
            report.records_unreadable += 1
            logger.error("unreadable stream record", extra={"reason": repr(error)})  # noqa: TRY400
            continue
        # Changes of rows (a subscriber greeted) and deletions need nobody's attention.
        if event_name != "INSERT" or not key.startswith((ORDER, USER)):
            continue
        if seq is not None:
            wake_up = wake_ups.setdefault(key, WakeUp())
            wake_up.everyone = True
            wake_up.fresh.add(seq)
        elif sort_key.startswith("conn#"):
            wake_up = wake_ups.setdefault(key, WakeUp())
            connection_id, _, again = sort_key.removeprefix("conn#").partition("#")
            (wake_up.retries if again else wake_up.newcomers).add(connection_id)
    return wake_ups


def _collect[K, V](futures: Mapping[K, Future[V]]) -> tuple[dict[K, V], set[K]]:
    found: dict[K, V] = {}
    missing: set[K] = set()
    for key, future in futures.items():
        try:
            found[key] = future.result()
        except StreamUnavailable as error:
            logger.warning("rows not read", extra={"reason": str(error)})
            missing.add(key)
    return found, missing


def _concerned(
    wake_up: WakeUp, rows: OrderRows, users: Mapping[str, UserRows]
) -> Iterator[Subscription]:
    connections = wake_up.connections
    for subscription in rows.subscriptions:
        if wake_up.everyone or subscription.connection_id in connections:
            yield subscription
    user = users.get(rows.user_id) if rows.user_id is not None else None
    for subscription in user.subscriptions if user is not None else ():
        if wake_up.everyone or subscription.connection_id in wake_up.retries:
            yield subscription


def _may_be_connecting(delivery: _Delivery, now: datetime) -> bool:
    if delivery.is_open:
        return False
    since = [item.connecting_since_ms for item in delivery.subscriptions.values()]
    return any(ms is not None and now.timestamp() * 1000 - ms < HANDSHAKE_MS for ms in since)


def _is_unreachable(delivery: _Delivery, now: datetime) -> bool:
    if delivery.halt is not _Halt.TIMED_OUT:
        return False
    since = [item.failing_since_ms for item in delivery.subscriptions.values()]
    return any(ms is not None and now.timestamp() * 1000 - ms >= UNREACHABLE_MS for ms in since)
