"""The api function: HTTP and WebSocket events in, answers out, against a real Postgres."""

import base64
import gzip
import hashlib
import json
import os
import re
import urllib.parse
import uuid
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
import pytest
from openapi_spec_validator import validate
from tests.integration.conftest import STREAM_TABLE, Api, sample_event

from order_engine import bootstrap
from order_engine.adapters import aws
from order_engine.clock import timestamp_text
from order_engine.domain.orders import Order
from order_engine.domain.statuses import OrderStatus
from order_engine.domain.types.market import Market
from order_engine.errors import StreamUnavailable
from order_engine.streaming.rows import Connection

ORDER = {"tokenIn": "SOL", "tokenOut": "USDC", "amount": 1.5}

REFERENCE_REQUESTS = [
    '{"tokenIn":"SOL","tokenOut":"USDC","amount":1.5,"side":"buy"}',
    '{"userId": "00000000-0000-0000-0000-000000000006", "type": "market", "tokenIn": "SOL",'
    ' "tokenOut": "USDC", "amountIn": "1", "slippageTolerance": "0.01"}',
    '{ "tokenIn": "SOL", "tokenOut": "USDC", "amount": 0.5, "slippage": 0.01 }',
    '{"orderType": "market", "tokenIn": "SOL", "tokenOut": "USDC", "amountIn": 2}',
    '{"type": "market", "tokenIn": "USDC", "tokenOut": "ETH", "amountIn": 1000,'
    ' "userId": "user123"}',
]

Database = psycopg.Connection[dict[str, Any]]


def some_user() -> str:
    return f"user-{uuid.uuid4()}"


def stored_order(order_id: str) -> Order:
    order = bootstrap.orders().get(order_id)
    assert order is not None
    return order


def stored_orders(database: Database) -> int:
    row = database.execute("SELECT count(*) AS orders FROM orders").fetchone()
    assert row is not None
    return int(row["orders"])


def started_executions(api: Api) -> list[str]:
    answer = aws.client("stepfunctions").list_executions(
        stateMachineArn=os.environ["STATE_MACHINE_ARN"]
    )
    return [execution["name"] for execution in answer["executions"]]


def stream_rows(partition_key: str) -> dict[str, Mapping[str, Any]]:
    answer = aws.client("dynamodb").query(
        TableName=STREAM_TABLE,
        KeyConditionExpression="pk = :pk",
        ExpressionAttributeValues={":pk": {"S": partition_key}},
    )
    return {item["sk"]["S"]: item for item in answer["Items"]}


# Submitting


@pytest.mark.parametrize("path", ["/api/orders/execute", "/api/orders", "/orders/execute"])
@pytest.mark.parametrize("body", REFERENCE_REQUESTS)
def test_requests_of_similar_systems_are_accepted_on_every_path(
    api: Api, path: str, body: str
) -> None:
    reply = api.request("POST", path, body=body)

    assert reply.status == 202
    assert reply.json["status"] == "pending"


def test_an_accepted_order_is_shown_stored_announced_and_started(api: Api) -> None:
    user = some_user()

    reply = api.post({**ORDER, "userId": user, "clientOrderId": "mine", "slippage": 0.01})

    assert reply.status == 202
    order = reply.json
    order_id = order["orderId"]
    assert str(uuid.UUID(order_id, version=4)) == order_id
    assert reply.headers["location"] == f"/api/orders/{order_id}"
    assert reply.headers["content-type"] == "application/json"
    assert "idempotency-replayed" not in reply.headers
    assert order["wsUrl"] == f"wss://stream.example.com/live?orderId={order_id}"
    assert order["message"]
    assert (
        order
        | {
            "userId": user,
            "clientOrderId": "mine",
            "type": "market",
            "orderType": "market",
            "amountIn": "1.5",
            "amount": "1.5",
            "slippageBps": 100,
            "slippageTolerance": "0.01",
            "maxRetries": 3,
            "seq": 1,
            "attempt": 0,
        }
        == order
    )
    assert "execution" not in order
    assert stored_order(order_id).status is OrderStatus.PENDING
    assert {"event#0000000001"} <= set(stream_rows(f"order#{order_id}"))
    assert started_executions(api) == [order_id]


def test_a_repeated_request_gets_the_first_ones_order(api: Api) -> None:
    user = some_user()
    first = api.post({**ORDER, "userId": user}, headers={"Idempotency-Key": "key-1"})

    again = api.request(
        "POST",
        "/api/orders",
        body=f'{{"amountIn":"1.50","tokenOut":"USDC","tokenIn":"SOL","userId":"{user}"}}',
        headers={"Idempotency-Key": "key-1"},
    )

    assert (first.status, again.status) == (202, 202)
    assert again.headers["idempotency-replayed"] == "true"
    assert again.json == first.json
    assert started_executions(api) == [first.json["orderId"]]


def test_the_clients_own_id_makes_a_request_repeatable(api: Api) -> None:
    fields = {**ORDER, "userId": some_user(), "clientOrderId": "mine"}

    orders = [api.post(fields).json["orderId"] for _ in range(2)]

    assert len(set(orders)) == 1


def test_without_a_key_every_request_is_a_new_order(api: Api) -> None:
    orders = [api.post({**ORDER, "userId": "same"}).json["orderId"] for _ in range(2)]

    assert len(set(orders)) == 2


def test_users_do_not_share_idempotency_keys(api: Api) -> None:
    replies = [
        api.post({**ORDER, "userId": some_user()}, headers={"Idempotency-Key": "shared"})
        for _ in range(2)
    ]

    assert replies[0].json["orderId"] != replies[1].json["orderId"]


