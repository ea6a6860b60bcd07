"""How far deliveries have come: greetings, failures, cursors, and who is to be woken again."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from order_engine.adapters.dynamodb.keys import (
    CURSORS_KEY,
    LISTENED_KEY,
    connection_expiry,
    key,
    milliseconds,
    number,
    numbers,
    text,
)
from order_engine.adapters.dynamodb.subscriptions import wake_item
from order_engine.adapters.dynamodb.table import Table
from order_engine.errors import StreamUnavailable
from order_engine.streaming.rows import Subscription


class Deliveries(Table):
    """Note what ``publish`` has done."""

    def mark_greeted(
        self, subscription: Subscription, after_seq: int, replayed: Mapping[str, int] | None = None
    ) -> None:
        """Note that the greeting and the events up to ``after_seq`` have gone out.

        ``replayed`` is how far a user's orders have been sent at the subscription's beginning. It
        stands in the subscription's row and goes with it.
        """
        changes = "afterSeq = :seq"
        values: dict[str, Any] = {":seq": number(after_seq)}
        if replayed:
            changes += ", replayed = :replayed"
            values[":replayed"] = numbers(replayed)
        self._update_subscription(
            subscription, f"SET {changes} REMOVE greeting, connectingSinceMs", values
        )

    def mark_failing(self, subscription: Subscription, now: datetime) -> None:
        """Note since when posts to a subscriber time out."""
        self._update_subscription(
            subscription, "SET failingSinceMs = :now", {":now": number(milliseconds(now))}
        )

    def mark_reachable(self, subscription: Subscription) -> None:
        """Note that a subscriber can be posted to again."""
        self._update_subscription(subscription, "REMOVE failingSinceMs", {})

    def remove_subscription(self, subscription: Subscription) -> None:
        """Delete the row of a subscriber that has gone."""
        self._call(
            "delete_item",
            TableName=self._table,
            Key=key(subscription.partition_key, f"conn#{subscription.connection_id}"),
        )

    def forget_listened(self, partition_key: str, listened_ms: int) -> None:
        """Delete the mark that somebody listens, unless it was renewed after ``listened_ms``."""
        self._delete_if(
            key(partition_key, LISTENED_KEY),
            "listenedMs = :seen",
            {":seen": number(listened_ms)},
        )

    def wake_again(self, wakes: Sequence[tuple[str, str]], now: datetime) -> None:
        """Have ``publish`` woken again for (partition key, connection id) pairs."""
        self._write_batch(
            [{"PutRequest": {"Item": wake_item(*wake, now)}} for wake in sorted(set(wakes))]
        )

    def remove_wakes(self, keys: Sequence[tuple[str, str]]) -> None:
        """Delete rows that have done their waking."""
        self._write_batch([{"DeleteRequest": {"Key": key(*wake)}} for wake in sorted(set(keys))])

    def save_cursors(self, cursors: Mapping[str, Mapping[str, int]], now: datetime) -> None:
        """Write down, per order, how far each subscription has got.

        Also a write that DynamoDB refuses for itself is ``StreamUnavailable``: what has been
        delivered is no reason to stop, and without its cursor an event may only come twice.
        """
        from botocore.exceptions import ClientError

        expiry = connection_expiry(now)
        requests = [
            {
                "PutRequest": {
                    "Item": {
                        **key(f"order#{order_id}", CURSORS_KEY),
                        "cursors": numbers(by_id),
                        "expiresAtEpoch": expiry,
                    }
                }
            }
            for order_id, by_id in cursors.items()
        ]
        try:
            self._write_batch(requests)
        except ClientError as error:
            raise StreamUnavailable(f"cursors refused: {error}") from error

    def _update_subscription(
        self, subscription: Subscription, expression: str, values: Mapping[str, Any]
    ) -> None:
        # Without the condition, an update would bring back a row that was deleted meanwhile.
        self._update(
            key(subscription.partition_key, f"conn#{subscription.connection_id}"),
            expression,
            "subscriptionId = :id",
            {**values, ":id": text(subscription.subscription_id)},
        )
