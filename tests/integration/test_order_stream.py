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
    Ticket,
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


def test_first_event_takes_the_owners_rows_along(
    stream: OrderStream, dynamodb: Any, order_id: str
) -> None:
    first = event(order_id, 1)

    stream.append([first])

    rows = rows_of(dynamodb)
    assert set(rows) == {
        (f"order#{order_id}", "event#0000000001"),
        (f"order#{order_id}", "owner"),
        ("user#ann", f"order#2026-11-21T02:40:01.000Z#{order_id}"),
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
    assert len(reader.take()) == 4

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


def test_announcing_without_a_first_event_is_a_bug(stream: OrderStream, order_id: str) -> None:
    with pytest.raises(ValueError, match="without its first event"):
        stream.announce(event(order_id, 2), [event(order_id, 2)])  # type: ignore[arg-type]


def test_order_rows_hold_events_subscribers_and_cursors(stream: OrderStream, order_id: str) -> None:
    stream.append([event(order_id, 1), event(order_id, 2)])
    stream.register_connection(Connection("c1"), Topic(order_id=order_id), 1, NOW)
    subscription = only_subscription(stream, order_id)
    stream.save_cursors({order_id: {subscription.subscription_id: 2}}, NOW)
    stream.wake_again([(f"order#{order_id}", "c1")], NOW)

    rows = stream.order_rows(order_id)

    assert list(rows.events) == [1, 2]
    assert rows.events[2].timestamp == "2026-11-21T02:40:02.000Z"
    assert rows.cursors == {subscription.subscription_id: 2}
    assert len(rows.wake_keys) == 1
    stream.remove_wakes([(f"order#{order_id}", rows.wake_keys[0])])
    assert stream.order_rows(order_id).wake_keys == ()


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


def test_recent_orders_are_the_newest_oldest_first(stream: OrderStream) -> None:
    order_ids = [str(uuid4()) for _ in range(5)]
    for number, order_id in enumerate(order_ids):
        stream.append([event(order_id, 1, moment=NOW + timedelta(minutes=number))])

    assert stream.recent_orders("ann", 3) == order_ids[2:]
    assert stream.recent_orders("bob", 3) == []


# Tickets


def test_ticket_is_redeemed_once(stream: OrderStream, order_id: str) -> None:
    ticket = stream.issue_ticket("ann", order_id, NOW)

    assert stream.redeem_ticket(ticket, NOW) == Ticket("ann", order_id)
    assert stream.redeem_ticket(ticket, NOW) is None


def test_ticket_of_a_user_names_no_order(stream: OrderStream) -> None:
    ticket = stream.issue_ticket("ann", None, NOW)

    assert stream.redeem_ticket(ticket, NOW) == Ticket("ann", None)


def test_ticket_too_old_opens_nothing_before_its_row_is_deleted(stream: OrderStream) -> None:
    early, late = stream.issue_ticket("ann", None, NOW), stream.issue_ticket("ann", None, NOW)

    assert stream.redeem_ticket(early, NOW + timedelta(seconds=59)) is not None
    assert stream.redeem_ticket(late, NOW + timedelta(seconds=60)) is None


@pytest.mark.parametrize("ticket", ["forged", "", "é\ud800", "x" * 5_000])
def test_unknown_ticket_opens_nothing(stream: OrderStream, ticket: str) -> None:
    assert stream.redeem_ticket(ticket, NOW) is None


def test_ticket_itself_is_not_stored(stream: OrderStream, dynamodb: Any) -> None:
    ticket = stream.issue_ticket("ann", None, NOW)

    assert ticket not in json.dumps(dynamodb.scan(TableName=TABLE)["Items"])
    assert len(ticket) >= 40


def test_of_many_who_redeem_a_ticket_at_once_one_succeeds(stream: OrderStream) -> None:
    ticket = stream.issue_ticket("ann", None, NOW)

    with ThreadPoolExecutor(8) as threads:
        redeemed = list(threads.map(lambda _: stream.redeem_ticket(ticket, NOW), range(16)))

    assert len([item for item in redeemed if item is not None]) == 1


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
    assert sorted(reader.insertions()) == ["conn#c1", "connection"]
    expiry = int((NOW + timedelta(hours=2, minutes=15)).timestamp())
    assert {row["expiresAtEpoch"]["N"] for row in rows_of(dynamodb).values()} == {str(expiry)}


def test_subscribing_inserts_a_row_and_again_wakes_publish(
    stream: OrderStream, reader: StreamReader, order_id: str
) -> None:
    stream.register_connection(Connection("c1", "ann"), None, 0, NOW)
    accepted = {"type": "accepted", "requestId": "r1"}
    assert stream.subscribe_connection("c1", order_id, "ann", 0, accepted, NOW) is SUBSCRIBED
    first = only_subscription(stream, order_id)
    assert json.loads(first.greeting or "") == accepted
    assert first.connecting_since_ms is None
    assert reader.insertions() == ["connection", "conn#c1"]

    assert stream.subscribe_connection("c1", order_id, "ann", 2, None, NOW) is SUBSCRIBED

    second = only_subscription(stream, order_id)
    assert second.subscription_id != first.subscription_id
    assert second.after_seq == 2
    (insertion,) = reader.insertions()
    assert insertion.startswith("conn#c1#again#")


def test_subscribing_an_unknown_connection_leaves_no_row(
    stream: OrderStream, dynamodb: Any, order_id: str
) -> None:
    outcome = stream.subscribe_connection("c1", order_id, "ann", 0, None, NOW)

    assert outcome is SubscriptionOutcome.CONNECTION_UNKNOWN
    assert rows_of(dynamodb) == {}


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


def test_connection_and_owner_are_found_together(stream: OrderStream, order_id: str) -> None:
    stream.append([event(order_id, 1)])
    stream.register_connection(Connection("c1", "ann", order_id), None, 0, NOW)

    assert stream.connection_and_owner("c1", order_id) == (
        Connection("c1", "ann", order_id),
        "ann",
    )
    assert stream.connection_and_owner("c2", str(uuid4())) == (None, None)
    assert stream.owner_of(order_id) == "ann"
    assert stream.owner_of(str(uuid4())) is None


@pytest.mark.parametrize(
    ("connection", "user_id"),
    [
        (Connection("c1", "ann"), "ann"),
        (Connection("c1"), None),
        (Connection("c1", "ann", "0b9f1c1e-5c55-4f5c-9d3e-0d4f3f0f7a11"), None),
    ],
)
def test_connection_acts_for_its_user_unless_its_ticket_was_for_an_order(
    stream: OrderStream, connection: Connection, user_id: str | None
) -> None:
    stream.register_connection(connection, None, 0, NOW)

    assert stream.connection_user("c1") == user_id
    assert stream.connection_user("unknown") is None


def test_forgetting_a_connection_deletes_all_its_rows_and_no_others(
    stream: OrderStream, dynamodb: Any
) -> None:
    order_ids = [str(uuid4()) for _ in range(30)]
    for connection_id in ("c1", "c2"):
        stream.register_connection(Connection(connection_id, "ann"), Topic(user_id="ann"), 0, NOW)
    for order_id in order_ids:
        stream.subscribe_connection("c1", order_id, "ann", 0, None, NOW)

    assert stream.forget_connection("c1") == 32
    assert stream.forget_connection("c1") == 0

    assert set(rows_of(dynamodb)) == {("connection#c2", "connection"), ("user#ann", "conn#c2")}


def test_marks_change_the_row_they_were_read_from(stream: OrderStream, order_id: str) -> None:
    stream.register_connection(Connection("c1"), Topic(order_id=order_id), 0, NOW)
    subscription = only_subscription(stream, order_id)

    stream.mark_greeted(subscription, 3)
    stream.mark_failing(subscription, NOW)

    marked = only_subscription(stream, order_id)
    assert (marked.greeting, marked.connecting_since_ms, marked.after_seq) == (None, None, 3)
    assert marked.failing_since_ms == int(NOW.timestamp() * 1000)
    stream.mark_reachable(marked)
    assert only_subscription(stream, order_id).failing_since_ms is None


def test_marks_do_not_bring_back_a_deleted_row_nor_touch_a_renewed_one(
    stream: OrderStream, order_id: str
) -> None:
    stream.register_connection(Connection("c1"), Topic(order_id=order_id), 0, NOW)
    old = only_subscription(stream, order_id)
    stream.subscribe_connection("c1", order_id, "", 1, None, NOW)

    stream.mark_greeted(old, 5)
    renewed = only_subscription(stream, order_id)
    assert (renewed.after_seq, renewed.greeting is None) == (1, False)

    stream.remove_subscription(renewed)
    stream.mark_greeted(renewed, 5)
    stream.mark_failing(renewed, NOW)
    assert stream.order_rows(order_id).subscriptions == ()


def test_user_rows_hold_the_subscribers_only(stream: OrderStream, order_id: str) -> None:
    stream.append([event(order_id, 1)])
    stream.register_connection(Connection("c1"), Topic(user_id="ann"), 0, NOW)
    stream.wake_again([("user#ann", "c1")], NOW)

    rows = stream.user_rows("ann")

    (subscription,) = rows.subscriptions
    assert subscription.is_of_user
    assert len(rows.wake_keys) == 1


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
