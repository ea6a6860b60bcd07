import json
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest
from tests.support.functions import load_function
from tests.support.stream_table import (
    TABLE,
    event,
    lines_of,
    log_of,
    sample,
    stream_table,
)

from order_engine.adapters import aws
from order_engine.adapters.dynamodb.order_stream import OrderStream

ORDER = "0b9f1c1e-5c55-4f5c-9d3e-0d4f3f0f7a11"
CONNECTION = "L0SM9cOFvHcCIhw="


@pytest.fixture
def dynamodb(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    monkeypatch.setenv("POWERTOOLS_SERVICE_NAME", "websocket")
    with stream_table(monkeypatch) as client:
        yield client


@pytest.fixture
def stream(dynamodb: Any) -> OrderStream:
    return OrderStream(TABLE)


@pytest.fixture
def start(
    dynamodb: Any, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., Callable[[dict[str, Any]], dict[str, Any]]]:
    def start(*, caller_required: bool = False) -> Callable[[dict[str, Any]], dict[str, Any]]:
        monkeypatch.setenv("CALLER_REQUIRED", str(caller_required).lower())
        handler = load_function("websocket").handler

        def invoke(event: dict[str, Any]) -> dict[str, Any]:
            answer: dict[str, Any] = handler(event, None)
            json.dumps(answer)  # Lambda takes nothing else.
            return answer

        return invoke

    return start


def connect_with(**parameters: str) -> dict[str, Any]:
    event = sample("websocket-connect")
    event["queryStringParameters"] = parameters or None
    return event


def message(body: object) -> dict[str, Any]:
    event = sample("websocket-unknown-action")
    event["body"] = body if isinstance(body, str) else json.dumps(body)
    return event


def body_of(answer: dict[str, Any]) -> dict[str, Any]:
    assert answer["statusCode"] == 200
    body: dict[str, Any] = json.loads(answer["body"])
    return body


def test_sample_events_run_through_a_connections_life(
    start: Callable[..., Any], stream: OrderStream
) -> None:
    stream.append([event(ORDER, 1)])
    invoke = start()

    assert invoke(sample("websocket-connect")) == {"statusCode": 200}
    (subscription,) = stream.order_rows(ORDER).subscriptions
    assert subscription.connection_id == CONNECTION
    assert invoke(sample("websocket-subscribe")) == {"statusCode": 200}
    (renewed,) = stream.order_rows(ORDER).subscriptions
    assert json.loads(renewed.greeting or "")["requestId"] == "r1"
    assert body_of(invoke(sample("websocket-ping"))) == {"type": "pong", "requestId": "r3"}
    unknown = body_of(invoke(sample("websocket-unknown-action")))
    assert (unknown["code"], unknown["requestId"]) == ("UNKNOWN_ACTION", "r4")
    unsubscribed = body_of(invoke(sample("websocket-unsubscribe")))
    assert unsubscribed == {"type": "unsubscribed", "orderId": ORDER, "requestId": "r2"}
    assert invoke(sample("websocket-disconnect")) == {"statusCode": 200}
    assert stream.connection_and_owner(CONNECTION, None) == (None, None)
    assert invoke(sample("websocket-disconnect")) == {"statusCode": 200}


def test_connect_without_parameters_is_let_in(start: Callable[..., Any]) -> None:
    assert start()(connect_with()) == {"statusCode": 200}


def test_connection_above_the_users_number_is_refused_for_a_while(
    start: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CONNECTIONS_PER_USER", "2")
    invoke = start()

    def connect(connection_id: str, **parameters: str) -> dict[str, Any]:
        event = connect_with(**parameters)
        event["requestContext"]["connectionId"] = connection_id
        answer: dict[str, Any] = invoke(event)
        return answer

    assert [connect(name, userId="ann") for name in ("c1", "c2")] == [{"statusCode": 200}] * 2
    refused = connect("c3", userId="ann")
    assert refused == {"statusCode": 429, "headers": {"Retry-After": "60"}}
    # then: neither others, nor the nameless, nor one whose handshake Lambda repeats are refused
    assert connect("c2", userId="ann") == {"statusCode": 200}
    assert connect("c4", userId="bob") == {"statusCode": 200}
    assert [connect(name) for name in ("c5", "c6", "c7")] == [{"statusCode": 200}] * 3
    # then: one that leaves makes room
    leave = sample("websocket-disconnect")
    leave["requestContext"]["connectionId"] = "c1"
    invoke(leave)
    assert connect("c3", userId="ann") == {"statusCode": 200}


def test_without_a_number_connections_are_not_limited(
    start: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, stream: OrderStream
) -> None:
    monkeypatch.setenv("CONNECTIONS_PER_USER", "0")
    invoke = start()
    for number in range(101):
        event = connect_with(userId="ann")
        event["requestContext"]["connectionId"] = f"c{number}"
        assert invoke(event) == {"statusCode": 200}


def test_connect_to_no_uuid_is_refused(start: Callable[..., Any]) -> None:
    assert start()(connect_with(orderId="42")) == {"statusCode": 400}


def test_ticket_is_required_and_opens_one_connection(
    start: Callable[..., Any], stream: OrderStream
) -> None:
    invoke = start(caller_required=True)
    ticket = stream.issue_ticket("ann", ORDER, datetime.now(UTC))

    assert invoke(connect_with(orderId=ORDER)) == {"statusCode": 401}
    assert invoke(connect_with(orderId=str(uuid4()), ticket="forged")) == {"statusCode": 403}
    assert invoke(connect_with(orderId=ORDER, ticket=ticket)) == {"statusCode": 200}
    assert invoke(connect_with(orderId=ORDER, ticket=ticket)) == {"statusCode": 403}


def test_ticket_too_old_or_of_another_order_is_refused(
    start: Callable[..., Any], stream: OrderStream
) -> None:
    invoke = start(caller_required=True)
    now = datetime.now(UTC)
    too_old = stream.issue_ticket("ann", ORDER, now - timedelta(seconds=61))
    of_another = stream.issue_ticket("ann", str(uuid4()), now)

    assert invoke(connect_with(orderId=ORDER, ticket=too_old)) == {"statusCode": 403}
    assert invoke(connect_with(orderId=ORDER, ticket=of_another)) == {"statusCode": 403}
    assert stream.order_rows(ORDER).subscriptions == ()


def test_foreign_order_does_not_exist_for_a_caller(
    start: Callable[..., Any], stream: OrderStream
) -> None:
    invoke = start(caller_required=True)
    stream.append([event(ORDER, 1, user_id="bob")])
    ticket = stream.issue_ticket("ann", None, datetime.now(UTC))
    assert invoke(connect_with(ticket=ticket)) == {"statusCode": 200}

    answer = body_of(invoke(message({"action": "subscribe", "orderId": ORDER})))

    assert answer["code"] == "ORDER_NOT_FOUND"
    assert stream.order_rows(ORDER).subscriptions == ()


@pytest.mark.parametrize("body", ["", "rubbish", "[]", "x" * 32_768, '{"action":{"a":1}}', None])
def test_rubbish_is_answered_with_an_error(start: Callable[..., Any], body: str | None) -> None:
    event = message("")
    event["body"] = body

    assert body_of(start()(event))["type"] == "error"


def test_action_named_like_a_route_is_a_message(start: Callable[..., Any]) -> None:
    event = message({"action": "$connect"})
    event["requestContext"]["routeKey"] = "$connect"

    assert body_of(start()(event))["code"] == "UNKNOWN_ACTION"


def test_stream_away_refuses_the_handshake_but_never_drops_a_socket(
    start: Callable[..., Any], dynamodb: Any
) -> None:
    invoke = start()
    dynamodb.delete_table(TableName=TABLE)

    assert invoke(sample("websocket-connect")) == {"statusCode": 503}
    assert body_of(invoke(sample("websocket-subscribe")))["code"] == "TEMPORARILY_UNAVAILABLE"
    assert invoke(sample("websocket-disconnect")) == {"statusCode": 200}


def test_every_invocation_logs_its_connection_and_never_the_ticket(
    stream: OrderStream, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CALLER_REQUIRED", "true")
    function = load_function("websocket")
    log = log_of(function)
    ticket = stream.issue_ticket("ann", ORDER, datetime.now(UTC))

    for each in (
        connect_with(orderId=ORDER, ticket=ticket),
        connect_with(orderId=ORDER, ticket=ticket),
        sample("websocket-ping"),
        sample("websocket-disconnect"),
    ):
        function.handler(each, None)

    lines = lines_of(log.getvalue())
    assert [line["message"] for line in lines] == ["connect", "connect", "message", "disconnect"]
    assert {line["connection_id"] for line in lines} == {CONNECTION}
    assert lines[0]["order_id"] == ORDER
    assert ticket not in log.getvalue()


def test_aws_clients_are_made_on_first_use(start: Callable[..., Any]) -> None:
    aws.client.cache_clear()

    start()(sample("websocket-ping"))

    assert aws.client.cache_info().currsize == 0
