"""The order stream: one DynamoDB table of events, owners, subscriptions and tickets.

==========================  ==============================  =======================================
pk                          sk                              holds
==========================  ==============================  =======================================
``order#<orderId>``         ``event#<seq, 10 digits>``      an event, exactly as clients get it
``order#<orderId>``         ``owner``                       who may subscribe
``order#<orderId>``         ``conn#<connectionId>``         a subscription to the order
``order#<orderId>``         ``cursors``                     what was delivered, per subscription
``user#<userId>``           ``conn#<connectionId>``         a subscription to all the user's orders
``user#<userId>``           ``order#<time>#<orderId>``      the user's orders, for replay
either                      ``conn#<id>#again#<nonce>``     wakes ``publish`` for one connection
``connection#<id>``         ``connection``                  who has connected
``ticket#<digest>``         ``ticket``                      a stream ticket
==========================  ==============================  =======================================
"""

import hashlib
import json
import random
import secrets
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from datetime import datetime, timedelta
from itertools import batched
from typing import TYPE_CHECKING, Any

from order_engine.adapters import aws
from order_engine.clock import timestamp_text
from order_engine.errors import StreamUnavailable
from order_engine.streaming.rows import (
    TICKET_LIFETIME,
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

if TYPE_CHECKING:
    from order_engine.domain.events import OrderEvent
    from order_engine.domain.orders import Order

EVENT_LIFETIME = timedelta(days=35)
"""An order rests for 30 days at most, so its first event outlives its last one by days."""

CONNECTION_LIFETIME = timedelta(hours=2, minutes=15)
"""API Gateway closes a WebSocket after 2 hours; what ``$disconnect`` missed goes by TTL."""


MAX_SUBSCRIPTIONS = 100
"""Per connection; each costs a row and a post per event, and a user's stream needs only one."""

MAX_TRANSACTION_ITEMS = 100
MAX_BATCH_ITEMS = 25
MAX_BATCH_ATTEMPTS = 5

CURSORS_KEY = "cursors"
OWNER_KEY = "owner"

MAX_TRANSACTION_ATTEMPTS = 6

CONDITION_FAILED = "ConditionalCheckFailed"
_FAULTS_OF_THE_REQUEST = frozenset({"ValidationException", "SerializationException"})

type Item = dict[str, dict[str, Any]]


class _ConditionsRefusedError(Exception):
    """Report, per action, why a conditional write was not carried out."""

    def __init__(self, codes: Sequence[str]) -> None:
        super().__init__(", ".join(codes))
        self.codes = tuple(codes)


class _ConflictError(StreamUnavailable):
    """Report that another transaction on the same rows was under way."""


class OrderStream:
    """Write events for the subscribers, and keep who subscribes to what.

    Implements the port ``EventStream`` and what ``subscriptions`` and ``publishing`` need. Every
    method raises ``StreamUnavailable`` when DynamoDB does not serve, whatever the reason: what is
    refused today (throttling, an outage, a permission) may be served when the call is repeated.
    """

    def __init__(self, table: str, client: Callable[[], Any] | None = None) -> None:
        self._table = table
        self._make_client = client or (lambda: aws.client("dynamodb"))
        self._made_client: Any = None
        self._lock = threading.Lock()

    # What the writers of events need

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

    # Tickets

    def issue_ticket(self, user_id: str, order_id: str | None, now: datetime) -> str:
        """Store a ticket that opens one stream within 60 s, and return its secret.

        Only a digest is stored, so that neither the table nor its stream's records can open
        anything. Raises ``StreamUnavailable``.
        """
        ticket = secrets.token_urlsafe(32)
        item = {
            **_ticket_key(ticket),
            "userId": _text(user_id),
            "expiresAtEpoch": _number(int((now + TICKET_LIFETIME).timestamp())),
        }
        if order_id is not None:
            item["orderId"] = _text(order_id)
        self._call("put_item", TableName=self._table, Item=item)
        return ticket

    def redeem_ticket(self, ticket: str, now: datetime) -> Ticket | None:
        """Use a ticket up; ``None`` for one that is unknown, used or too old.

        The deletion is what redeems it, so of several that try only one succeeds. The age is
        checked here because TTL deletes late. Raises ``StreamUnavailable``.
        """
        answer = self._call(
            "delete_item", TableName=self._table, Key=_ticket_key(ticket), ReturnValues="ALL_OLD"
        )
        item: Item | None = answer.get("Attributes")
        if not item or int(item["expiresAtEpoch"]["N"]) <= now.timestamp():
            return None
        return Ticket(user_id=item["userId"]["S"], order_id=_optional_text(item, "orderId"))

    # Connections and their subscriptions

    def register_connection(
        self, connection: Connection, topic: Topic | None, after_seq: int, now: datetime
    ) -> None:
        """Write down a connection that is being opened and what it listens to at once.

        Raises ``StreamUnavailable``.
        """
        expiry = _connection_expiry(now)
        row = {
            **_connection_key(connection.connection_id),
            "connectionId": _text(connection.connection_id),
            "userId": _text(connection.user_id),
            "subscriptions": _number(0 if topic is None else 1),
            "expiresAtEpoch": expiry,
        }
        if connection.order_id is not None:
            row["orderId"] = _text(connection.order_id)
        items = [row]
        if topic is not None:
            subscription = _subscription_item(
                connection.connection_id,
                topic,
                connection.user_id,
                after_seq,
                subscribed_message(topic, after_seq),
                expiry,
            )
            subscription["connectingSinceMs"] = _number(_milliseconds(now))
            items.append(subscription)
        self._write_batch([{"PutRequest": {"Item": item}} for item in items])

    def connection_user(self, connection_id: str) -> str | None:
        """Return the user on whose behalf a connection may act, ``None`` when there is none.

        That is so for a nameless or unknown connection, and for one opened with the ticket of a
        single order: such a ticket may be passed on to show the order, not to place others.
        Raises ``StreamUnavailable``.
        """
        connection, _ = self.connection_and_owner(connection_id, None)
        if connection is None or connection.order_id is not None:
            return None
        return connection.user_id or None

    def connection_and_owner(
        self, connection_id: str, order_id: str | None
    ) -> tuple[Connection | None, str | None]:
        """Return a connection and an order's owner, each ``None`` when there is no such row."""
        keys = [_connection_key(connection_id)]
        if order_id is not None:
            keys.append(_key(f"order#{order_id}", OWNER_KEY))
        items = self._get(keys)
        row = items.get((f"connection#{connection_id}", "connection"))
        owner = items.get((f"order#{order_id}", OWNER_KEY))
        connection = row and Connection(
            connection_id, row["userId"]["S"], _optional_text(row, "orderId")
        )
        return connection or None, owner["userId"]["S"] if owner else None

    def owner_of(self, order_id: str) -> str | None:
        """Return the user whose order it is, ``None`` for an order that is not known (yet)."""
        items = self._get([_key(f"order#{order_id}", OWNER_KEY)])
        return next((item["userId"]["S"] for item in items.values()), None)

    def subscribe_connection(
        self,
        connection_id: str,
        order_id: str,
        user_id: str,
        after_seq: int,
        greeting: Mapping[str, Any] | None,
        now: datetime,
    ) -> SubscriptionOutcome:
        """Subscribe an open connection to an order whose owner has been checked.

        ``greeting`` is the message that it gets first (``subscribed`` when ``None``), before the
        events above ``after_seq``. Raises ``StreamUnavailable``.
        """
        topic = Topic(order_id=order_id)
        message = subscribed_message(topic, after_seq) if greeting is None else greeting
        return self.subscribe(connection_id, topic, user_id, after_seq, message, now)

    def subscribe(
        self,
        connection_id: str,
        topic: Topic,
        user_id: str,
        after_seq: int,
        greeting: Mapping[str, Any],
        now: datetime,
    ) -> SubscriptionOutcome:
        """Write a subscription, or renew it: then ``greeting`` and the events are sent again.

        Raises ``StreamUnavailable``.
        """
        item = _subscription_item(
            connection_id, topic, user_id, after_seq, greeting, _connection_expiry(now)
        )
        count_up = {
            "TableName": self._table,
            "Key": _connection_key(connection_id),
            "UpdateExpression": "ADD subscriptions :one",
            "ConditionExpression": "attribute_exists(pk) AND subscriptions < :most",
            "ExpressionAttributeValues": {
                ":one": _number(1),
                ":most": _number(MAX_SUBSCRIPTIONS),
            },
        }
        put = self._put(item, ConditionExpression="attribute_not_exists(pk)")
        try:
            self._transact([put, {"Update": count_up}])
        except _ConditionsRefusedError as refused:
            if refused.codes[0] == CONDITION_FAILED:
                # Replacing the row is no insertion, which publish would see: a second row is one.
                wake = _wake_item(topic.partition_key, connection_id, now)
                self._transact([self._put(item), self._put(wake)])
                return SubscriptionOutcome.SUBSCRIBED
            connection, _ = self.connection_and_owner(connection_id, None)
            if connection is None:
                return SubscriptionOutcome.CONNECTION_UNKNOWN
            return SubscriptionOutcome.TOO_MANY
        return SubscriptionOutcome.SUBSCRIBED

    def unsubscribe(self, connection_id: str, topic: Topic) -> bool:
        """Delete a subscription; false when there was none. Raises ``StreamUnavailable``."""
        answer = self._call(
            "delete_item",
            TableName=self._table,
            Key=_key(topic.partition_key, f"conn#{connection_id}"),
            ReturnValues="ALL_OLD",
        )
        if not answer.get("Attributes"):
            return False
        self._update(
            _connection_key(connection_id),
            "ADD subscriptions :less",
            "attribute_exists(pk)",
            {":less": _number(-1)},
        )
        return True

    def forget_connection(self, connection_id: str) -> int:
        """Delete all rows of a connection and return how many; none is fine.

        Raises ``StreamUnavailable``.
        """
        items = self._query(
            IndexName="byConnection",
            KeyConditionExpression="connectionId = :id",
            ExpressionAttributeValues={":id": _text(connection_id)},
        )
        keys = {(item["pk"]["S"], item["sk"]["S"]) for item in items}
        self._write_batch([{"DeleteRequest": {"Key": _key(*key)}} for key in sorted(keys)])
        return len(keys)

    # What publish needs

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
                    user_id = user_id or _optional_text(item, "userId")
            elif sort_key.startswith("conn#"):
                _sort_in(item, subscriptions, wake_keys)
            elif sort_key == OWNER_KEY:
                user_id = _optional_text(item, "userId")
            elif sort_key == CURSORS_KEY:
                cursors = _cursors(item)
        return OrderRows(order_id, user_id, events, tuple(subscriptions), cursors, tuple(wake_keys))

    def user_rows(self, user_id: str) -> UserRows:
        """Read the subscriptions to all orders of a user, consistently."""
        subscriptions: list[Subscription] = []
        wake_keys: list[str] = []
        for item in self._partition(f"user#{user_id}", "conn#"):
            _sort_in(item, subscriptions, wake_keys)
        return UserRows(user_id, tuple(subscriptions), tuple(wake_keys))

    def recent_orders(self, user_id: str, limit: int) -> list[str]:
        """Return the ids of a user's newest orders, oldest first."""
        answer = self._call(
            "query",
            TableName=self._table,
            KeyConditionExpression="pk = :pk AND begins_with(sk, :prefix)",
            ExpressionAttributeValues={":pk": _text(f"user#{user_id}"), ":prefix": _text("order#")},
            ConsistentRead=True,
            ScanIndexForward=False,
            Limit=limit,
        )
        found = (_optional_text(item, "orderId") for item in reversed(answer["Items"]))
        return [order_id for order_id in found if order_id is not None]

    def mark_greeted(self, subscription: Subscription, after_seq: int) -> None:
        """Note that the greeting and the events up to ``after_seq`` have gone out."""
        self._update_subscription(
            subscription,
            "SET afterSeq = :seq REMOVE greeting, connectingSinceMs",
            {":seq": _number(after_seq)},
        )

    def mark_failing(self, subscription: Subscription, now: datetime) -> None:
        """Note since when posts to a subscriber time out."""
        self._update_subscription(
            subscription, "SET failingSinceMs = :now", {":now": _number(_milliseconds(now))}
        )

    def mark_reachable(self, subscription: Subscription) -> None:
        """Note that a subscriber can be posted to again."""
        self._update_subscription(subscription, "REMOVE failingSinceMs", {})

    def remove_subscription(self, subscription: Subscription) -> None:
        """Delete the row of a subscriber that has gone."""
        self._call(
            "delete_item",
            TableName=self._table,
            Key=_key(subscription.partition_key, f"conn#{subscription.connection_id}"),
        )

    def wake_again(self, wakes: Sequence[tuple[str, str]], now: datetime) -> None:
        """Have ``publish`` woken again for (partition key, connection id) pairs."""
        self._write_batch(
            [{"PutRequest": {"Item": _wake_item(*wake, now)}} for wake in sorted(set(wakes))]
        )

    def remove_wakes(self, keys: Sequence[tuple[str, str]]) -> None:
        """Delete rows that have done their waking."""
        self._write_batch([{"DeleteRequest": {"Key": _key(*key)}} for key in sorted(set(keys))])

    def save_cursors(self, cursors: Mapping[str, Mapping[str, int]], now: datetime) -> None:
        """Write down, per order, how far each subscription has got."""
        expiry = _connection_expiry(now)
        self._write_batch(
            [
                {
                    "PutRequest": {
                        "Item": {
                            **_key(f"order#{order_id}", CURSORS_KEY),
                            "cursors": {"M": {key: _number(seq) for key, seq in by_id.items()}},
                            "expiresAtEpoch": expiry,
                        }
                    }
                }
                for order_id, by_id in cursors.items()
            ]
        )

    # DynamoDB

    def _client(self) -> Any:
        # A cold publish reads many orders at once, and each client made costs 0.2 s.
        with self._lock:
            if self._made_client is None:
                self._made_client = self._make_client()
            return self._made_client

    def _call(self, operation: str, **parameters: Any) -> dict[str, Any]:
        from botocore.exceptions import (
            ClientError,
            ConnectionError,  # noqa: A004
            HTTPClientError,
        )
        from botocore.parsers import ResponseParserError

        try:
            answer: dict[str, Any] = getattr(self._client(), operation)(**parameters)
        except ClientError as error:
            if error.response["Error"]["Code"] in _FAULTS_OF_THE_REQUEST:
                raise
            codes = _refusals(error.response)
            if CONDITION_FAILED in codes:
                raise _ConditionsRefusedError(codes) from error
            if "TransactionConflict" in codes:
                raise _ConflictError(f"{operation}: {error}") from error
            raise StreamUnavailable(f"{operation}: {error}") from error
        except (ConnectionError, HTTPClientError, ResponseParserError) as error:
            raise StreamUnavailable(f"{operation}: {error}") from error
        return answer

    def _get(self, keys: Sequence[Item]) -> dict[tuple[str, str], Item]:
        found: dict[tuple[str, str], Item] = {}
        request = {self._table: {"Keys": list(keys), "ConsistentRead": True}}
        for _ in range(MAX_BATCH_ATTEMPTS):
            answer = self._call("batch_get_item", RequestItems=request)
            for item in answer["Responses"].get(self._table, []):
                found[item["pk"]["S"], item["sk"]["S"]] = item
            request = answer.get("UnprocessedKeys") or {}
            if not request:
                return found
        raise StreamUnavailable("batch_get_item: left keys unprocessed")

    def _partition(self, partition_key: str, prefix: str | None = None) -> Iterator[Item]:
        condition, values = "pk = :pk", {":pk": _text(partition_key)}
        if prefix is not None:
            condition += " AND begins_with(sk, :prefix)"
            values[":prefix"] = _text(prefix)
        return self._query(
            KeyConditionExpression=condition, ExpressionAttributeValues=values, ConsistentRead=True
        )

    def _query(self, **parameters: Any) -> Iterator[Item]:
        position: dict[str, Any] = {}
        while True:
            answer = self._call("query", TableName=self._table, **parameters, **position)
            yield from answer["Items"]
            if not answer.get("LastEvaluatedKey"):
                return
            position = {"ExclusiveStartKey": answer["LastEvaluatedKey"]}

    def _write_batch(self, requests: Sequence[Mapping[str, Any]]) -> None:
        for chunk in batched(requests, MAX_BATCH_ITEMS):
            remaining: dict[str, Any] = {self._table: list(chunk)}
            for _ in range(MAX_BATCH_ATTEMPTS):
                answer = self._call("batch_write_item", RequestItems=remaining)
                remaining = answer.get("UnprocessedItems") or {}
                if not remaining:
                    break
            else:
                raise StreamUnavailable("batch_write_item: left items unprocessed")

    def _put(self, item: Item, **more: Any) -> dict[str, Any]:
        return {"Put": {"TableName": self._table, "Item": item, **more}}

    def _transact(self, actions: Sequence[Mapping[str, Any]]) -> None:
        for attempt in range(MAX_TRANSACTION_ATTEMPTS):
            try:
                self._call("transact_write_items", TransactItems=list(actions))
            except _ConflictError:
                # Two subscriptions of one connection count it up at once: one has to try again.
                if attempt == MAX_TRANSACTION_ATTEMPTS - 1:
                    raise
                time.sleep(random.uniform(0.01, 0.05) * 2**attempt)  # noqa: S311
            else:
                return

    def _update_subscription(
        self, subscription: Subscription, expression: str, values: Mapping[str, Any]
    ) -> None:
        # Without the condition, an update would bring back a row that was deleted meanwhile.
        self._update(
            _key(subscription.partition_key, f"conn#{subscription.connection_id}"),
            expression,
            "subscriptionId = :id",
            {**values, ":id": _text(subscription.subscription_id)},
        )

    def _update(
        self, key: Item, expression: str, condition: str, values: Mapping[str, Any]
    ) -> None:
        with suppress(_ConditionsRefusedError):
            self._call(
                "update_item",
                TableName=self._table,
                Key=key,
                UpdateExpression=expression,
                ConditionExpression=condition,
                ExpressionAttributeValues=dict(values),
            )


def _refusals(response: Mapping[str, Any]) -> list[str]:
    if response["Error"]["Code"] == "ConditionalCheckFailedException":
        return [CONDITION_FAILED]
    return [reason.get("Code", "None") for reason in response.get("CancellationReasons", [])]


def _rows_of(event: "OrderEvent") -> list[Item]:
    # Everything is a function of the event, the expiry too: writing it again is no change, and
    # DynamoDB puts no record of it into the stream.
    expiry = _number(int((event.timestamp + EVENT_LIFETIME).timestamp()))
    partition_key = f"order#{event.order_id}"
    moment = timestamp_text(event.timestamp)
    rows: list[Item] = []
    if event.seq == 1:
        rows += [
            {
                **_key(partition_key, OWNER_KEY),
                "userId": _text(event.user_id),
                "expiresAtEpoch": expiry,
            },
            {
                **_key(f"user#{event.user_id}", f"order#{moment}#{event.order_id}"),
                "orderId": _text(event.order_id),
                "expiresAtEpoch": expiry,
            },
        ]
    rows.append(
        {
            **_key(partition_key, f"event#{event.seq:010d}"),
            "event": _text(json.dumps(event.to_json_dict(), separators=(",", ":"))),
            "seq": _number(event.seq),
            "orderId": _text(event.order_id),
            "userId": _text(event.user_id),
            "status": _text(event.status),
            "timestamp": _text(moment),
            "expiresAtEpoch": expiry,
        }
    )
    return rows


def _subscription_item(
    connection_id: str,
    topic: Topic,
    user_id: str,
    after_seq: int,
    greeting: Mapping[str, Any],
    expiry: dict[str, str],
) -> Item:
    return {
        **_key(topic.partition_key, f"conn#{connection_id}"),
        "connectionId": _text(connection_id),
        "subscriptionId": _text(secrets.token_hex(6)),
        "afterSeq": _number(after_seq),
        "userId": _text(user_id),
        "greeting": _text(json.dumps(greeting, separators=(",", ":"))),
        "expiresAtEpoch": expiry,
    }


def _wake_item(partition_key: str, connection_id: str, now: datetime) -> Item:
    return {
        **_key(partition_key, f"conn#{connection_id}#again#{secrets.token_hex(6)}"),
        "connectionId": _text(connection_id),
        "expiresAtEpoch": _connection_expiry(now),
    }


def _sort_in(item: Item, subscriptions: list[Subscription], wake_keys: list[str]) -> None:
    sort_key = item["sk"]["S"]
    connection_id, _, again = sort_key.removeprefix("conn#").partition("#")
    if again:
        wake_keys.append(sort_key)
        return
    subscriptions.append(
        Subscription(
            partition_key=item["pk"]["S"],
            connection_id=connection_id,
            subscription_id=_optional_text(item, "subscriptionId") or connection_id,
            after_seq=_optional_number(item, "afterSeq") or 0,
            greeting=_optional_text(item, "greeting"),
            connecting_since_ms=_optional_number(item, "connectingSinceMs"),
            failing_since_ms=_optional_number(item, "failingSinceMs"),
        )
    )


def _stored_event(item: Item) -> StoredEvent | None:
    body = _optional_text(item, "event")
    seq = item["sk"]["S"].removeprefix("event#")
    if not body or not seq.isdecimal():
        return None
    return StoredEvent(int(seq), body, _optional_text(item, "timestamp"))


def _cursors(item: Item) -> dict[str, int]:
    stored: Item = item.get("cursors", {}).get("M", {})
    cursors = {key: _optional_number(stored, key) for key in stored}
    return {key: seq for key, seq in cursors.items() if seq is not None}


def _ticket_key(ticket: str) -> Item:
    digest = hashlib.sha256(ticket.encode("utf-8", "replace")).hexdigest()
    return _key(f"ticket#{digest}", "ticket")


def _connection_key(connection_id: str) -> Item:
    return _key(f"connection#{connection_id}", "connection")


def _connection_expiry(now: datetime) -> dict[str, str]:
    return _number(int((now + CONNECTION_LIFETIME).timestamp()))


def _milliseconds(moment: datetime) -> int:
    return int(moment.timestamp() * 1000)


def _key(partition_key: str, sort_key: str) -> Item:
    return {"pk": _text(partition_key), "sk": _text(sort_key)}


def _text(value: str) -> dict[str, str]:
    return {"S": str(value)}


def _number(value: int) -> dict[str, str]:
    return {"N": str(value)}


def _optional_text(item: Item, name: str) -> str | None:
    return item[name].get("S") if name in item else None


def _optional_number(item: Item, name: str) -> int | None:
    text = item[name].get("N") if name in item else None
    return int(text) if text is not None and text.lstrip("-").isdecimal() else None
