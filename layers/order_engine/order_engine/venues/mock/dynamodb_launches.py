"""Launched pools in the mock chain's DynamoDB table, beside its transactions."""

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

from order_engine.adapters.aws import client
from order_engine.clock import Clock, timestamp_text
from order_engine.domain.orders import VenueName
from order_engine.errors import VenueUnavailable

UNKNOWN_FOR = timedelta(milliseconds=250)
"""How long 'no such pool' is believed before asking again; an opening is believed for good."""


class DynamoLaunches:
    """Keep one row per token and venue under the key ``pool#<token>@<venue>``."""

    def __init__(
        self,
        table_name: str,
        clock: Clock,
        dynamodb: Callable[[], Any] = lambda: client("dynamodb"),
    ) -> None:
        self._table_name = table_name
        self._clock = clock
        self._dynamodb = dynamodb
        self._known: dict[str, datetime] = {}
        self._asked_at: dict[str, datetime] = {}

    def record(self, token: str, venue: VenueName, opens_at: datetime) -> None:
        """Note an opening unless one is known; raise ``VenueUnavailable``."""
        from botocore.exceptions import BotoCoreError, ClientError

        self._asked_at.pop(_key(token, venue), None)
        try:
            self._dynamodb().put_item(
                TableName=self._table_name,
                Item={
                    "signature": {"S": _key(token, venue)},
                    "opensAt": {"S": timestamp_text(opens_at)},
                },
                ConditionExpression="attribute_not_exists(signature)",
            )
        except ClientError as error:
            if error.response["Error"]["Code"] != "ConditionalCheckFailedException":
                raise VenueUnavailable("the launch could not be recorded") from error
        except BotoCoreError as error:
            raise VenueUnavailable("the launch could not be recorded") from error

    def opens_at(self, token: str, venue: VenueName) -> datetime | None:
        """Return when the token's pool opens, None when unknown; raise ``VenueUnavailable``."""
        key, now = _key(token, venue), self._clock.now()
        if key in self._known:
            return self._known[key]
        if key in self._asked_at and now - self._asked_at[key] < UNKNOWN_FOR:
            return None
        item = self._read(key)
        if item is None:
            self._asked_at[key] = now
            return None
        self._known[key] = datetime.fromisoformat(item["opensAt"]["S"])
        return self._known[key]

    def _read(self, key: str) -> dict[str, Any] | None:
        from botocore.exceptions import BotoCoreError, ClientError

        try:
            answer = self._dynamodb().get_item(
                TableName=self._table_name, Key={"signature": {"S": key}}, ConsistentRead=True
            )
        except (BotoCoreError, ClientError) as error:
            raise VenueUnavailable("launches cannot be read") from error
        item: dict[str, Any] | None = answer.get("Item")
        return item


def _key(token: str, venue: VenueName) -> str:
    return f"pool#{token}@{venue}"
