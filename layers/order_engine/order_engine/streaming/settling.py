"""After the posts: remember what was sent, write it down, see to those who were not reached."""

import logging
from collections.abc import Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from datetime import datetime

from order_engine.clock import Clock
from order_engine.errors import StreamUnavailable
from order_engine.streaming.delivery import Delivery, Halt
from order_engine.streaming.memory import Memory
from order_engine.streaming.ports import ConnectionGateway, PostOutcome, Rows
from order_engine.streaming.reading import REPLAYED_ORDERS, Read
from order_engine.streaming.report import Report
from order_engine.streaming.rows import OrderRows, Subscription, UserRows
from order_engine.streaming.wake_ups import ORDER, USER, WakeUp, concerned

logger = logging.getLogger(__name__)

MOST_CURSORS = 1_000
"""So many cursors of an order are written down, some 40 KB; a row may have ten times that. Who
listens beside them may get events once more from an environment that has not served them before."""

DESERTED_AFTER_MS = 60_000
"""A mark that somebody listens is deleted when it is so old: whoever writes a subscription after
its mark has ended by then, or been ended by Lambda."""


@dataclass(frozen=True, slots=True)
class _Settled:
    removed: bool = False
    again: frozenset[str] = frozenset()


class Settling:
    """Settle one batch after the other."""

    def __init__(
        self,
        rows: Rows,
        gateway: ConnectionGateway,
        clock: Clock,
        memory: Memory,
        threads: Executor,
    ) -> None:
        self._rows = rows
        self._gateway = gateway
        self._clock = clock
        self._memory = memory
        self._threads = threads

    def settle(
        self,
        wake_ups: Mapping[str, WakeUp],
        read: Read,
        deliveries: Sequence[Delivery],
        report: Report,
    ) -> None:
        """Note what has become of a batch's deliveries."""
        now = self._clock.now()
        sent: dict[str, dict[str, int]] = {}
        for delivery in deliveries:
            self._remember(delivery, sent)
        settling = [self._threads.submit(self._settle_one, item, now) for item in deliveries]
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
        self._write_down(wake_ups, read, sent, now)

    def _remember(self, delivery: Delivery, sent: dict[str, dict[str, int]]) -> None:
        for key in delivery.greeted:
            self._memory.note_greeting(key)
        for order_id, lane in delivery.lanes.items():
            for key, cursor in lane.cursors.items():
                if lane.sent > cursor:
                    lane.cursors[key] = lane.sent
                    self._memory.advance(key, order_id, lane.sent)
                    is_of_user = lane.subscriptions[key].is_of_user
                    if is_of_user and any(origin.startswith(USER) for origin in lane.origins):
                        delivery.replayed.setdefault(key, {})[order_id] = lane.sent
                    elif is_of_user or key not in delivery.greeted:
                        sent.setdefault(order_id, {})[key] = lane.sent

    def _settle_one(self, delivery: Delivery, now: datetime) -> _Settled:
        subscriptions = list(delivery.subscriptions.values())
        keys = {"connection_id": delivery.connection_id, "order_ids": sorted(delivery.lanes)}
        try:
            if delivery.halt is Halt.GONE:
                logger.info("connection gone", extra=keys)
                for subscription in subscriptions:
                    self._rows.remove_subscription(subscription)
                self._rows.forget_connection(delivery.connection_id)
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
        replayed = delivery.replayed.get(key, {})
        if key in delivery.greeted or replayed:
            reached = [lane.cursors[key] for lane in delivery.lanes.values() if key in lane.cursors]
            after_seq = subscription.after_seq
            if reached and not subscription.is_of_user:
                after_seq = max(after_seq, *reached)
            known = {**subscription.replayed, **replayed}
            newest = dict(list(known.items())[-2 * REPLAYED_ORDERS :])
            self._rows.mark_greeted(subscription, after_seq, newest)
        if delivery.halt is Halt.TIMED_OUT and subscription.failing_since_ms is None:
            self._rows.mark_failing(subscription, now)
        elif delivery.halt is None and subscription.failing_since_ms is not None:
            self._rows.mark_reachable(subscription)

    def _write_down(
        self,
        wake_ups: Mapping[str, WakeUp],
        read: Read,
        sent: Mapping[str, Mapping[str, int]],
        now: datetime,
    ) -> None:
        cursors = {
            order_id: self._cursors_of(read.orders[order_id], wake_ups, read, by_id)
            for order_id, by_id in sent.items()
        }
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
        now_ms = now.timestamp() * 1000
        try:
            if cursors:
                self._rows.save_cursors(cursors, now)
            if wakes:
                self._rows.remove_wakes(wakes)
            for key, listened_ms in read.deserted:
                if now_ms - listened_ms > DESERTED_AFTER_MS:
                    self._rows.forget_listened(key, listened_ms)
        except StreamUnavailable as error:
            # Another environment may then post some events once more, which clients must expect.
            logger.warning("cursors not written", extra={"reason": str(error)})

    def _cursors_of(
        self,
        rows: OrderRows,
        wake_ups: Mapping[str, WakeUp],
        read: Read,
        sent: Mapping[str, int],
    ) -> dict[str, int]:
        """Return the order's cursors; those of subscriptions that have ended are left out."""
        wake_up = wake_ups.get(ORDER + rows.order_id)
        cursors = {**rows.cursors, **sent}
        if wake_up is not None and wake_up.everyone and rows.user_id not in read.unread_users:
            listening = concerned(wake_up, rows, read.users)
            cursors = {
                subscription.subscription_id: seq
                for subscription in listening
                if (seq := self._memory.reached(subscription, rows.order_id, rows.cursors))
            }
        return dict(sorted(cursors.items(), key=lambda item: item[0] in sent)[-MOST_CURSORS:])
