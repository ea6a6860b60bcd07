"""The api function with orders at rest, cancel, amend and tickets, against a real Postgres."""

import uuid
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import parse_qs, urlsplit

import psycopg
import pytest
from tests.integration.conftest import Api

from order_engine import bootstrap
from order_engine.clock import timestamp_text

ORDER = {"tokenIn": "SOL", "tokenOut": "USDC", "amount": 1.5}
ALICE, BOB = {"sub": "alice"}, {"sub": "bob"}


def soon() -> str:
    return timestamp_text(datetime.now(UTC) + timedelta(hours=1))


LIMIT_ORDER = {**ORDER, "type": "limit", "limitPrice": "100000"}


def resting_order(api: Api, **changes: Any) -> Any:
    reply = api.post({**LIMIT_ORDER, "expiresAt": soon(), **changes})
    assert reply.status == 202
    return reply.json


def test_limit_order_off_the_market_rests(api: Api) -> None:
    order = resting_order(api)

    assert (order["status"], order["warnings"]) == ("open", [])
    assert order["limitPrice"] == "100000"


def test_marketable_limit_order_warns(api: Api) -> None:
    order = resting_order(api, limitPrice="0.01")

    assert "marketable" in order["warnings"][0]


def test_sniper_order_of_a_token_without_pool_rests(api: Api) -> None:
    order = resting_order(
        api, type="sniper", limitPrice=None, tokenOut="MOON", trigger={"minLiquidity": "5"}
    )

    assert order["status"] == "open"
    assert order["trigger"]["minLiquidity"] == "5"
    assert order["slippageBps"] == 1000


def test_sniper_order_of_an_open_pool_is_refused(api: Api) -> None:
    sniper = {**ORDER, "type": "sniper", "expiresAt": soon(), "trigger": {}}

    reply = api.post(sniper)
    allowed = api.post({**sniper, "trigger": {"allowExisting": True}})

    assert reply.status == 422
    assert reply.json["code"] == "POOL_ALREADY_OPEN"
    assert allowed.status == 202


def test_orders_at_rest_are_listed_as_open(api: Api) -> None:
    user = f"user-{uuid.uuid4()}"
    order = resting_order(api, userId=user)

    query = {"status": "open", "orderType": "limit", "userId": user}
    listed = api.get("/api/orders", query).json["orders"]

    assert [entry["orderId"] for entry in listed] == [order["orderId"]]


def test_canceled_order_answers_the_same_again(api: Api) -> None:
    path = f"/api/orders/{resting_order(api)['orderId']}"

    first, again = api.request("DELETE", path), api.request("DELETE", path)

    assert (first.status, first.json["status"]) == (200, "canceled")
    assert (again.status, again.json["seq"]) == (200, first.json["seq"])


def test_order_that_is_submitted_cannot_be_canceled(
    api: Api, database: psycopg.Connection[Any]
) -> None:
    order_id = api.post(ORDER).json["orderId"]
    for status in ("routing", "building", "submitted"):
        database.execute(
            "UPDATE orders SET status = %s, seq = seq + 1, tx_hash = 's', tx_payload = '',"
            " tx_venue = 'raydium', tx_last_valid_block_height = 1 WHERE id = %s",
            [status, order_id],
        )

    reply = api.request("DELETE", f"/api/orders/{order_id}")

    assert reply.status == 409
    assert reply.json["code"] == "ORDER_NOT_CANCELABLE"


def test_amendment_changes_an_order_at_rest(api: Api) -> None:
    path = f"/api/orders/{resting_order(api)['orderId']}"

    reply = api.request("PATCH", path, body='{"limitPrice": "99999.5", "slippageTolerance": 0.01}')

    assert reply.status == 200
    assert (reply.json["limitPrice"], reply.json["slippageBps"]) == ("99999.5", 100)
    assert api.get(path).json["limitPrice"] == "99999.5"


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ('{"limitPrice": -1}', "limitPrice"),
        ('{"expiresAt": "2020-01-01T00:00:00Z"}', "expiresAt"),
        ("{}", "limitPrice"),
    ],
)
def test_bad_amendment_is_refused_naming_the_field(api: Api, body: str, field: str) -> None:
    order_id = resting_order(api)["orderId"]

    reply = api.request("PATCH", f"/api/orders/{order_id}", body=body)

    assert (reply.status, reply.faulty_fields) == (422, [field])


def test_order_that_is_not_at_rest_cannot_be_amended(api: Api) -> None:
    order_id = resting_order(api)["orderId"]
    api.request("DELETE", f"/api/orders/{order_id}")

    reply = api.request("PATCH", f"/api/orders/{order_id}", body='{"limitPrice": 5}')

    assert reply.status == 409
    assert reply.json["code"] == "ORDER_NOT_AMENDABLE"


def test_replay_after_expiry_answers_with_the_order(
    api: Api, database: psycopg.Connection[Any]
) -> None:
    fields = {**LIMIT_ORDER, "clientOrderId": f"my-{uuid.uuid4()}"}
    expires_at = datetime.now(UTC) + timedelta(seconds=1)
    order = api.post({**fields, "expiresAt": timestamp_text(expires_at)}).json
    while datetime.now(UTC) <= expires_at:
        database.execute("SELECT pg_sleep(0.1)")

    reply = api.post({**fields, "expiresAt": timestamp_text(expires_at)})

    assert (reply.status, reply.json["orderId"]) == (202, order["orderId"])


@pytest.mark.parametrize("method", ["GET", "DELETE", "PATCH"])
def test_orders_of_others_do_not_exist(start_api: Callable[..., Api], method: str) -> None:
    api = start_api(CALLER_REQUIRED="true")
    order_id = api.post(ORDER, claims=ALICE).json["orderId"]

    body = '{"limitPrice": 5}' if method == "PATCH" else None
    reply = api.request(method, f"/api/orders/{order_id}", body=body, claims=BOB)

    assert (reply.status, reply.json["code"]) == (404, "ORDER_NOT_FOUND")


def test_authenticated_order_carries_a_ticket_for_its_stream(
    start_api: Callable[..., Api],
) -> None:
    api = start_api(CALLER_REQUIRED="true")

    order = api.post(ORDER, claims=ALICE).json

    query = parse_qs(urlsplit(order["wsUrl"]).query)
    ticket = bootstrap.stream().redeem_ticket(query["ticket"][0], datetime.now(UTC))
    assert ticket is not None
    assert (ticket.user_id, ticket.order_id) == ("alice", order["orderId"])


def test_stream_ticket_is_for_all_orders_of_the_caller(start_api: Callable[..., Api]) -> None:
    api = start_api(CALLER_REQUIRED="true")

    reply = api.request("POST", "/api/stream-tickets", claims=ALICE)

    ticket = bootstrap.stream().redeem_ticket(reply.json["ticket"], datetime.now(UTC))
    assert ticket is not None
    assert reply.status == 201
    assert (ticket.user_id, ticket.order_id) == ("alice", None)
    assert "userId=alice" in reply.json["wsUrl"]


def test_repeated_marketable_limit_order_warns_again(api: Api) -> None:
    terms = {"clientOrderId": f"repeated-{uuid.uuid4()}", "limitPrice": "0.01", "expiresAt": soon()}

    first, again = (resting_order(api, **terms) for _ in range(2))

    assert again["orderId"] == first["orderId"]
    assert again["warnings"] == first["warnings"] != []
