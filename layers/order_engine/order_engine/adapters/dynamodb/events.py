"""Events and owners: what the writers of events write, and what ``publish`` reads of it."""

import json
from collections.abc import Sequence
from datetime import timedelta
from itertools import batched
from typing import TYPE_CHECKING

from order_engine.adapters.dynamodb.keys import (
    CURSORS_KEY,
    OWNER_KEY,
    Item,
    key,
    number,
    optional_number,
    optional_text,
    text,
)
from order_engine.adapters.dynamodb.subscriptions import sort_in
from order_engine.adapters.dynamodb.table import Table
from order_engine.clock import timestamp_text
from order_engine.streaming.rows import OrderRows, StoredEvent, Subscription, UserRows

if TYPE_CHECKING:
    from order_engine.domain.events import OrderEvent
    from order_engine.domain.orders import Order

EVENT_LIFETIME = timedelta(days=35)
"""An order rests for 30 days at most, so its first event outlives its last one by days."""

MAX_TRANSACTION_ITEMS = 100


class Events(Table):
    """Write events; read what the stream holds about orders and their users."""

    def append(self, events: Sequence["OrderEvent"]) -> None:
        """Write events; writing one again changes nothing.

        An order's first event takes its owner's rows along, in one transaction: whoever sees the
        event can be told who may see it, and a subscriber to all of the user's orders that came
        too late for the event itself finds the order by the user's row. Raises
        ``StreamUnavailable``.
        """
        items = [item for event in events for item in _rows_of(event)]
        for chunk in batched(items, MAX_TRANSACTION_ITEMS):
            if len(chunk) == 1:
                self._call("put_item", TableName=self._table, Item=chunk[0])
            else:
                self._transact([self._put(item) for item in chunk])

    def announce(self, order: "Order", events: Sequence["OrderEvent"]) -> None:
        """Write a new order's owner and first events; raise ``StreamUnavailable``."""
        if not any(event.seq == 1 for event in events):
            raise ValueError(f"order {order.order_id} is announced without its first event")
        self.append(events)

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
            elif sort_key == OWNER_KEY:
                user_id = optional_text(item, "userId")
            elif sort_key == CURSORS_KEY:
                cursors = _cursors(item)
        return OrderRows(order_id, user_id, events, tuple(subscriptions), cursors, tuple(wake_keys))

    def user_rows(self, user_id: str) -> UserRows:
        """Read the subscriptions to all orders of a user, consistently."""
        subscriptions: list[Subscription] = []
        wake_keys: list[str] = []
        for item in self._partition(f"user#{user_id}", "conn#"):
            sort_in(item, subscriptions, wake_keys)
        return UserRows(user_id, tuple(subscriptions), tuple(wake_keys))

    def recent_orders(self, user_id: str, limit: int) -> list[str]:
        """Return the ids of a user's newest orders, oldest first."""
        answer = self._call(
            "query",
            TableName=self._table,
            KeyConditionExpression="pk = :pk AND begins_with(sk, :prefix)",
            ExpressionAttributeValues={":pk": text(f"user#{user_id}"), ":prefix": text("order#")},
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
    partition_key = f"order#{event.order_id}"
    moment = timestamp_text(event.timestamp)
    rows: list[Item] = []
    if event.seq == 1:
        rows += [
            {
                **key(partition_key, OWNER_KEY),
                "userId": text(event.user_id),
                "expiresAtEpoch": expiry,
            },
            {
                **key(f"user#{event.user_id}", f"order#{moment}#{event.order_id}"),
                "orderId": text(event.order_id),
                "expiresAtEpoch": expiry,
            },
        ]
    rows.append(
        {
            **key(partition_key, f"event#{event.seq:010d}"),
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


def _cursors(item: Item) -> dict[str, int]:
    stored: Item = item.get("cursors", {}).get("M", {})
    cursors = {name: optional_number(stored, name) for name in stored}
    return {name: seq for name, seq in cursors.items() if seq is not None}
