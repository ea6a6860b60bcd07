"""Deliver the order stream's events to WebSocket connections.

For each order that a batch of the table's stream records names, every subscriber is sent the events
above its cursor, as far as they follow without a gap. Who has got all that came before is served
with the events that the records show; for all others the order's rows are read, so that live
delivery, replay to a late subscriber and the repair of a gap (an event whose write was late) are
one and the same, and a record that comes twice does nothing.

A subscriber's cursor is the highest of three: where its subscription starts, what this execution
environment remembers to have posted, and what was written down after earlier deliveries (another
environment may have made them). It never runs ahead of what was posted, so an event may come
twice, but never late and never not at all.
"""

from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Executor, ThreadPoolExecutor
from typing import Any

from order_engine.clock import Clock
from order_engine.streaming.delivery import Delivery, Lane
from order_engine.streaming.memory import Memory
from order_engine.streaming.ports import ConnectionGateway, Rows
from order_engine.streaming.posting import MOST_POST_THREADS, Posting, Timing
from order_engine.streaming.reading import Read, Reading
from order_engine.streaming.report import Report
from order_engine.streaming.rows import OrderRows, Subscription
from order_engine.streaming.settling import Settling
from order_engine.streaming.wake_ups import ORDER, USER, WakeUp, concerned, read_wake_ups

ROW_THREADS = 16


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
        self._gateway = gateway
        self._clock = clock
        self._memory = memory or Memory()
        self._timing = timing
        row_threads = executor(ROW_THREADS)
        self._reading = Reading(rows, self._memory, row_threads)
        self._settling = Settling(rows, gateway, clock, self._memory, row_threads)
        self._post_threads = executor(MOST_POST_THREADS)

    def publish(self, records: Iterable[Mapping[str, Any]]) -> Report:
        """Bring all subscribers concerned up to date, in parallel over connections and orders.

        A subscriber that cannot be reached is served again later or closed, and never holds up
        another; only what DynamoDB did not serve ends up in the report's ``failed``.
        """
        report = Report()
        wake_ups = read_wake_ups(records, report)
        if not wake_ups:
            return report
        read = self._reading.read(wake_ups, report)
        deliveries = self._plan(wake_ups, read)
        posting = Posting(self._gateway, self._clock, self._timing, self._post_threads, report)
        posting.run(deliveries)
        self._settling.settle(wake_ups, read, deliveries, report)
        return report

    def _plan(self, wake_ups: Mapping[str, WakeUp], read: Read) -> list[Delivery]:
        deliveries: dict[str, Delivery] = {}
        for key, wake_up in wake_ups.items():
            if key.startswith(ORDER):
                self._plan_order(deliveries, key, wake_up, read)
            else:
                self._plan_user(deliveries, key, wake_up, read)
        for delivery in deliveries.values():
            for lane in delivery.lanes.values():
                lane.prepare()
        # Those who have been failing or were put off come last: they wait for the others.
        return sorted(
            (delivery for delivery in deliveries.values() if delivery.origins_left),
            key=lambda delivery: (delivery.is_failing, not delivery.is_live),
        )

    def _plan_order(
        self, deliveries: dict[str, Delivery], key: str, wake_up: WakeUp, read: Read
    ) -> None:
        rows = read.orders.get(key.removeprefix(ORDER))
        if rows is not None:
            for subscription in concerned(wake_up, rows, read.users):
                self._add(deliveries, subscription, rows, key, wake_up)

    def _plan_user(
        self, deliveries: dict[str, Delivery], key: str, wake_up: WakeUp, read: Read
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
                self._greet(deliveries, subscription, wake_up)
                for rows in replayed:
                    self._add(deliveries, subscription, rows, key, wake_up)

    def _greet(
        self, deliveries: dict[str, Delivery], subscription: Subscription, wake_up: WakeUp
    ) -> Delivery:
        connection_id = subscription.connection_id
        delivery = deliveries.setdefault(connection_id, Delivery(connection_id))
        delivery.is_live |= wake_up.everyone or connection_id in wake_up.newcomers
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
        delivery = self._greet(deliveries, subscription, wake_up)
        lane = delivery.lanes.setdefault(rows.order_id, Lane(rows))
        key = subscription.subscription_id
        lane.subscriptions[key] = subscription
        lane.cursors[key] = self._memory.reached(subscription, rows.order_id, rows.cursors)
        lane.origins.add(origin)
        lane.fresh |= wake_up.fresh if origin == ORDER + rows.order_id else set()
