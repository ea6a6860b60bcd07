"""Read what a batch of stream records needs, and nothing for events that nobody listens to.

One look at the orders and users of a batch tells whether anybody listens. For those who do, their
subscriptions are read. Subscribers who have got all that came before are served with the events
that the records show; only for one who is late, or who has just come, an order's rows are read.
"""

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Executor, Future
from dataclasses import dataclass, field

from order_engine.errors import StreamUnavailable
from order_engine.streaming.memory import Memory
from order_engine.streaming.ports import Rows
from order_engine.streaming.report import Report
from order_engine.streaming.rows import Listeners, Looks, OrderLook, OrderRows, UserRows
from order_engine.streaming.wake_ups import ORDER, USER, WakeUp, concerned

logger = logging.getLogger(__name__)

REPLAYED_ORDERS = 50
"""How many of a user's newest orders a new subscriber to all of them gets from their beginning."""


@dataclass(slots=True)
class Read:
    """What was read for a batch; what could not be read is missing.

    ``listened`` has, by partition key, when somebody last began to listen, of those that a look
    was taken at. ``unread_users`` are those whose subscriptions could not be read.
    """

    orders: dict[str, OrderRows] = field(default_factory=dict)
    users: dict[str, UserRows] = field(default_factory=dict)
    recent: dict[str, list[str]] = field(default_factory=dict)
    listened: dict[str, int] = field(default_factory=dict)
    unread_users: set[str] = field(default_factory=set)

    @property
    def deserted(self) -> Iterator[tuple[str, int]]:
        """Return the partitions to which somebody listened, and nobody does any more."""
        for key, listened_ms in self.listened.items():
            of_order = key.startswith(ORDER)
            rows: OrderRows | UserRows | None = (
                self.orders.get(key.removeprefix(ORDER))
                if of_order
                else self.users.get(key.removeprefix(USER))
            )
            if rows is not None and not rows.subscriptions and not rows.wake_keys:
                yield key, listened_ms


