"""The mock chain in DynamoDB, table ``LedgerTable``: its transactions, and its opened pools."""

from collections.abc import Callable, Mapping
from dataclasses import fields
from datetime import datetime, timedelta
from typing import Any

from order_engine.adapters.aws import client
from order_engine.clock import Clock, timestamp_text
from order_engine.domain.orders import VenueName
from order_engine.errors import VenueTimeout, VenueUnavailable
from order_engine.venues.mock.ledger import Fate, LedgerRow

_ATTRIBUTES = {
    "signature": "signature",
    "order_id": "orderId",
    "attempt": "attempt",
    "venue": "venue",
    "min_amount_out": "minAmountOut",
    "last_valid_block_height": "lastValidBlockHeight",
    "fate": "fate",
    "sent_slot": "sentSlot",
    "landing_slot": "landingSlot",
    "amount_out": "amountOut",
    "error": "error",
    "detail": "detail",
}


class DynamoLedger:
    """Keep ledger rows in a DynamoDB table; the client is made on first use."""

    def __init__(
        self, table_name: str, dynamodb: Callable[[], Any] = lambda: client("dynamodb")
    ) -> None:
        self._table_name = table_name
        self._dynamodb = dynamodb

    def put_if_absent(self, row: LedgerRow) -> LedgerRow | None:
        """Write a row unless its signature has one; return the row that stood there already.

        Raises ``VenueUnavailable`` when DynamoDB refused, ``VenueTimeout`` when it is unknown
        whether the row was written.
        """
        from botocore.exceptions import BotoCoreError, ClientError

        try:
            self._dynamodb().put_item(
                TableName=self._table_name,
                Item=to_item(row),
                ConditionExpression="attribute_not_exists(signature)",
                ReturnValuesOnConditionCheckFailure="ALL_OLD",
            )
        except ClientError as refused:
            response: Mapping[str, Any] = refused.response
            if response["Error"]["Code"] == "ConditionalCheckFailedException":
                return from_item(response["Item"])
            raise VenueUnavailable(f"ledger: {refused}") from refused
        except BotoCoreError as trouble:
            raise VenueTimeout(f"ledger: {trouble}") from trouble
        return None

    def get(self, signature: str) -> LedgerRow | None:
        """Return the row of a signature (a consistent read); raise ``VenueUnavailable``."""
        from botocore.exceptions import BotoCoreError, ClientError

        try:
            response = self._dynamodb().get_item(
                TableName=self._table_name,
                Key={"signature": {"S": signature}},
                ConsistentRead=True,
            )
        except (BotoCoreError, ClientError) as trouble:
            raise VenueUnavailable(f"ledger: {trouble}") from trouble
        item = response.get("Item")
        return from_item(item) if item is not None else None


def to_item(row: LedgerRow) -> dict[str, dict[str, str]]:
    """Return a row as DynamoDB attributes; what is ``None`` is left out."""
    values = {_ATTRIBUTES[field.name]: getattr(row, field.name) for field in fields(row)}
    return {
        name: {"N": str(value)} if isinstance(value, int) else {"S": str(value)}
        for name, value in values.items()
        if value is not None
    }


def from_item(item: dict[str, dict[str, str]]) -> LedgerRow:
    """Return the row that DynamoDB attributes hold."""
    values: dict[str, Any] = {}
    for field_name, attribute_name in _ATTRIBUTES.items():
        attribute = item.get(attribute_name)
        if attribute is not None:
            values[field_name] = int(attribute["N"]) if "N" in attribute else attribute["S"]
    return LedgerRow(**values | {"fate": Fate(values["fate"])})


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

        self._asked_at.pop(_pool_key(token, venue), None)
        try:
            self._dynamodb().put_item(
                TableName=self._table_name,
                Item={
                    "signature": {"S": _pool_key(token, venue)},
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
        key, now = _pool_key(token, venue), self._clock.now()
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


def _pool_key(token: str, venue: VenueName) -> str:
    return f"pool#{token}@{venue}"