@pytest.mark.parametrize(
    ("headers", "fields", "field"),
    [
        ({"Idempotency-Key": "key"}, {}, "Idempotency-Key"),
        ({}, {"clientOrderId": "mine"}, "clientOrderId"),
    ],
)
def test_a_key_used_for_another_order_is_refused(
    api: Api, headers: dict[str, str], fields: dict[str, Any], field: str
) -> None:
    request = {**ORDER, **fields, "userId": some_user()}
    api.post(request, headers=headers)

    reply = api.post({**request, "amount": 2}, headers=headers)

    assert (reply.status, reply.json["code"]) == (422, "IDEMPOTENCY_KEY_REUSED")
    assert reply.faulty_fields == [field]


@pytest.mark.parametrize("key", ["", " ", "a b", "x" * 256, "kéy"])
def test_an_impossible_idempotency_key_is_refused(api: Api, key: str) -> None:
    reply = api.post(ORDER, headers={"Idempotency-Key": key})

    assert reply.status == 422
    assert reply.faulty_fields == ["Idempotency-Key"]


def test_an_idempotency_key_may_hold_commas(api: Api) -> None:
    user = some_user()

    keys = ["a,b", "a,c", "a,b"]
    orders = [
        api.post({**ORDER, "userId": user}, headers={"Idempotency-Key": key}).json["orderId"]
        for key in keys
    ]

    assert orders[0] == orders[2] != orders[1]


