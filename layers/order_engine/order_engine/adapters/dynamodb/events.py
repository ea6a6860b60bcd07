"""Events: what their writers write, and what ``publish`` reads of it."""

import json
from collections.abc import Collection, Mapping, Sequence
from datetime import timedelta
from itertools import batched
from typing import TYPE_CHECKING

from order_engine.adapters.dynamodb.keys import (
    CURSORS_KEY,
    LISTENED_KEY,
    Item,
    event_key,
    key,
    number,
    numbers_of,
    optional_number,
    optional_text,
    text,
)
from order_engine.adapters.dynamodb.subscriptions import sort_in
from order_engine.adapters.dynamodb.table import Table
from order_engine.clock import timestamp_text
from order_engine.streaming.rows import (
    Listeners,
    Looks,
    OrderLook,
    OrderRows,
    StoredEvent,
    Subscription,
    UserRows,
)

if TYPE_CHECKING:
    from order_engine.domain.events import OrderEvent

EVENT_LIFETIME = timedelta(days=35)
"""An order rests for 30 days at most, so its first event outlives its last one by days."""

MAX_TRANSACTION_ITEMS = 100


class Events(Table):
    """Write events; read what the stream holds about orders and their users."""

    def append(self, events: Sequence["OrderEvent"]) -> None:
        """Write events; writing one again changes nothing.

        Each event is one write. An order's first event takes the order's place in the list of the
        user's orders along, in one transaction: a subscriber to all of the user's orders that came
        too late for the event finds the order there. Raises ``StreamUnavailable``.
        """
        items = [item for event in events for item in _rows_of(event)]
        for chunk in batched(items, MAX_TRANSACTION_ITEMS):
            if len(chunk) == 1:
                self._call("put_item", TableName=self._table, Item=chunk[0])
            else:
                self._transact([self._put(item) for item in chunk])

    def look(self, last_seqs: Mapping[str, int], user_ids: Collection[str]) -> Looks:
        """Find out in one read, however many orders a user has, whether anybody listens.

        ``last_seqs`` has, for each order, the last event that is known. A read takes 100 keys:
        three for each order, one for each user.
        """
        keys = [key(f"user#{user_id}", LISTENED_KEY) for user_id in user_ids]
        for order_id, seq in last_seqs.items():
            partition_key = f"order#{order_id}"
            keys += [key(partition_key, LISTENED_KEY), key(partition_key, CURSORS_KEY)]
            keys.append(event_key(order_id, seq + 1))
        items = self._get(keys, "pk, sk, listenedMs, cursors")
        return Looks(
            {
                order_id: OrderLook(
                    _listened_ms(items, f"order#{order_id}"),
                    numbers_of(items.get((f"order#{order_id}", CURSORS_KEY), {}), "cursors"),
                    (f"order#{order_id}", f"event#{seq + 1:010d}") in items,
                )
                for order_id, seq in last_seqs.items()
            },
            {
                user_id: listened_ms
                for user_id in user_ids
                if (listened_ms := _listened_ms(items, f"user#{user_id}")) is not None
            },
        )

    def order_listeners(self, order_id: str) -> Listeners:
        """Read the subscriptions to an order, consistently, and none of its events."""
        return self._listeners(f"order#{order_id}")

    def order_rows(self, order_id: str) -> OrderRows:
        """Read all that the stream holds about an order, consistently."""
        events: dict[int, StoredEvent] = {}
        subscriptions: list[Subscription] = []
        cursors: dict[str, int] = {}
        wake_keys: list[str] = []
        user_id: str | None = None
        for item in self._partition(f"order#{order_id}"):
            sort_key = item["sk"]["S"]
            if sort_key.startswith("event#"):
                event = _stored_event(item)
                if event is not None:
                    events[event.seq] = event
                    user_id = user_id or optional_text(item, "userId")
            elif sort_key.startswith("conn#"):
                sort_in(item, subscriptions, wake_keys)
            elif sort_key == CURSORS_KEY:
                cursors = numbers_of(item, "cursors")
        return OrderRows(order_id, user_id, events, tuple(subscriptions), cursors, tuple(wake_keys))

    def user_rows(self, user_id: str) -> UserRows:
        """Read the subscriptions to all orders of a user, consistently."""
        listeners = self._listeners(f"user#{user_id}")
        return UserRows(user_id, listeners.subscriptions, listeners.wake_keys)

    def _listeners(self, partition_key: str) -> Listeners:
        subscriptions: list[Subscription] = []
        wake_keys: list[str] = []
        for item in self._partition(partition_key, "conn#"):
            sort_in(item, subscriptions, wake_keys)
        return Listeners(tuple(subscriptions), tuple(wake_keys))

    def recent_orders(self, user_id: str, limit: int) -> list[str]:
        """Return the ids of a user's newest orders, oldest first."""
        answer = self._call(
            "query",
            TableName=self._table,
            KeyConditionExpression="pk = :pk AND begins_with(sk, :prefix)",
            ExpressionAttributeValues={":pk": text(f"orders#{user_id}"), ":prefix": text("order#")},
            ConsistentRead=True,
            ScanIndexForward=False,
            Limit=limit,
        )
        found = (optional_text(item, "orderId") for item in reversed(answer["Items"]))
        return [order_id for order_id in found if order_id is not None]


def _rows_of(event: "OrderEvent") -> list[Item]:
    # Everything is a function of the event, the expiry too: writing it again is no change, and
    # DynamoDB puts no record of it into the stream.
    expiry = number(int((event.timestamp + EVENT_LIFETIME).timestamp()))
    moment = timestamp_text(event.timestamp)
    rows: list[Item] = []
    if event.seq == 1:
        rows.append(
            {
                **key(f"orders#{event.user_id}", f"order#{moment}#{event.order_id}"),
                "orderId": text(event.order_id),
                "expiresAtEpoch": expiry,
            }
        )
    rows.append(
        {
            **event_key(event.order_id, event.seq),
            "event": text(json.dumps(event.to_json_dict(), separators=(",", ":"))),
            "seq": number(event.seq),
            "orderId": text(event.order_id),
            "userId": text(event.user_id),
            "status": text(event.status),
            "timestamp": text(moment),
            "expiresAtEpoch": expiry,
        }
    )
    return rows


def _stored_event(item: Item) -> StoredEvent | None:
    body = optional_text(item, "event")
    seq = item["sk"]["S"].removeprefix("event#")
    if not body or not seq.isdecimal():
        return None
    return StoredEvent(int(seq), body, optional_text(item, "timestamp"))


def _listened_ms(items: Mapping[tuple[str, str], Item], partition_key: str) -> int | None:
    item = items.get((partition_key, LISTENED_KEY))
    return None if item is None else optional_number(item, "listenedMs") or 0
