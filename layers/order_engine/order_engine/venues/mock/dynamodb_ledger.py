"""The mock chain's ledger in DynamoDB: table ``LedgerTable``, hash key ``signature``."""

from collections.abc import Callable, Mapping
from dataclasses import fields
from typing import Any

from order_engine.adapters.aws import client
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
