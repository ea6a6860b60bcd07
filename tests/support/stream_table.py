"""The order stream's table on moto, and what its stream carries."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from io import StringIO
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from moto import mock_aws

from order_engine.adapters import aws
from order_engine.domain.events import OrderEvent
from order_engine.domain.statuses import OrderStatus

REPOSITORY = Path(__file__).parents[2]
TABLE = "order-stream"
NOW = datetime(2026, 11, 21, 2, 40, tzinfo=UTC)
LIFE = (
    OrderStatus.PENDING,
    OrderStatus.ROUTING,
    OrderStatus.BUILDING,
    OrderStatus.SUBMITTED,
    OrderStatus.CONFIRMED,
)


@contextmanager
def stream_table(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Make the table as the template does; yields the DynamoDB client."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    monkeypatch.setenv("AWS_REGION", "us-east-1")
    monkeypatch.setenv("ORDER_STREAM_TABLE", TABLE)
    monkeypatch.delenv("AWS_ENDPOINT_URL", raising=False)
    with mock_aws():
        aws.client.cache_clear()
        create_table(TABLE)
        yield aws.client("dynamodb")
    aws.client.cache_clear()


def create_table(name: str) -> None:
    """Make a table as the template does."""
    aws.client("dynamodb").create_table(
        TableName=name,
        BillingMode="PAY_PER_REQUEST",
        AttributeDefinitions=[
            {"AttributeName": name, "AttributeType": "S"} for name in ("pk", "sk", "connectionId")
        ],
        KeySchema=[
            {"AttributeName": "pk", "KeyType": "HASH"},
            {"AttributeName": "sk", "KeyType": "RANGE"},
        ],
        GlobalSecondaryIndexes=[
            {
                "IndexName": "byConnection",
                "KeySchema": [
                    {"AttributeName": "connectionId", "KeyType": "HASH"},
                    {"AttributeName": "pk", "KeyType": "RANGE"},
                ],
                "Projection": {"ProjectionType": "KEYS_ONLY"},
            }
        ],
        StreamSpecification={"StreamEnabled": True, "StreamViewType": "NEW_IMAGE"},
    )


class StreamReader:
    """Read what a table's stream carries, as Lambda's event source does."""

    def __init__(self, table: str = TABLE) -> None:
        self._table = table
        self._position: dict[str, str] = {"ShardIteratorType": "TRIM_HORIZON"}

    def take(self) -> list[dict[str, Any]]:
        """Return the records since the last time."""
        # A new iterator each time: moto's forget the table when a transaction is refused.
        table = aws.client("dynamodb").describe_table(TableName=self._table)["Table"]
        client = aws.client("dynamodbstreams")
        stream = client.describe_stream(StreamArn=table["LatestStreamArn"])
        (shard,) = stream["StreamDescription"]["Shards"]
        taken: list[dict[str, Any]] = []
        while True:
            iterator = client.get_shard_iterator(
                StreamArn=table["LatestStreamArn"], ShardId=shard["ShardId"], **self._position
            )["ShardIterator"]
            records = client.get_records(ShardIterator=iterator)["Records"]
            if not records:
                return taken
            taken += records
            self._position = {
                "ShardIteratorType": "AFTER_SEQUENCE_NUMBER",
                "SequenceNumber": records[-1]["dynamodb"]["SequenceNumber"],
            }

    def insertions(self) -> list[str]:
        """Return the sort keys of the rows inserted since the last time."""
        return [
            record["dynamodb"]["Keys"]["sk"]["S"]
            for record in self.take()
            if record["eventName"] == "INSERT"
        ]


def event(order_id: str, seq: int, user_id: str = "ann", moment: datetime = NOW) -> OrderEvent:
    """Make the event of an order that goes straight to its end."""
    return OrderEvent(
        order_id=order_id,
        user_id=user_id,
        seq=seq,
        status=LIFE[seq - 1],
        previous_status=LIFE[seq - 2] if seq > 1 else None,
        attempt=1,
        timestamp=moment + timedelta(seconds=seq),
    )


def sample(name: str) -> dict[str, Any]:
    """Return a sample of what a function is invoked with."""
    value: dict[str, Any] = json.loads((REPOSITORY / f"events/{name}.json").read_text())
    return value


def log_of(function: ModuleType) -> StringIO:
    """Have a function log into a text from now on, and return it."""
    text = StringIO()
    function.telemetry.logger.registered_handler.setStream(text)
    return text


def lines_of(text: str) -> list[dict[str, Any]]:
    """Return JSON lines as values."""
    return [json.loads(line) for line in text.splitlines()]
