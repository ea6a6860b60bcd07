"""The order streams that one contract holds for: the real one on DynamoDB, and its stand-in."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol

from botocore.exceptions import EndpointConnectionError
from tests.support.order_stream_fakes import FakeClock, FakeStream
from tests.support.stream_table import StreamReader

from order_engine.adapters.dynamodb.order_stream import OrderStream
from order_engine.api.socket_orders import ConnectionRows
from order_engine.api.tickets import TicketRows
from order_engine.execution.ports import EventStream
from order_engine.streaming import ports, subscriptions
from order_engine.streaming.rows import SubscriptionOutcome, Topic


class Stream(EventStream, ports.Rows, subscriptions.Rows, TicketRows, ConnectionRows, Protocol):
    """All that the engine asks of an order stream."""


@dataclass(frozen=True)
class Kind:
    """One implementation: a stream that serves, one that does not, and what was inserted."""

    stream: Stream
    out_of_service: Stream
    records: Callable[[], Iterable[Mapping[str, Any]]]

    def insertions(self) -> list[tuple[str, str]]:
        """Return the partition and sort keys inserted since the last time, as records tell them.

        What no two implementations have in common is left out: the nonce of a row that wakes.
        """
        found = []
        for record in self.records():
            if record["eventName"] == "INSERT":
                key = record["dynamodb"]["Keys"]
                found.append((key["pk"]["S"], without_nonce(key["sk"]["S"])))
        return found

    def subscribe(
        self, connection_id: str, topic: Topic, now: datetime, after_seq: int = 0
    ) -> SubscriptionOutcome:
        """Subscribe with a greeting that does not matter."""
        return self.stream.subscribe(connection_id, topic, "ann", after_seq, {"type": "hi"}, now)


def without_nonce(sort_key: str) -> str:
    """Return a sort key without what is random in it."""
    head, again, _ = sort_key.partition("#again#")
    return head + again


def fake(most_subscriptions: int) -> Kind:
    """Return the stand-in of the unit tests."""
    stream, out_of_service = FakeStream(FakeClock()), FakeStream(FakeClock())
    stream.most_subscriptions = most_subscriptions
    out_of_service.unavailable = _Everything()
    return Kind(stream, out_of_service, stream.take_records)


def real(table: str) -> Kind:
    """Return the real one, on a table that exists."""
    return Kind(OrderStream(table), OrderStream(table, _NobodyListens), StreamReader(table).take)


class _Everything(set[object]):
    """Contain everything, as an outage does."""

    def __contains__(self, _: object) -> bool:
        return True


class _NobodyListens:
    """Stand for a client that finds no DynamoDB."""

    def __getattr__(self, _: str) -> Callable[..., Any]:
        def call(**_: Any) -> Any:
            raise EndpointConnectionError(endpoint_url="http://127.0.0.1:1")

        return call