def test_repeat_after_a_deploy_with_another_default_is_the_same_order(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    order = {"tokenIn": "SOL", "tokenOut": "USDC", "amount": "1", "userId": some_user()}
    key = {"Idempotency-Key": "across-a-deploy"}
    first = api.post(order, headers=key)
    monkeypatch.setattr(Market, "default_slippage_bps", Market.default_slippage_bps + 1)

    second = api.post(order, headers=key)

    assert (second.status, second.json["orderId"]) == (202, first.json["orderId"])
    assert api.post({**order, "amount": "2"}, headers=key).status == 422


def test_repeat_of_an_order_stored_with_the_digest_of_its_terms_alone_is_the_same_order(
    api: Api, database: Database
) -> None:
    order = {"tokenIn": "SOL", "tokenOut": "USDC", "amount": "1", "userId": some_user()}
    key = {"Idempotency-Key": "from-before"}
    first = api.post(order, headers=key)
    database.execute(
        "UPDATE orders SET terms_digest = split_part(terms_digest, ' ', 1) WHERE id = %s",
        [first.json["orderId"]],
    )

    second = api.post({**order, "slippageBps": 50}, headers=key)

    assert (second.status, second.json["orderId"]) == (202, first.json["orderId"])


def test_an_order_is_accepted_while_stream_and_state_machine_are_away(
    api: Api, order_services: dict[str, str]
) -> None:
    aws.client("dynamodb").delete_table(TableName=STREAM_TABLE)
    aws.client("stepfunctions").delete_state_machine(
        stateMachineArn=order_services["STATE_MACHINE_ARN"]
    )

    assert api.post(ORDER).status == 202


# Bad input


def with_order(change: str) -> str:
    return f'{{"tokenIn":"SOL","tokenOut":"USDC",{change}}}'


def with_limit(change: str) -> str:
    """A limit order, good but for the change (a later field of a name counts)."""
    given = {"limitPrice": '"limitPrice":1', "expiresAt": f'"expiresAt":"{soon()}"'}
    fields = [text for name, text in given.items() if name not in change]
    if "targetPrice" in change:
        fields.remove(given["limitPrice"])
    return with_order(",".join(['"amount":1,"type":"limit"', *fields, change]))


def with_sniper(change: str) -> str:
    """A sniper order, good but for the change."""
    return with_order(f'"amount":1,"type":"sniper","expiresAt":"{soon()}",{change}')


def soon() -> str:
    return timestamp_text(datetime.now(UTC) + timedelta(hours=1))


BAD_REQUESTS: list[tuple[str, str | None, int, list[str]]] = [
    ("negative", with_order('"amount":-1'), 422, ["amount"]),
    ("zero", with_order('"amountIn":0'), 422, ["amountIn"]),
    ("NaN", with_order('"amount":NaN'), 422, ["amount"]),
    ("NaN as text", with_order('"amount":"NaN"'), 422, ["amount"]),
    ("Infinity", with_order('"amount":Infinity'), 422, ["amount"]),
    ("-Infinity", with_order('"amount":-Infinity'), 422, ["amount"]),
    ("1e400", with_order('"amount":1e400'), 422, ["amount"]),
    ("1e400 as text", with_order('"amount":"1e400"'), 422, ["amount"]),
    ("1e300", with_order('"amount":1e300'), 422, ["amount"]),
    ("1e-12", with_order('"amount":1e-12'), 422, ["amount"]),
    ("60 digits", with_order(f'"amount":{"9" * 60}'), 422, ["amount"]),
    ("60 digits as text", with_order(f'"amount":"{"9" * 60}"'), 422, ["amount"]),
    ("5,000 digits", with_order(f'"amount":{"9" * 5000}'), 422, ["amount"]),
    ("unknown token", '{"tokenIn":"DOGE","tokenOut":"USDC","amount":1}', 422, ["tokenIn"]),
    ("same token", '{"tokenIn":"SOL","tokenOut":"SOL","amount":1}', 422, ["tokenOut"]),
    ("long token", f'{{"tokenIn":"{"S" * 300}","tokenOut":"USDC","amount":1}}', 422, ["tokenIn"]),
    ("missing fields", "{}", 422, ["amountIn", "tokenIn", "tokenOut"]),
    ("wrong types", '{"tokenIn":1,"tokenOut":[],"amount":{}}', 422,
     ["tokenIn", "tokenOut", "amount"]),
    ("unknown type", with_order('"amount":1,"type":"stop"'), 422, ["type"]),
    ("unknown orderType", with_order('"amount":1,"orderType":"stop"'), 422, ["orderType"]),
    ("limit without price and expiry", with_order('"amount":1,"type":"limit"'), 422,
     ["expiresAt", "limitPrice"]),
    ("sniper without trigger and expiry", with_order('"amount":1,"type":"sniper"'), 422,
     ["expiresAt", "trigger"]),
    ("expiry in the past", with_limit('"expiresAt":"2020-01-01T00:00:00Z"'), 422, ["expiresAt"]),
    ("expiry far ahead", with_limit('"expiresAt":"2999-01-01T00:00:00Z"'), 422, ["expiresAt"]),
    ("expiry without a zone", with_limit('"expiresAt":"2999-01-01T00:00:00"'), 422, ["expiresAt"]),
    ("expiry that is a number", with_limit('"expiresAt":1893456000'), 422, ["expiresAt"]),
    ("price 0", with_limit('"limitPrice":0'), 422, ["limitPrice"]),
    ("price below 0", with_limit('"targetPrice":"-1"'), 422, ["targetPrice"]),
    ("price with too many digits", with_limit('"limitPrice":"0.1234567890123456789"'), 422,
     ["limitPrice"]),
    ("trigger on a limit order", with_limit('"limitPrice":1,"trigger":{}'), 422, ["trigger"]),
    ("price on a sniper order", with_sniper('"limitPrice":1,"trigger":{}'), 422, ["limitPrice"]),
    ("unknown venue", with_sniper('"trigger":{"venue":"orca"}'), 422, ["trigger.venue"]),
    ("negative liquidity", with_sniper('"trigger":{"minLiquidity":-1}'), 422,
     ["trigger.minLiquidity"]),
    ("unknown trigger", with_sniper('"trigger":{"type":"moon"}'), 422, ["trigger.type"]),
    ("trigger that is a text", with_sniper('"trigger":"poolCreated"'), 422, ["trigger"]),
    ("slippage below 0", with_order('"amount":1,"slippage":-0.1'), 422, ["slippage"]),
    ("slippage above 1", with_order('"amount":1,"slippageTolerance":"1.5"'), 422,
     ["slippageTolerance"]),
    ("both slippages", with_order('"amount":1,"slippage":0.01,"slippageBps":100'), 422,
     ["slippageBps"]),
    ("NUL", with_order('"amount":1,"userId":"a\\u0000b"'), 422, ["userId"]),
    ("NUL in the client's id", with_order('"amount":1,"clientOrderId":"\\u0000"'), 422,
     ["clientOrderId"]),
    ("lone surrogate", with_order('"amount":1,"userId":"\\ud800"'), 422, ["userId"]),
    ("null", "null", 400, []),
    ("array", '[{"tokenIn":"SOL","tokenOut":"USDC","amount":1}]', 400, []),
    ("text", '"tokenIn"', 400, []),
    ("malformed", '{"tokenIn":', 400, []),
    ("form", "tokenIn=SOL&tokenOut=USDC&amount=1", 400, []),
    ("no body", None, 400, []),
    ("empty body", "", 400, []),
    ("invalid UTF-8, replaced", with_order('"amount":1,"userId":"\ufffd"'), 400, []),
    ("deep", "[" * 20_000, 400, []),
    ("5 MB", with_order(f'"amount":1,"note":"{"x" * 5_000_000}"'), 413, []),
]  # fmt: skip


@pytest.mark.parametrize(
    ("body", "status", "fields"),
    [bad[1:] for bad in BAD_REQUESTS],
    ids=[bad[0] for bad in BAD_REQUESTS],
)
def test_bad_input_is_refused_naming_the_field_and_nothing_is_stored(
    api: Api, database: Database, body: str | None, status: int, fields: list[str]
) -> None:
    before = stored_orders(database)

    reply = api.request("POST", "/api/orders/execute", body=body)

    assert reply.status == status
    assert_problem(reply.text, reply.headers, status)
    assert sorted(reply.faulty_fields) == sorted(fields)
    assert stored_orders(database) == before


@pytest.mark.parametrize(
    ("raw", "status"),
    [
        (b'{"tokenIn":"SOL","tokenOut":"USDC","amount":1,"userId":"\xff"}', 400),
        (b"\xff\xfe\x00", 400),
        (b'{"tokenIn":"SOL","tokenOut":"USDC","amount":1' + b" " * 70_000 + b"}", 413),
        (b'{"tokenIn":"SOL","tokenOut":"USDC","amount":1}', 202),
    ],
)
def test_binary_bodies_are_decoded(api: Api, raw: bytes, status: int) -> None:
    body = base64.b64encode(raw).decode()

    reply = api.request("POST", "/api/orders/execute", body=body, base64_encoded=True)

    assert reply.status == status


def assert_problem(text: str, headers: Mapping[str, str], status: int) -> None:
    problem = json.loads(text)
    assert headers["content-type"] == "application/problem+json"
    assert set(problem) == {"type", "title", "status", "detail", "code", "requestId", "errors"}
    assert problem["status"] == status
    assert problem["requestId"]
    assert "Traceback" not in text


@pytest.mark.parametrize(
    ("path", "query", "field"),
    [
        ("/api/orders/42", None, "orderId"),
        ("/api/orders/not-a-uuid", None, "orderId"),
        ("/api/orders/3f0e9a6c-4f5d-4a39-9d0e-7d6c1f2b8a1g", None, "orderId"),
        ("/api/orders/by-client-id/a b", None, "clientOrderId"),
        ("/api/orders/by-client-id/" + "x" * 129, None, "clientOrderId"),
        ("/api/orders/by-client-id/a", {"userId": "\x00"}, "userId"),
        ("/api/orders", {"limit": "0"}, "limit"),
        ("/api/orders", {"limit": "-1"}, "limit"),
        ("/api/orders", {"limit": "201"}, "limit"),
        ("/api/orders", {"limit": "100000"}, "limit"),
        ("/api/orders", {"limit": "ten"}, "limit"),
        ("/api/orders", {"limit": "1" * 5000}, "limit"),
        ("/api/orders", {"limit": "1,2"}, "limit"),
        ("/api/orders", {"cursor": "nonsense"}, "cursor"),
        ("/api/orders", {"cursor": ""}, "cursor"),
        ("/api/orders", {"cursor": "x" * 5000}, "cursor"),
        ("/api/orders", {"status": "done"}, "status"),
        ("/api/orders", {"orderType": "stop"}, "orderType"),
        ("/api/orders", {"userId": ""}, "userId"),
        ("/api/orders", {"userId": "a\x00"}, "userId"),
        ("/api/quotes", {"tokenIn": "SOL", "tokenOut": "USDC"}, "amountIn"),
        ("/api/quotes", {"tokenIn": "SOL", "tokenOut": "USDC", "amountIn": "1e400"}, "amountIn"),
        ("/api/quotes", {"tokenIn": "SOL", "tokenOut": "USDC", "amountIn": "0"}, "amountIn"),
        ("/api/quotes", {"tokenIn": "SOL", "tokenOut": "USDC", "amountIn": "1e-10"}, "amountIn"),
        ("/api/quotes", {"tokenIn": "DOGE", "tokenOut": "USDC", "amountIn": "1"}, "tokenIn"),
        ("/api/quotes", {"tokenIn": "SOL", "tokenOut": "SOL", "amountIn": "1"}, "tokenOut"),
    ],
)
def test_a_bad_parameter_is_refused_by_name(
    api: Api, path: str, query: dict[str, str] | None, field: str
) -> None:
    reply = api.get(path, query)

    assert reply.status == 422
    assert_problem(reply.text, reply.headers, 422)
    assert reply.faulty_fields == [field]


@pytest.mark.parametrize(
    "path",
    [
        "/nope",
        "/api",
        "/api/",
        "/api/orders/",
        "/api/order",
        "/docs/../app.py",
        "/docs/unknown.js",
        "/api/orders/\x00",
        "/api/orders/a/b/c",
        "/api/{orders}/<x>",
        '/api/orders/"',
    ],
)
def test_an_unknown_route_is_not_found(api: Api, path: str) -> None:
    reply = api.get(path)

    assert_problem(reply.text, reply.headers, 404)
    assert reply.json["code"] == "ROUTE_NOT_FOUND"


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("PUT", "/api/orders", "GET, POST"),
        ("PUT", "/api/orders/3f0e9a6c-4f5d-4a39-9d0e-7d6c1f2b8a10", "DELETE, GET, PATCH"),
        ("DELETE", "/api/health", "GET"),
        ("BREW", "/api/quotes", "GET"),
        ("GET", "/orders/execute", "POST"),
        ("GET", "/api/orders/execute", "POST"),
    ],
)
def test_an_unknown_method_is_refused_naming_the_known_ones(
    api: Api, method: str, path: str, allowed: str
) -> None:
    reply = api.request(method, path)

    assert_problem(reply.text, reply.headers, 405)
    assert reply.headers["allow"] == allowed


