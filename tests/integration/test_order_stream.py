import json
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest
from botocore.exceptions import (
    ClientError,
    ConnectionClosedError,
    EndpointConnectionError,
    ParamValidationError,
    ReadTimeoutError,
)
from tests.support.stream_table import NOW, TABLE, StreamReader, event, stream_table

from order_engine.adapters.dynamodb.order_stream import OrderStream
from order_engine.adapters.dynamodb.subscriptions import MAX_SUBSCRIPTIONS
from order_engine.errors import StreamUnavailable
from order_engine.streaming.rows import (
    Connection,
    Subscription,
    SubscriptionOutcome,
    Topic,
)

SUBSCRIBED = SubscriptionOutcome.SUBSCRIBED


@pytest.fixture
def dynamodb(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    with stream_table(monkeypatch) as client:
        yield client


@pytest.fixture
def stream(dynamodb: Any) -> OrderStream:
    return OrderStream(TABLE)


@pytest.fixture
def reader(dynamodb: Any) -> StreamReader:
    return StreamReader()


@pytest.fixture
def order_id() -> str:
    return str(uuid4())


def rows_of(dynamodb: Any) -> dict[tuple[str, str], dict[str, Any]]:
    items = dynamodb.scan(TableName=TABLE, ConsistentRead=True)["Items"]
    return {(item["pk"]["S"], item["sk"]["S"]): item for item in items}


def only_subscription(stream: OrderStream, order_id: str) -> Subscription:
    (subscription,) = stream.order_rows(order_id).subscriptions
    return subscription


# Events


def test_first_event_tells_the_owner_and_takes_the_place_in_his_list_along(
    stream: OrderStream, dynamodb: Any, order_id: str
) -> None:
    first = event(order_id, 1)

    stream.append([first])

    rows = rows_of(dynamodb)
    assert set(rows) == {
        (f"order#{order_id}", "event#0000000001"),
        ("orders#ann", f"order#2026-11-21T02:40:01.000Z#{order_id}"),
    }
    item = rows[f"order#{order_id}", "event#0000000001"]
    assert json.loads(item["event"]["S"]) == first.to_json_dict()
    assert (item["seq"], item["status"], item["userId"], item["orderId"]) == (
        {"N": "1"},
        {"S": "pending"},
        {"S": "ann"},
        {"S": order_id},
    )
    expiry = int((first.timestamp + timedelta(days=35)).timestamp())
    assert {row["expiresAtEpoch"]["N"] for row in rows.values()} == {str(expiry)}


def test_events_written_again_are_no_change(
    stream: OrderStream, reader: StreamReader, order_id: str
) -> None:
    events = [event(order_id, seq) for seq in (1, 2)]
    stream.append(events)
    assert len(reader.take()) == 3

    stream.append(events)
    stream.append(events[1:])

    assert [record["eventName"] for record in reader.take() if changed(record)] == []


def changed(record: dict[str, Any]) -> bool:
    # DynamoDB itself puts no record into the stream when nothing changed; moto does.
    return bool(record["dynamodb"].get("OldImage") != record["dynamodb"].get("NewImage")) and (
        record["eventName"] != "MODIFY"
    )


def test_hundreds_of_events_are_written_and_read(stream: OrderStream, order_id: str) -> None:
    events = [
        event(order_id, 1).model_copy(update={"seq": seq, "user_id": "ann"})
        for seq in range(1, 251)
    ]

    stream.append(events)

    rows = stream.order_rows(order_id)
    assert sorted(rows.events) == list(range(1, 251))
    assert rows.user_id == "ann"


def test_damaged_rows_are_read_as_far_as_they_go(
    stream: OrderStream, dynamodb: Any, order_id: str
) -> None:
    stream.append([event(order_id, 1)])
    for sort_key, more in (
        ("event#0000000002", {}),
        ("event#second", {"event": {"S": "{}"}}),
        ("conn#c1", {"afterSeq": {"S": "one"}}),
        ("cursors", {"cursors": {"M": {"s1": {"S": "x"}, "s2": {"N": "2"}}}}),
        ("surprise", {}),
    ):
        key = {"pk": {"S": f"order#{order_id}"}, "sk": {"S": sort_key}}
        dynamodb.put_item(TableName=TABLE, Item={**key, **more})

    rows = stream.order_rows(order_id)

    assert list(rows.events) == [1]
    assert rows.subscriptions == (Subscription(f"order#{order_id}", "c1", "c1"),)
    assert rows.cursors == {"s2": 2}


def test_partition_of_several_pages_is_read_whole(stream: OrderStream, order_id: str) -> None:
    # given: more than the megabyte that a query returns at once
    padding = "x" * 30_000
    stream.append([event(order_id, 1)])
    for number in range(50):
        greeting = {"type": "accepted", "padding": padding}
        stream.register_connection(Connection(f"c{number}"), None, 0, NOW)
        stream.subscribe_connection(f"c{number}", order_id, "ann", 0, greeting, NOW)

    rows = stream.order_rows(order_id)

    assert len(rows.subscriptions) == 50
    assert list(rows.events) == [1]


# Tickets


def test_ticket_itself_is_not_stored(stream: OrderStream, dynamodb: Any) -> None:
    ticket = stream.issue_ticket("ann", None, NOW)

    assert ticket not in json.dumps(dynamodb.scan(TableName=TABLE)["Items"])
    assert len(ticket) >= 40


# Connections and subscriptions


def test_connection_is_registered_with_its_subscription(
    stream: OrderStream, reader: StreamReader, dynamodb: Any, order_id: str
) -> None:
    stream.register_connection(Connection("c1", "ann"), Topic(order_id=order_id), 3, NOW)

    subscription = only_subscription(stream, order_id)
    assert subscription.after_seq == 3
    assert subscription.connecting_since_ms == int(NOW.timestamp() * 1000)
    assert json.loads(subscription.greeting or "") == {
        "type": "subscribed",
        "orderId": order_id,
        "afterSeq": 3,
    }
    assert sorted(reader.insertions()) == ["conn#c1", "connection", "connection#c1", "listened"]
    expiry = int((NOW + timedelta(hours=2, minutes=15)).timestamp())
    assert {row["expiresAtEpoch"]["N"] for row in rows_of(dynamodb).values()} == {str(expiry)}


def test_subscribing_an_unknown_connection_leaves_no_subscription(
    stream: OrderStream, dynamodb: Any, order_id: str
) -> None:
    outcome = stream.subscribe_connection("c1", order_id, "ann", 0, None, NOW)

    assert outcome is SubscriptionOutcome.CONNECTION_UNKNOWN
    assert set(rows_of(dynamodb)) == {(f"order#{order_id}", "listened")}


def test_subscriptions_are_limited_per_connection(stream: OrderStream, dynamodb: Any) -> None:
    stream.register_connection(Connection("c1", "ann"), Topic(user_id="ann"), 0, NOW)
    order_ids = [str(uuid4()) for _ in range(MAX_SUBSCRIPTIONS)]
    for order_id in order_ids[:-1]:
        assert stream.subscribe_connection("c1", order_id, "ann", 0, None, NOW) is SUBSCRIBED

    refused = stream.subscribe_connection("c1", order_ids[-1], "ann", 0, None, NOW)

    assert refused is SubscriptionOutcome.TOO_MANY
    assert stream.subscribe_connection("c1", order_ids[0], "ann", 0, None, NOW) is SUBSCRIBED
    assert stream.unsubscribe("c1", Topic(order_id=order_ids[0]))
    assert not stream.unsubscribe("c1", Topic(order_id=order_ids[0]))
    assert stream.subscribe_connection("c1", order_ids[-1], "ann", 0, None, NOW) is SUBSCRIBED
    refused = stream.subscribe_connection("c1", order_ids[0], "ann", 0, None, NOW)
    assert refused is SubscriptionOutcome.TOO_MANY


def test_forgetting_a_connection_deletes_all_its_rows_and_no_others(
    stream: OrderStream, dynamodb: Any
) -> None:
    order_ids = [str(uuid4()) for _ in range(30)]
    for connection_id in ("c1", "c2"):
        stream.register_connection(Connection(connection_id, "ann"), Topic(user_id="ann"), 0, NOW)
    for order_id in order_ids:
        stream.subscribe_connection("c1", order_id, "ann", 0, None, NOW)

    assert stream.forget_connection("c1") == 33
    assert stream.forget_connection("c1") == 0

    left = {row for row in rows_of(dynamodb) if row[1] != "listened"}
    assert left == {
        ("connection#c2", "connection"),
        ("connections#ann", "connection#c2"),
        ("user#ann", "conn#c2"),
    }


# DynamoDB's failures


class Failing:
    """Stand for a client whose every call fails, or fails a number of times."""

    def __init__(self, error: Exception, client: Any = None, times: int = 10**6) -> None:
        self._error = error
        self._client = client
        self._times = times
        self.calls = 0

    def __getattr__(self, operation: str) -> Any:
        def call(**parameters: Any) -> Any:
            self.calls += 1
            if self.calls <= self._times:
                raise self._error
            return getattr(self._client, operation)(**parameters)

        return call


def client_error(code: str, status: int = 400, **more: Any) -> ClientError:
    response: Any = {
        "Error": {"Code": code, "Message": code},
        "ResponseMetadata": {"HTTPStatusCode": status},
        **more,
    }
    return ClientError(response, "Operation")


@pytest.mark.parametrize(
    "error",
    [
        client_error("ProvisionedThroughputExceededException"),
        client_error("ThrottlingException"),
        client_error("InternalServerError", 500),
        client_error("ServiceUnavailable", 503),
        client_error("AccessDeniedException"),
        client_error("ResourceNotFoundException"),
        EndpointConnectionError(endpoint_url="http://127.0.0.1:1"),
        ConnectionClosedError(endpoint_url="http://127.0.0.1:1"),
        ReadTimeoutError(endpoint_url="http://127.0.0.1:1"),
    ],
)
def test_dynamodb_that_does_not_serve_is_stream_unavailable(
    error: Exception, order_id: str
) -> None:
    stream = OrderStream(TABLE, lambda: Failing(error))

    with pytest.raises(StreamUnavailable):
        stream.append([event(order_id, 2)])
    with pytest.raises(StreamUnavailable):
        stream.append([event(order_id, 1)])
    with pytest.raises(StreamUnavailable):
        stream.order_rows(order_id)
    with pytest.raises(StreamUnavailable):
        stream.issue_ticket("ann", None, NOW)


def test_cursors_that_dynamodb_refuses_are_no_bug() -> None:
    # given: what DynamoDB answers to an item above 400 KB
    stream = OrderStream(TABLE, lambda: Failing(client_error("ValidationException")))

    with pytest.raises(StreamUnavailable):
        stream.save_cursors({"o1": {"s1": 1}}, NOW)


@pytest.mark.parametrize(
    "error",
    [client_error("ValidationException"), ParamValidationError(report="wrong type")],
)
def test_malformed_request_is_a_bug_and_shows(error: Exception, order_id: str) -> None:
    stream = OrderStream(TABLE, lambda: Failing(error))

    with pytest.raises(type(error)):
        stream.append([event(order_id, 2)])


def test_conflict_of_transactions_is_tried_again(dynamodb: Any, order_id: str) -> None:
    conflict = client_error(
        "TransactionCanceledException",
        CancellationReasons=[{"Code": "TransactionConflict"}, {"Code": "None"}],
    )
    failing = Failing(conflict, dynamodb, times=3)

    OrderStream(TABLE, lambda: failing).append([event(order_id, 1)])

    assert failing.calls == 4
    assert list(OrderStream(TABLE).order_rows(order_id).events) == [1]


def test_lasting_conflict_is_stream_unavailable(order_id: str) -> None:
    conflict = client_error(
        "TransactionCanceledException", CancellationReasons=[{"Code": "TransactionConflict"}]
    )

    with pytest.raises(StreamUnavailable):
        OrderStream(TABLE, lambda: Failing(conflict)).append([event(order_id, 1)])


def test_client_is_made_once_for_many_threads(dynamodb: Any, order_id: str) -> None:
    made: list[Any] = []

    def make() -> Any:
        time.sleep(0.05)
        made.append(dynamodb)
        return dynamodb

    stream = OrderStream(TABLE, make)
    with ThreadPoolExecutor(8) as threads:
        list(threads.map(stream.order_rows, [order_id] * 8))

    assert len(made) == 1


def test_items_left_unprocessed_are_written_again_or_reported(order_id: str) -> None:
    class Sluggish:
        """Leave the first item of each batch unprocessed, a number of times."""

        def __init__(self, times: int) -> None:
            self.times = times
            self.written: list[Any] = []

        def batch_write_item(self, RequestItems: Any) -> Any:  # noqa: N803
            requests = RequestItems[TABLE]
            left = requests[:1] if self.times > 0 else []
            self.times -= 1
            self.written += requests[len(left) :]
            return {"UnprocessedItems": {TABLE: left} if left else {}}

    sluggish = Sluggish(times=2)
    OrderStream(TABLE, lambda: sluggish).remove_wakes([("p", "1"), ("p", "2")])
    assert len(sluggish.written) == 2

    with pytest.raises(StreamUnavailable):
        OrderStream(TABLE, lambda: Sluggish(times=99)).remove_wakes([("p", "1"), ("p", "2")])