class Reading:
    """Read for one batch after the other."""

    def __init__(self, rows: Rows, memory: Memory, threads: Executor) -> None:
        self._rows = rows
        self._memory = memory
        self._threads = threads

    def read(self, wake_ups: Mapping[str, WakeUp], report: Report) -> Read:
        """Read each order, user and list of orders at most once; name in the report what failed."""
        read = Read()
        of_orders = {
            key.removeprefix(ORDER): wake_up
            for key, wake_up in wake_ups.items()
            if key.startswith(ORDER)
        }
        report.order_ids |= set(of_orders)
        shown = {key: wake_up for key, wake_up in of_orders.items() if wake_up.shows_all}
        user_ids = [key.removeprefix(USER) for key in wake_ups if key.startswith(USER)]

        orders = self._submit(self._rows.order_rows, of_orders.keys() - shown.keys())
        users = self._submit(self._rows.user_rows, user_ids)
        recent = self._submit(self._recent_orders, user_ids)
        looks = self._look(shown, report)
        read.orders = _collect(orders, lambda key: report.failed.add(ORDER + key))
        read.users = _collect(users, lambda key: report.failed.add(USER + key))
        read.recent = _collect(recent, lambda key: report.failed.add(USER + key))
        read.unread_users |= users.keys() - read.users.keys()

        self._read_listeners(of_orders, shown, looks, read, report)
        self._read_late(shown, looks, read, report)
        return read

    def _look(self, shown: Mapping[str, WakeUp], report: Report) -> Looks:
        if not shown:
            return Looks()
        last_seqs = {key: max(wake_up.images) for key, wake_up in shown.items()}
        owners = {wake_up.user_id for wake_up in shown.values() if wake_up.user_id is not None}
        try:
            return self._rows.look(last_seqs, sorted(owners))
        except StreamUnavailable as error:
            logger.warning("rows not read", extra={"reason": str(error)})
            report.failed |= {ORDER + key for key in shown}
            return Looks()

    def _read_listeners(
        self,
        of_orders: Mapping[str, WakeUp],
        shown: Mapping[str, WakeUp],
        looks: Looks,
        read: Read,
        report: Report,
    ) -> None:
        """Read who listens to the orders and to all orders of their users, and what is replayed."""
        looked_at = {key: shown[key] for key in looks.orders}
        listened = [key for key, look in looks.orders.items() if look.listened_ms is not None]
        owners = _grouped(
            [
                *(
                    (wake_up.user_id, key)
                    for key, wake_up in looked_at.items()
                    if wake_up.user_id in looks.users
                ),
                *(
                    (rows.user_id, key)
                    for key, rows in read.orders.items()
                    if of_orders[key].concerns_users
                ),
            ]
        )
        replayed = _grouped(
            (order_id, user_id)
            for user_id, order_ids in read.recent.items()
            for order_id in order_ids
        )

        listeners = self._submit(self._rows.order_listeners, listened)
        users = self._submit(self._rows.user_rows, owners.keys() - read.users.keys())
        orders = self._submit(self._rows.order_rows, replayed.keys() - read.orders.keys())

        def fail_orders(user_id: str) -> None:
            read.unread_users.add(user_id)
            report.failed.update(ORDER + key for key in owners[user_id])

        def fail_users(order_id: str) -> None:
            report.failed.update(USER + key for key in replayed[order_id])

        found = _collect(listeners, lambda key: report.failed.add(ORDER + key))
        read.users |= _collect(users, fail_orders)
        read.orders |= _collect(orders, fail_users)
        unheard = {key: Listeners() for key in looked_at.keys() - set(listened)}
        for key, of_order in (unheard | found).items():
            read.orders.setdefault(
                key, _shown_rows(key, looked_at[key], looks.orders[key], of_order)
            )
        for key in found:
            read.listened[ORDER + key] = looks.orders[key].listened_ms or 0
        read.listened |= {
            USER + key: listened_ms for key, listened_ms in looks.users.items() if key in users
        }

    def _read_late(
        self, shown: Mapping[str, WakeUp], looks: Looks, read: Read, report: Report
    ) -> None:
        """Read the rows of orders of which a subscriber lacks more than the records show."""
        late = [
            key
            for key, look in looks.orders.items()
            if key in read.orders
            and read.orders[key].events is shown[key].images
            and self._is_late(read.orders[key], shown[key], look, read.users)
        ]
        orders = self._submit(self._rows.order_rows, late)
        found = _collect(orders, lambda key: report.failed.add(ORDER + key))
        for key in late:
            if key in found:
                read.orders[key] = found[key]
            else:
                del read.orders[key]

    def _is_late(
        self,
        rows: OrderRows,
        wake_up: WakeUp,
        look: OrderLook,
        users: Mapping[str, UserRows],
    ) -> bool:
        last = max(wake_up.images)
        for subscription in concerned(wake_up, rows, users):
            # The next event is there already: it may have waited for the ones in this batch.
            if look.has_more:
                return True
            first = self._memory.reached(subscription, rows.order_id, rows.cursors) + 1
            if any(seq not in rows.events for seq in range(first, last + 1)):
                return True
        return False

    def _recent_orders(self, user_id: str) -> list[str]:
        return self._rows.recent_orders(user_id, REPLAYED_ORDERS)

    def _submit[K, V](self, read: Callable[[K], V], keys: Iterable[K]) -> dict[K, Future[V]]:
        return {key: self._threads.submit(read, key) for key in keys}


def _grouped(pairs: Iterable[tuple[str | None, str]]) -> dict[str, list[str]]:
    groups: dict[str, list[str]] = {}
    for key, value in pairs:
        if key is not None:
            groups.setdefault(key, []).append(value)
    return groups


def _shown_rows(order_id: str, wake_up: WakeUp, look: OrderLook, listeners: Listeners) -> OrderRows:
    return OrderRows(
        order_id,
        wake_up.user_id,
        wake_up.images,
        listeners.subscriptions,
        look.cursors,
        listeners.wake_keys,
    )


def _collect[K, V](futures: Mapping[K, Future[V]], fail: Callable[[K], None]) -> dict[K, V]:
    found: dict[K, V] = {}
    for key, future in futures.items():
        try:
            found[key] = future.result()
        except StreamUnavailable as error:
            logger.warning("rows not read", extra={"reason": str(error)})
            fail(key)
    return found