# Reading


def test_an_order_is_shown_with_its_events(api: Api) -> None:
    order_id = api.post(ORDER).json["orderId"]

    reply = api.get(f"/api/orders/{order_id.upper()}")

    assert reply.status == 200
    assert reply.json["orderId"] == order_id
    [event] = reply.json["events"]
    assert event == {
        "type": "order.pending",
        "orderId": order_id,
        "userId": "anonymous",
        "seq": 1,
        "status": "pending",
        "event": "pending",
        "attempt": 0,
        "final": False,
        "timestamp": event["timestamp"],
    }


def test_an_order_that_is_not_there_is_not_found(api: Api) -> None:
    reply = api.get(f"/api/orders/{uuid.uuid4()}")

    assert_problem(reply.text, reply.headers, 404)
    assert reply.json["code"] == "ORDER_NOT_FOUND"


def test_an_order_is_found_by_the_clients_own_id_and_user(api: Api) -> None:
    user = some_user()
    own_id = "fault*1@raydium-a.b_c~d:e=f+g"
    order_id = api.post({**ORDER, "userId": user, "clientOrderId": own_id}).json["orderId"]

    found = api.get(f"/api/orders/by-client-id/{own_id}", {"userId": user})
    others = api.get(f"/api/orders/by-client-id/{own_id}")

    assert (found.status, found.json["orderId"]) == (200, order_id)
    assert others.status == 404


def test_pages_show_every_order_once_newest_first(api: Api) -> None:
    user = some_user()
    placed = [api.post({**ORDER, "userId": user}).json["orderId"] for _ in range(5)]

    shown: list[str] = []
    query = {"userId": user, "limit": "2"}
    while True:
        page = api.get("/api/orders", query).json
        shown += [order["orderId"] for order in page["orders"]]
        if page["nextCursor"] is None:
            break
        query["cursor"] = page["nextCursor"]

    assert sorted(shown) == sorted(placed)
    times = [stored_order(order_id).created_at for order_id in shown]
    assert times == sorted(times, reverse=True)


