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
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from order_engine.clock import Clock
from order_engine.errors import StreamUnavailable
from order_engine.streaming.delivery import Delivery, Halt, Lane
from order_engine.streaming.memory import Memory
from order_engine.streaming.ports import ConnectionGateway, PostOutcome, Rows
from order_engine.streaming.posting import Posting, Timing
from order_engine.streaming.report import Report
from order_engine.streaming.rows import OrderRows, Subscription, UserRows
from order_engine.streaming.wake_ups import ORDER, USER, WakeUp, concerned, read_wake_ups

logger = logging.getLogger(__name__)

REPLAYED_ORDERS = 50
"""How many of a user's newest orders a new subscriber to all of them gets from their beginning."""

POST_THREADS = 64
ROW_THREADS = 16


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
        posting = Posting(self._gateway, self._clock, self._timing, self._post_threads, report)
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

    def _plan(self, wake_ups: Mapping[str, WakeUp], read: _Read) -> list[Delivery]:
        deliveries: dict[str, Delivery] = {}
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
        self, deliveries: dict[str, Delivery], key: str, wake_up: WakeUp, read: _Read
    ) -> None:
        rows = read.orders.get(key.removeprefix(ORDER))
        if rows is not None:
            for subscription in concerned(wake_up, rows, read.users):
                self._add(deliveries, subscription, rows, key, wake_up)

    def _plan_user(
        self, deliveries: dict[str, Delivery], key: str, wake_up: WakeUp, read: _Read
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

    def _greet(self, deliveries: dict[str, Delivery], subscription: Subscription) -> Delivery:
        connection_id = subscription.connection_id
        delivery = deliveries.setdefault(connection_id, Delivery(connection_id))
        key = subscription.subscription_id
        if subscription.greeting is not None and not self._memory.was_greeted(key):
            delivery.greetings[key] = subscription
        return delivery

    def _add(
        self,
        deliveries: dict[str, Delivery],
        subscription: Subscription,
        rows: OrderRows,
        origin: str,
        wake_up: WakeUp,
    ) -> None:
        delivery = self._greet(deliveries, subscription)
        lane = delivery.lanes.setdefault(rows.order_id, Lane(rows))
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
        deliveries: Sequence[Delivery],
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

    def _remember(self, delivery: Delivery, cursors: dict[str, dict[str, int]]) -> None:
        for key in delivery.greeted:
            self._memory.note_greeting(key)
        for order_id, lane in delivery.lanes.items():
            for key, cursor in lane.cursors.items():
                if lane.sent > cursor:
                    lane.cursors[key] = lane.sent
                    self._memory.advance(key, order_id, lane.sent)
                    if key not in delivery.greeted or lane.subscriptions[key].is_of_user:
                        cursors.setdefault(order_id, {})[key] = lane.sent

    def _settle_one(self, delivery: Delivery, now: datetime) -> "_Settled":
        subscriptions = list(delivery.subscriptions.values())
        keys = {"connection_id": delivery.connection_id, "order_ids": sorted(delivery.lanes)}
        try:
            if delivery.halt is Halt.GONE:
                logger.info("connection gone", extra=keys)
                for subscription in subscriptions:
                    self._rows.remove_subscription(subscription)
                return _Settled(removed=True)
            if delivery.halt is Halt.REFUSED or delivery.is_unreachable(now):
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

    def _mark(self, delivery: Delivery, subscription: Subscription, now: datetime) -> None:
        key = subscription.subscription_id
        if key in delivery.greeted:
            reached = [lane.cursors[key] for lane in delivery.lanes.values() if key in lane.cursors]
            after_seq = subscription.after_seq
            if reached and not subscription.is_of_user:
                after_seq = max(after_seq, *reached)
            self._rows.mark_greeted(subscription, after_seq)
        if delivery.halt is Halt.TIMED_OUT and subscription.failing_since_ms is None:
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
                    for subscription in concerned(wake_up, rows, read.users)
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
