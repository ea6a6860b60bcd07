"""Connections, and what they subscribe to."""

import json
import secrets
from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any

from order_engine.adapters.dynamodb.keys import (
    LISTENED_KEY,
    Item,
    connection_expiry,
    connection_key,
    event_key,
    key,
    milliseconds,
    number,
    numbers_of,
    optional_number,
    optional_text,
    text,
)
from order_engine.adapters.dynamodb.table import CONDITION_FAILED, ConditionsRefusedError, Table
from order_engine.streaming.rows import (
    Connection,
    Subscription,
    SubscriptionOutcome,
    Topic,
    subscribed_message,
)

MAX_SUBSCRIPTIONS = 100
"""Per connection; each costs a row and a post per event, and a user's stream needs only one."""


class Subscriptions(Table):
    """Keep connections and their subscriptions."""

    def register_connection(
        self, connection: Connection, topic: Topic | None, after_seq: int, now: datetime
    ) -> None:
        """Write down a connection that is being opened and what it listens to at once.

        Raises ``StreamUnavailable``.
        """
        expiry = connection_expiry(now)
        row = {
            **connection_key(connection.connection_id),
            "connectionId": text(connection.connection_id),
            "userId": text(connection.user_id),
            "subscriptions": number(0 if topic is None else 1),
            "expiresAtEpoch": expiry,
        }
        if connection.order_id is not None:
            row["orderId"] = text(connection.order_id)
        items = [row]
        if connection.user_id:
            items.append(
                {
                    **key(
                        f"connections#{connection.user_id}",
                        f"connection#{connection.connection_id}",
                    ),
                    "connectionId": text(connection.connection_id),
                    "expiresAtEpoch": expiry,
                }
            )
        if topic is not None:
            self._mark_listened(topic, now)
            subscription = _subscription_item(
                connection.connection_id,
                topic,
                connection.user_id,
                after_seq,
                subscribed_message(topic, after_seq),
                expiry,
            )
            subscription["connectingSinceMs"] = number(milliseconds(now))
            items.append(subscription)
        self._write_batch([{"PutRequest": {"Item": item}} for item in items])

    def connections_of(self, user_id: str, but: str, now: datetime) -> int:
        """Count a user's connections besides one, consistently; raise ``StreamUnavailable``.

        Those whose ``$disconnect`` never came count until API Gateway must have closed them.
        """
        items = self._partition(f"connections#{user_id}", "connection#")
        return sum(
            item["sk"]["S"] != f"connection#{but}"
            and (optional_number(item, "expiresAtEpoch") or 0) > now.timestamp()
            for item in items
        )

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
        keys = [connection_key(connection_id)]
        if order_id is not None:
            keys.append(event_key(order_id, 1))
        items = self._get(keys)
        row = items.pop((f"connection#{connection_id}", "connection"), None)
        connection = row and Connection(
            connection_id, row["userId"]["S"], optional_text(row, "orderId")
        )
        return connection or None, _owner(items.values())

    def owner_of(self, order_id: str) -> str | None:
        """Return the user whose order it is, ``None`` for an order that is not known (yet)."""
        return _owner(self._get([event_key(order_id, 1)], "pk, sk, userId").values())

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
            connection_id, topic, user_id, after_seq, greeting, connection_expiry(now)
        )
        count_up = {
            "TableName": self._table,
            "Key": connection_key(connection_id),
            "UpdateExpression": "ADD subscriptions :one",
            "ConditionExpression": "attribute_exists(pk) AND subscriptions < :most",
            "ExpressionAttributeValues": {
                ":one": number(1),
                ":most": number(MAX_SUBSCRIPTIONS),
            },
        }
        put = self._put(item, ConditionExpression="attribute_not_exists(pk)")
        self._mark_listened(topic, now)
        try:
            self._transact([put, {"Update": count_up}])
        except ConditionsRefusedError as refused:
            if refused.codes[0] == CONDITION_FAILED:
                # Replacing the row is no insertion, which publish would see: a second row is one.
                wake = wake_item(topic.partition_key, connection_id, now)
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
            Key=key(topic.partition_key, f"conn#{connection_id}"),
            ReturnValues="ALL_OLD",
        )
        if not answer.get("Attributes"):
            return False
        self._update(
            connection_key(connection_id),
            "ADD subscriptions :less",
            "attribute_exists(pk)",
            {":less": number(-1)},
        )
        return True

    def forget_connection(self, connection_id: str) -> int:
        """Delete all rows of a connection and return how many; none is fine.

        Raises ``StreamUnavailable``.
        """
        items = self._query(
            IndexName="byConnection",
            KeyConditionExpression="connectionId = :id",
            ExpressionAttributeValues={":id": text(connection_id)},
        )
        keys = {(item["pk"]["S"], item["sk"]["S"]) for item in items}
        self._write_batch([{"DeleteRequest": {"Key": key(*row)}} for row in sorted(keys)])
        return len(keys)

    def _mark_listened(self, topic: Topic, now: datetime) -> None:
        # Before the subscription itself: one that nobody is told of would hear nothing.
        mark = {
            **key(topic.partition_key, LISTENED_KEY),
            "listenedMs": number(milliseconds(now)),
            "expiresAtEpoch": connection_expiry(now),
        }
        self._call("put_item", TableName=self._table, Item=mark)


def _owner(items: Iterable[Item]) -> str | None:
    """Return whose order it is, as its first event tells, if that is there."""
    return next((item["userId"]["S"] for item in items), None)


def _subscription_item(
    connection_id: str,
    topic: Topic,
    user_id: str,
    after_seq: int,
    greeting: Mapping[str, Any],
    expiry: dict[str, str],
) -> Item:
    return {
        **key(topic.partition_key, f"conn#{connection_id}"),
        "connectionId": text(connection_id),
        "subscriptionId": text(secrets.token_hex(6)),
        "afterSeq": number(after_seq),
        "userId": text(user_id),
        "greeting": text(json.dumps(greeting, separators=(",", ":"))),
        "expiresAtEpoch": expiry,
    }


def wake_item(partition_key: str, connection_id: str, now: datetime) -> Item:
    """Return a row whose insertion wakes ``publish`` for one connection."""
    return {
        **key(partition_key, f"conn#{connection_id}#again#{secrets.token_hex(6)}"),
        "connectionId": text(connection_id),
        "expiresAtEpoch": connection_expiry(now),
    }


def sort_in(item: Item, subscriptions: list[Subscription], wake_keys: list[str]) -> None:
    """Put a ``conn#`` row where it belongs: among the subscriptions or the wakes."""
    sort_key = item["sk"]["S"]
    connection_id, _, again = sort_key.removeprefix("conn#").partition("#")
    if again:
        wake_keys.append(sort_key)
        return
    subscriptions.append(
        Subscription(
            partition_key=item["pk"]["S"],
            connection_id=connection_id,
            subscription_id=optional_text(item, "subscriptionId") or connection_id,
            after_seq=optional_number(item, "afterSeq") or 0,
            greeting=optional_text(item, "greeting"),
            connecting_since_ms=optional_number(item, "connectingSinceMs"),
            failing_since_ms=optional_number(item, "failingSinceMs"),
            replayed=numbers_of(item, "replayed"),
        )
    )