@pytest.mark.parametrize(
    ("status", "found"),
    [("all", 1), ("open", 1), ("closed", 0), ("pending", 1), ("confirmed", 0)],
)
def test_lists_are_narrowed_by_status(api: Api, status: str, found: int) -> None:
    user = some_user()
    api.post({**ORDER, "userId": user})

    page = api.get("/api/orders", {"userId": user, "status": status, "orderType": "market"}).json

    assert len(page["orders"]) == found


def test_a_list_holds_no_others_type(api: Api) -> None:
    user = some_user()
    api.post({**ORDER, "userId": user})

    assert api.get("/api/orders", {"userId": user, "orderType": "limit"}).json["orders"] == []


@pytest.mark.parametrize("name", ["Doe, Jane", "a,b", "Jürgen | 山田"])
def test_user_ids_with_commas_are_whole(api: Api, name: str) -> None:
    user = f"{name} {uuid.uuid4()}"
    api.post({**ORDER, "userId": user})

    assert len(api.get("/api/orders", {"userId": user}).json["orders"]) == 1


def test_quotes_are_compared(api: Api) -> None:
    reply = api.get("/api/quotes", {"tokenIn": "SOL", "tokenOut": "USDC", "amountIn": "1.50"})

    assert reply.status == 200
    comparison = reply.json
    assert comparison["amountIn"] == "1.5"
    assert {quote["dex"] for quote in comparison["quotes"]} == {"raydium", "meteora"}
    assert comparison["bestDex"] in {"raydium", "meteora"}
    assert comparison["missing"] == []


def test_venues_without_a_quote_say_why(api: Api) -> None:
    reply = api.get("/api/quotes", {"tokenIn": "SOL", "tokenOut": "USDC", "amountIn": "900000000"})

    assert reply.status == 200
    assert reply.json["quotes"] == [] or reply.json["bestDex"]
    assert {missing["code"] for missing in reply.json["missing"]} <= {"INSUFFICIENT_LIQUIDITY"}
    assert len(reply.json["quotes"]) + len(reply.json["missing"]) == 2


def test_health_tells_the_database_and_the_access(api: Api) -> None:
    reply = api.get("/api/health")

    assert reply.status == 200
    assert reply.json["status"] == "ok"
    assert reply.json["access"] == "open"
    assert reply.json["database"] == {"status": "ok"}


# Trouble


@pytest.fixture
def api_without_database(start_api: Callable[..., Api]) -> Api:
    secret = aws.client("secretsmanager").create_secret(
        Name="away",
        SecretString=json.dumps({"url": "postgresql://user:hidden-password@127.0.0.1:9/orders"}),
    )
    return start_api(DATABASE_SECRET_ARN=secret["ARN"])


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("POST", "/api/orders/execute", json.dumps(ORDER)),
        ("GET", "/api/orders", None),
        ("GET", f"/api/orders/{uuid.uuid4()}", None),
        ("GET", "/api/orders/by-client-id/mine", None),
        ("GET", "/api/health", None),
    ],
)
def test_a_database_that_is_away_means_try_again_later(
    api_without_database: Api, method: str, path: str, body: str | None
) -> None:
    reply = api_without_database.request(method, path, body=body)

    assert_problem(reply.text, reply.headers, 503)
    assert reply.json["code"] == "DATABASE_UNAVAILABLE"
    assert int(reply.headers["retry-after"]) > 0
    assert "hidden-password" not in reply.text


def test_a_missing_secret_means_try_again_later(start_api: Callable[..., Api]) -> None:
    api = start_api(DATABASE_SECRET_ARN="arn:aws:secretsmanager:us-east-1:1:secret:none")

    assert api.get("/api/health").status == 503


def test_quotes_need_no_database(api_without_database: Api) -> None:
    query = {"tokenIn": "SOL", "tokenOut": "USDC", "amountIn": "1"}

    assert api_without_database.get("/api/quotes", query).status == 200


