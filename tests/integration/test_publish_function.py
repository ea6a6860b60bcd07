from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

import pytest
from tests.support.functions import load_function
from tests.support.management_api import ManagementApi, management_api
from tests.support.stream_table import (
    NOW,
    TABLE,
    StreamReader,
    event,
    lines_of,
    log_of,
    sample,
    stream_table,
)

from order_engine.adapters.dynamodb.order_stream import OrderStream
from order_engine.errors import StreamUnavailable
from order_engine.streaming.rows import Connection, Topic

ORDER = "0b9f1c1e-5c55-4f5c-9d3e-0d4f3f0f7a11"

Publish = Callable[[], None]


@pytest.fixture
def dynamodb(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    monkeypatch.setenv("POWERTOOLS_SERVICE_NAME", "publish")
    monkeypatch.setenv("POWERTOOLS_METRICS_NAMESPACE", "OrderEngine")
    with stream_table(monkeypatch) as client:
        yield client


@pytest.fixture
def stream(dynamodb: Any) -> OrderStream:
    return OrderStream(TABLE)


@pytest.fixture
def api(dynamodb: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[ManagementApi]:
    with management_api() as api:
        monkeypatch.setenv("WEBSOCKET_CALLBACK_URL", api.url)
        yield api


@pytest.fixture
def handler(api: ManagementApi) -> Callable[[dict[str, Any], object], dict[str, Any]]:
    loaded: Callable[[dict[str, Any], object], dict[str, Any]] = load_function("publish").handler
    return loaded


@pytest.fixture
def publish(handler: Callable[..., dict[str, Any]], dynamodb: Any) -> Publish:
    """Have the function take what the table's stream has carried since."""
    reader = StreamReader()

    def publish() -> None:
        assert handler({"Records": reader.take()}, None) == {"batchItemFailures": []}

    return publish


def listen(stream: OrderStream, connection_id: str, order_id: str, after_seq: int = 0) -> None:
    stream.register_connection(
        Connection(connection_id), Topic(order_id=order_id), after_seq, datetime.now(UTC)
    )


def test_sample_batch_serves_the_subscriber_it_names(
    handler: Callable[..., dict[str, Any]], stream: OrderStream, api: ManagementApi
) -> None:
    stream.append([event(ORDER, 1), event(ORDER, 2)])
    listen(stream, "L0SM9cOFvHcCIhw=", ORDER)

    assert handler(sample("publish-stream"), None) == {"batchItemFailures": []}

    greeting, *events = api.inbox["L0SM9cOFvHcCIhw="]
    assert greeting["type"] == "subscribed"
    assert events == [event(ORDER, seq).to_json_dict() for seq in (1, 2)]


def test_listeners_before_during_and_after_get_the_whole_life(
    stream: OrderStream, api: ManagementApi, publish: Publish
) -> None:
    order_id = str(uuid4())
    for seq in range(1, 6):
        if seq in {1, 3, 5}:
            listen(stream, f"from{seq}", order_id)
        stream.append([event(order_id, seq)])
        publish()
    listen(stream, "late", order_id)
    listen(stream, "reconnected", order_id, after_seq=3)
    publish()

    for connection_id in ("from1", "from3", "from5", "late"):
        assert api.events(connection_id) == [1, 2, 3, 4, 5]
        assert [m["type"] for m in api.inbox[connection_id]].count("subscribed") == 1
    assert api.events("reconnected") == [4, 5]
    assert api.inbox["late"][5]["final"] is True


def test_event_from_the_outbox_comes_in_its_turn(
    stream: OrderStream, api: ManagementApi, publish: Publish
) -> None:
    order_id = str(uuid4())
    listen(stream, "c1", order_id)
    stream.append([event(order_id, 1)])
    stream.append([event(order_id, 3)])
    publish()
    assert api.events("c1") == [1]

    stream.append([event(order_id, 2), event(order_id, 3)])
    publish()

    assert api.events("c1") == [1, 2, 3]


def test_user_stream_gets_old_and_new_orders(
    stream: OrderStream, api: ManagementApi, publish: Publish
) -> None:
    old, new = str(uuid4()), str(uuid4())
    stream.append([event(old, 1), event(old, 2)])
    publish()
    stream.register_connection(Connection("c1"), Topic(user_id="ann"), 0, datetime.now(UTC))
    publish()
    stream.append([event(new, 1)])
    stream.append([event(old, 3)])
    publish()

    seen = [(message.get("orderId"), message.get("seq")) for message in api.inbox["c1"][1:]]
    assert sorted(seen) == sorted([(old, 1), (old, 2), (new, 1), (old, 3)])


def test_cold_start_repeats_nothing(
    handler: Callable[..., dict[str, Any]],
    stream: OrderStream,
    api: ManagementApi,
    publish: Publish,
) -> None:
    order_id = str(uuid4())
    listen(stream, "c1", order_id)
    publish()
    stream.append([event(order_id, 1)])
    publish()

    stream.append([event(order_id, 2)])
    record = sample("publish-stream")["Records"][0]
    record["dynamodb"]["Keys"] = {"pk": {"S": f"order#{order_id}"}, "sk": {"S": "event#0000000002"}}
    load_function("publish").handler({"Records": [record]}, None)

    assert api.events("c1") == [1, 2]


def test_gone_listener_is_forgotten_and_the_other_served(
    stream: OrderStream, api: ManagementApi, publish: Publish
) -> None:
    order_id = str(uuid4())
    listen(stream, "c1", order_id)
    listen(stream, "c2", order_id)
    publish()
    api.statuses["c1"] = [410]
    stream.append([event(order_id, 1)])
    publish()

    (subscription,) = stream.order_rows(order_id).subscriptions
    assert subscription.connection_id == "c2"
    assert api.events("c2") == [1]


def test_listener_in_its_handshake_is_served_when_it_is_over(
    stream: OrderStream, api: ManagementApi, publish: Publish
) -> None:
    order_id = str(uuid4())
    stream.append([event(order_id, 1)])
    listen(stream, "c1", order_id)
    api.statuses["c1"] = [410] * 7
    publish()
    assert api.inbox["c1"] == []

    publish()

    assert [message["type"] for message in api.inbox["c1"]] == ["subscribed", "order.pending"]
    rows = stream.order_rows(order_id)
    assert rows.wake_keys == ()
    assert rows.subscriptions[0].connecting_since_ms is None


def test_hanging_listener_costs_the_others_nothing_and_misses_nothing(
    stream: OrderStream, api: ManagementApi, publish: Publish
) -> None:
    order_id = str(uuid4())
    listen(stream, "slow", order_id)
    listen(stream, "quick", order_id)
    publish()
    api.statuses["slow"] = [0]
    stream.append([event(order_id, 1)])
    stream.append([event(order_id, 2)])
    publish()
    assert api.events("quick") == [1, 2]

    publish()

    assert api.events("slow")[:2] == [1, 2]


def test_rows_that_cannot_be_read_fail_the_batch(
    handler: Callable[..., dict[str, Any]], dynamodb: Any
) -> None:
    dynamodb.delete_table(TableName=TABLE)

    with pytest.raises(StreamUnavailable):
        handler(sample("publish-stream"), None)


@pytest.mark.parametrize("batch", [{}, {"Records": []}, {"Records": [{"eventName": "INSERT"}]}])
def test_batch_that_says_nothing_is_done(
    handler: Callable[..., dict[str, Any]], batch: dict[str, Any]
) -> None:
    assert handler(batch, None) == {"batchItemFailures": []}


def test_invocation_logs_and_measures_what_it_did(
    stream: OrderStream, api: ManagementApi, capsys: pytest.CaptureFixture[str]
) -> None:
    function = load_function("publish")
    log = log_of(function)
    stream.append([event(ORDER, 1, moment=NOW)])
    listen(stream, "L0SM9cOFvHcCIhw=", ORDER)
    api.statuses["L0SM9cOFvHcCIhw="] = [410] * 5

    function.handler(sample("publish-stream"), None)
    function.handler(sample("publish-stream"), None)

    first, second = (line for line in lines_of(log.getvalue()) if line["message"] == "published")
    assert (first["events"], first["greetings"], first["put_off"]) == (0, 0, 1)
    assert (second["events"], second["greetings"], second["put_off"]) == (1, 1, 0)
    *_, metrics = lines_of(capsys.readouterr().out)
    assert metrics["EventsPublished"] == [1.0]
    assert len(metrics["DeliveryDelay"]) == 1


def test_log_of_a_connection_is_json_with_its_id(
    stream: OrderStream, api: ManagementApi, publish: Publish
) -> None:
    function = load_function("publish")
    log = log_of(function)
    order_id = str(uuid4())
    stream.append([event(order_id, 1)])
    listen(stream, "c1", order_id)
    publish()
    api.statuses["c1"] = [410]
    stream.append([event(order_id, 2)])
    publish()

    (gone,) = (line for line in lines_of(log.getvalue()) if line["message"] == "connection gone")
    assert gone["connection_id"] == "c1"