def test_a_bug_tells_the_client_nothing_and_the_log_everything(
    api: Api, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail() -> None:
        raise ZeroDivisionError("the secret of the bug")

    monkeypatch.setattr(bootstrap.orders(), "ping", fail)

    reply = api.get("/api/health")

    assert_problem(reply.text, reply.headers, 500)
    assert "secret of the bug" not in reply.text
    [bug] = [line for line in log_lines(capsys.readouterr().out) if line["level"] == "ERROR"]
    assert "the secret of the bug" in bug["exception"]


def test_a_reply_that_breaks_the_document_is_a_bug(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bootstrap.queries(), "page", lambda **_arguments: {"orders": 1})

    assert api.get("/api/orders").status == 500


# Callers


def test_without_a_token_nothing_is_told_where_callers_are_required(
    start_api: Callable[..., Api],
) -> None:
    api = start_api(CALLER_REQUIRED="true")

    replies = [
        api.post(ORDER),
        api.post(ORDER, claims={}),
        api.post(ORDER, claims={"sub": ""}),
        api.get("/api/orders"),
        api.get(f"/api/orders/{uuid.uuid4()}"),
        api.get("/api/orders/by-client-id/mine"),
        api.get("/api/quotes", {"tokenIn": "SOL", "tokenOut": "USDC", "amountIn": "1"}),
    ]

    assert {reply.status for reply in replies} == {401}
    for reply in replies:
        assert_problem(reply.text, reply.headers, 401)
        assert reply.headers["www-authenticate"] == "Bearer"


@pytest.mark.parametrize(
    "fault",
    [
        {"exp": ""},
        {"exp": "never"},
        {"exp": "NaN"},
        {"exp": "1700000000"},
        {"iss": "https://elsewhere.example.com"},
        {"iss": ""},
        {"sub": "a\nb"},
        {"sub": "\ud800"},
        {"sub": "x" * 256},
    ],
    ids=repr,
)
def test_claims_that_the_gateway_should_not_have_let_through_are_refused(
    start_api: Callable[..., Api], fault: dict[str, str]
) -> None:
    issuer = "https://issuer.example.com"
    api = start_api(CALLER_REQUIRED="true", JWT_ISSUER=issuer)

    reply = api.post(ORDER, claims={"iss": issuer, "sub": "alice", **fault})

    assert_problem(reply.text, reply.headers, 401)


def test_a_time_may_be_written_with_an_exponent(start_api: Callable[..., Api]) -> None:
    issuer = "https://issuer.example.com"
    api = start_api(CALLER_REQUIRED="true", JWT_ISSUER=issuer)

    reply = api.post(ORDER, claims={"iss": issuer, "sub": some_user(), "exp": "4.1024448E9"})

    assert reply.status == 202


def test_health_and_documents_need_no_token(start_api: Callable[..., Api]) -> None:
    api = start_api(CALLER_REQUIRED="true")

    assert api.get("/api/health").json["access"] == "authenticated"
    assert api.get("/docs").status == 200
    assert api.get("/api/openapi.json").status == 200


def test_callers_see_their_own_orders_only(start_api: Callable[..., Api]) -> None:
    api = start_api(CALLER_REQUIRED="true")
    alice, bob = {"sub": some_user()}, {"sub": some_user()}
    order = api.post({**ORDER, "clientOrderId": "mine"}, claims=alice).json

    assert order["userId"] == alice["sub"]
    path = f"/api/orders/{order['orderId']}"
    assert api.get(path, claims=alice).status == 200
    assert api.get(path, claims=bob).status == 404
    own = api.get("/api/orders/by-client-id/mine", claims=alice)
    assert own.json["orderId"] == order["orderId"]
    assert api.get("/api/orders/by-client-id/mine", claims=bob).status == 404
    assert len(api.get("/api/orders", claims=alice).json["orders"]) == 1
    assert api.get("/api/orders", claims=bob).json["orders"] == []


def test_nobody_acts_for_somebody_else(start_api: Callable[..., Api]) -> None:
    api = start_api(CALLER_REQUIRED="true")
    claims = {"sub": "alice"}

    replies = [
        api.post({**ORDER, "userId": "bob"}, claims=claims),
        api.get("/api/orders", {"userId": "bob"}, claims=claims),
        api.get("/api/orders/by-client-id/mine", {"userId": "bob"}, claims=claims),
    ]

    assert [reply.status for reply in replies] == [422, 422, 422]
    assert all(reply.faulty_fields == ["userId"] for reply in replies)


# Browsers


def test_a_preflight_is_answered(api: Api) -> None:
    reply = api.request(
        "OPTIONS",
        "/api/orders/execute",
        headers={"Origin": "https://app.example.com", "Access-Control-Request-Method": "POST"},
    )

    assert reply.status == 204
    assert reply.headers["access-control-allow-origin"] == "*"
    assert "POST" in reply.headers["access-control-allow-methods"]
    allowed = reply.headers["access-control-allow-headers"].lower().split(",")
    assert {"idempotency-key", "authorization", "content-type"} <= set(allowed)


@pytest.mark.parametrize("path", ["/api/quotes", "/nope", "/api/orders/x"])
def test_errors_can_be_read_by_pages_of_other_origins(api: Api, path: str) -> None:
    reply = api.get(path)

    assert reply.status >= 400
    assert reply.headers["access-control-allow-origin"] == "*"
    assert "Location" in reply.headers["access-control-expose-headers"]


@pytest.mark.parametrize("path", ["/docs", "/"])
def test_pages_are_locked_down(api: Api, path: str) -> None:
    reply = api.get(path)

    assert reply.status == 200
    assert reply.headers["content-type"].startswith("text/html")
    policy = reply.headers["content-security-policy"]
    assert "frame-ancestors 'none'" in policy
    assert "'unsafe-inline'" not in policy.split("script-src")[1].split(";")[0]
    assert reply.headers["referrer-policy"] == "no-referrer"
    assert "strict-transport-security" in reply.headers
    assert reply.headers["x-content-type-options"] == "nosniff"


def test_the_console_has_its_styles_in_it_and_its_policy_knows_them(api: Api) -> None:
    reply = api.get("/")

    assert 'rel="stylesheet"' not in reply.text
    [styles] = re.findall(r"<style>(.*?)</style>", reply.text, re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(styles.encode()).digest()).decode()
    assert f"style-src 'sha256-{digest}';" in reply.headers["content-security-policy"]


def scripts_of(page: str) -> dict[str, str]:
    return dict(re.findall(r"<script (.*?)>(.*?)</script>", page, re.DOTALL))


def test_the_console_runs_what_bears_its_nonce_and_nothing_else(api: Api) -> None:
    reply = api.get("/")

    [nonce] = re.findall(r"script-src 'nonce-(.{24})';", reply.headers["content-security-policy"])
    assert list(scripts_of(reply.text)) == [
        f'type="importmap" nonce="{nonce}"',
        f'type="module" nonce="{nonce}"',
        'type="application/json" id="tables"',
    ]


def test_no_two_pages_have_the_same_nonce(api: Api) -> None:
    policies = {api.get("/").headers["content-security-policy"] for _ in range(3)}

    assert len(policies) == 3


def test_the_console_has_all_that_its_modules_import(api: Api) -> None:
    scripts = scripts_of(api.get("/").text)
    import_map, start, tables = scripts.values()

    assert set(json.loads(tables)["venues"]) == {"raydium", "meteora"}
    modules = json.loads(import_map)["imports"]
    code = {
        name: urllib.parse.unquote(url.removeprefix("data:text/javascript;charset=utf-8,"))
        for name, url in modules.items()
    }
    imported = set(re.findall(r'^import "(.*)";$', start))
    for text in code.values():
        imported |= set(re.findall(r'^(?:}|import .*) from "(.*)";$', text, re.MULTILINE))
    assert imported == set(modules)
    assert len(modules) > 1
    # A line break or a # as it is would end the code, and a % would begin another character.
    assert all(re.fullmatch(r"[^\n#]*", url) for url in modules.values())
    assert {name: text.count("\n") > 10 for name, text in code.items()} == dict.fromkeys(code, True)


def test_the_documentation_needs_nothing_from_elsewhere(api: Api) -> None:
    page = api.get("/docs").text

    assert "//" not in page.replace("<!doctype", "")
    for asset in ("docs/swagger-ui.css", "docs/swagger-ui-bundle.js", "docs/start.js"):
        assert f'"{asset}"' in page
        reply = api.get(f"/{asset}")
        assert reply.status == 200
        assert len(reply.text) < 5_000_000


def test_large_assets_are_compressed(api: Api) -> None:
    reply = api.get("/docs/swagger-ui-bundle.js", headers={"Accept-Encoding": "gzip, br"})

    assert reply.headers["content-encoding"] == "gzip"
    assert reply.base64_encoded
    assert b"SwaggerUIBundle" in gzip.decompress(base64.b64decode(reply.text))


# The document


@pytest.mark.parametrize("caller_required", ["false", "true"])
def test_the_openapi_document_is_valid(start_api: Callable[..., Api], caller_required: str) -> None:
    api = start_api(CALLER_REQUIRED=caller_required)

    reply = api.get("/api/openapi.json")

    assert reply.headers["content-type"] == "application/json"
    validate(reply.json)
    secured = [
        operation
        for methods in reply.json["paths"].values()
        for operation in methods.values()
        if operation.get("security")
    ]
    assert len(secured) == (10 if caller_required == "true" else 0)
    assert all("401" in operation["responses"] for operation in secured)


def test_the_document_describes_every_route(api: Api) -> None:
    document = api.get("/api/openapi.json").json

    assert {
        (path, method) for path, methods in document["paths"].items() for method in methods
    } == {
        ("/api/orders/execute", "post"),
        ("/api/orders", "post"),
        ("/orders/execute", "post"),
        ("/api/orders", "get"),
        ("/api/orders/{orderId}", "get"),
        ("/api/orders/{orderId}", "delete"),
        ("/api/orders/{orderId}", "patch"),
        ("/api/stream-tickets", "post"),
        ("/api/orders/by-client-id/{clientOrderId}", "get"),
        ("/api/quotes", "get"),
        ("/api/health", "get"),
    }
    schemas = document["components"]["schemas"]
    assert "HTTPValidationError" not in json.dumps(document)
    assert {"OrderRequest", "OrderAccepted", "OrderWithEvents", "Problem"} <= set(schemas)


def test_the_documents_examples_are_accepted(api: Api) -> None:
    document = api.get("/api/openapi.json").json
    body = document["paths"]["/api/orders/execute"]["post"]["requestBody"]

    examples = body["content"]["application/json"]["examples"]
    assert len(examples) >= 5
    for example in examples.values():
        fields = example["value"] | {"clientOrderId": f"my-{uuid.uuid4()}"}
        assert api.post(fields).status == 202


# WebSocket


@pytest.fixture
def connection_id(api: Api) -> str:
    return open_connection(api)


def open_connection(api: Api, user_id: str = "") -> str:
    connection_id = f"connection-{uuid.uuid4()}"
    bootstrap.stream().register_connection(
        Connection(connection_id, user_id), None, 0, datetime.now(UTC)
    )
    return connection_id


def test_execute_submits_and_subscribes_the_connection(api: Api, connection_id: str) -> None:
    reply = api.send({"action": "execute", "requestId": "r1", **ORDER}, connection_id)

    assert reply is None
    [order_id] = started_executions(api)
    row = stream_rows(f"order#{order_id}")[f"conn#{connection_id}"]
    assert row["afterSeq"] == {"N": "0"}
    greeting = json.loads(row["greeting"]["S"])
    assert greeting["type"] == "accepted"
    assert greeting["requestId"] == "r1"
    assert greeting["order"]["orderId"] == greeting["orderId"] == order_id


def test_execute_twice_with_a_key_is_one_order(api: Api, connection_id: str) -> None:
    message = {"action": "execute", "idempotencyKey": "k", "userId": some_user(), **ORDER}

    assert [api.send(message, connection_id) for _ in range(2)] == [None, None]

    assert len(started_executions(api)) == 1


def test_execute_with_a_key_of_another_order_names_the_key_as_the_client_did(
    api: Api, connection_id: str
) -> None:
    message = {"action": "execute", "idempotencyKey": "k2", "userId": some_user(), **ORDER}
    api.send(message, connection_id)

    refusal = api.send({**message, "amount": "7"}, connection_id)

    assert refusal is not None
    assert refusal["code"] == "IDEMPOTENCY_KEY_REUSED"
    assert [fault["field"] for fault in refusal["errors"]] == ["idempotencyKey"]


@pytest.mark.parametrize(
    ("message", "code", "fields", "request_id"),
    [
        ({"requestId": "r1", "tokenIn": "SOL"}, "VALIDATION_FAILED",
         ["amountIn", "tokenOut"], "r1"),
        ({"requestId": "r1", **ORDER, "type": "limit"}, "VALIDATION_FAILED",
         ["expiresAt", "limitPrice"], "r1"),
        ({"requestId": 5, **ORDER}, "VALIDATION_FAILED", ["requestId"], None),
        ({"requestId": "x" * 129, **ORDER}, "VALIDATION_FAILED", ["requestId"], None),
        ({"idempotencyKey": "a b", **ORDER}, "VALIDATION_FAILED", ["idempotencyKey"], None),
        ({"idempotencyKey": 5, **ORDER}, "VALIDATION_FAILED", ["idempotencyKey"], None),
        ("{", "MALFORMED_BODY", [], None),
        ("", "MALFORMED_BODY", [], None),
        ("[]", "MALFORMED_BODY", [], None),
        ({"note": "x" * 70_000}, "BODY_TOO_LARGE", [], None),
    ],
)  # fmt: skip
def test_execute_answers_errors_as_messages(
    api: Api,
    connection_id: str,
    database: Database,
    message: object,
    code: str,
    fields: list[str],
    request_id: str | None,
) -> None:
    before = stored_orders(database)

    reply = api.send(message, connection_id)

    assert reply is not None
    assert (reply["type"], reply["code"], reply["requestId"]) == ("error", code, request_id)
    assert [error["field"] for error in reply["errors"]] == fields
    assert stored_orders(database) == before


def test_execute_without_a_database_is_an_error_message(api_without_database: Api) -> None:
    connection_id = open_connection(api_without_database)

    reply = api_without_database.send({"requestId": "r1", **ORDER}, connection_id)

    assert reply is not None
    assert reply["code"] == "DATABASE_UNAVAILABLE"
    assert "hidden-password" not in json.dumps(reply)


def test_execute_acts_for_the_connections_user(start_api: Callable[..., Api]) -> None:
    api = start_api(CALLER_REQUIRED="true")
    user = some_user()

    assert api.send(ORDER, open_connection(api, user)) is None

    [order_id] = started_executions(api)
    assert stored_order(order_id).user_id == user


@pytest.mark.parametrize("user_id", ["", "alice"])
def test_execute_acts_for_nobody_else(start_api: Callable[..., Api], user_id: str) -> None:
    api = start_api(CALLER_REQUIRED="true")

    reply = api.send({**ORDER, "userId": "bob"}, open_connection(api, user_id))

    assert reply is not None
    assert reply["code"] == ("VALIDATION_FAILED" if user_id else "UNAUTHENTICATED")


def test_an_order_whose_connection_cannot_be_subscribed_is_named(
    api: Api, connection_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_arguments: object) -> None:
        raise StreamUnavailable("away")

    monkeypatch.setattr(bootstrap.stream(), "subscribe_connection", refuse)

    reply = api.send({"requestId": "r1", **ORDER}, connection_id)

    assert reply is not None
    assert (reply["code"], reply["requestId"]) == ("NOT_SUBSCRIBED", "r1")
    assert reply["orderId"] == started_executions(api)[0]


# Samples and logs


@pytest.mark.parametrize(
    ("name", "status"),
    [
        ("api-execute-order", 202),
        ("api-get-order", 404),
        ("api-get-order-by-client-id", 200),
        ("api-list-orders", 200),
        ("api-quotes", 200),
        ("api-health", 200),
        ("api-websocket-execute", 200),
    ],
)
def test_the_sample_events_are_answered(api: Api, name: str, status: int) -> None:
    api.invoke(sample_event("api-execute-order"))

    assert api.invoke(sample_event(name))["statusCode"] == status


def log_lines(captured: str) -> list[dict[str, Any]]:
    lines = [json.loads(line) for line in captured.splitlines() if line.startswith("{")]
    return [{"level": "", **line} for line in lines]


def test_each_request_is_one_log_line_that_names_the_order(
    api: Api, capsys: pytest.CaptureFixture[str]
) -> None:
    order_id = api.post(ORDER, headers={"Authorization": "Bearer hidden-token"}).json["orderId"]
    api.get("/nope")

    output = capsys.readouterr().out
    assert "hidden-token" not in output
    requests = [line for line in log_lines(output) if line.get("message") == "request"]
    assert [(line["method"], line["path"], line["status"]) for line in requests] == [
        ("POST", "/api/orders/execute", 202),
        ("GET", "/nope", 404),
    ]
    assert requests[0]["order_id"] == order_id
    assert requests[0]["request_id"]
    assert requests[1]["code"] == "ROUTE_NOT_FOUND"
    assert "order_id" not in requests[1]


def test_accepted_repeated_and_refused_requests_are_counted(
    api: Api, capsys: pytest.CaptureFixture[str]
) -> None:
    fields = {**ORDER, "userId": some_user(), "clientOrderId": "mine"}
    for request in (fields, fields, {**fields, "amount": -1}):
        api.post(request)

    counts: dict[str, float] = {}
    for line in log_lines(capsys.readouterr().out):
        for metric in line.get("_aws", {}).get("CloudWatchMetrics", []):
            for name in (entry["Name"] for entry in metric["Metrics"]):
                counts[name] = counts.get(name, 0) + sum(line[name])
    assert counts == {
        "OrdersAccepted": 1,
        "IdempotentReplays": 1,
        "RequestsRefused": 1,
        "RequestsRefused_VALIDATION_FAILED": 1,
    }
