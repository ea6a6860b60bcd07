"""Whatever a client sends, the answer is a problem document and nothing is stored."""

from __future__ import annotations

import json

import httpx
import pytest
from tests.e2e.engine import Engine, market_order

FIVE_MEGABYTES = 5 * 1024 * 1024


def body(**fields: object) -> bytes:
    return json.dumps({**market_order(), **fields}).encode()


def raw(field: str, literal: str) -> bytes:
    """A body in which a field has a value that no JSON writer writes."""
    return body(**{field: "@"}).replace(b'"@"', literal.encode())


INVALID_ORDERS = {
    "negative": (body(amountIn="-1"), 422, "amountIn"),
    "zero": (body(amountIn=0), 422, "amountIn"),
    "nan": (body(amountIn="NaN"), 422, "amountIn"),
    "infinity": (raw("amountIn", "Infinity"), 422, "amountIn"),
    "1e400": (raw("amountIn", "1e400"), 422, "amountIn"),
    "1e300-text": (body(amountIn="1e300"), 422, "amountIn"),
    "too-many-decimals": (raw("amountIn", "1e-12"), 422, "amountIn"),
    "sixty-digits": (raw("amountIn", "1" * 60), 422, "amountIn"),
    "unknown-token": (body(tokenIn="DOGE"), 422, "tokenIn"),
    "long-token": (body(tokenOut="X" * 300), 422, "tokenOut"),
    "same-token": (body(tokenOut="SOL"), 422, "tokenOut"),
    "wrong-type": (body(tokenIn=["SOL"]), 422, "tokenIn"),
    "unknown-type": (body(type="stop"), 422, "type"),
    "slippage-above-1": (body(slippageTolerance=1.01), 422, "slippageTolerance"),
    "both-slippages": (body(slippageBps=10), 422, "slippageBps"),
    "nul": (body(clientOrderId="a\0b"), 422, "clientOrderId"),
    "lone-surrogate": (raw("userId", '"\\ud800"'), 422, "userId"),
    "no-fields": (b"{}", 422, "tokenIn"),
    "null": (b"null", 400, None),
    "no-body": (b"", 400, None),
    "array": (b"[]", 400, None),
    "malformed": (b'{"tokenIn": "SOL"', 400, None),
    "invalid-utf-8": (body(userId="@").replace(b"@", b"\xff"), 400, None),
    "five-megabytes": (body(userId="x" * FIVE_MEGABYTES), 413, None),
}

INVALID_REQUESTS = {
    "no-uuid": ("GET", "api/orders/no-uuid", 422),
    "no-order": ("GET", "api/orders/00000000-0000-4000-8000-000000000000", 404),
    "no-cursor": ("GET", "api/orders?cursor=%00%FF", 422),
    "limit-zero": ("GET", "api/orders?limit=0", 422),
    "limit-huge": ("GET", "api/orders?limit=100000", 422),
    "unknown-status": ("GET", "api/orders?status=sleeping", 422),
    "quotes-without-amount": ("GET", "api/quotes?tokenIn=SOL&tokenOut=USDC", 422),
    "quotes-of-nothing": ("GET", "api/quotes?tokenIn=SOL&tokenOut=USDC&amountIn=0", 422),
    "unknown-route": ("GET", "api/nothing", 404),
    "unknown-page": ("GET", "nothing/at/all", 404),
    "unknown-method": ("PATCH", "api/orders", 405),
}


def assert_is_problem(response: httpx.Response, status: int) -> None:
    assert response.status_code == status, response.text
    assert response.headers["Content-Type"].startswith("application/problem+json")
    problem = response.json()
    assert problem["status"] == status
    assert {"type", "title", "detail", "code", "requestId", "errors"} <= set(problem)


@pytest.mark.parametrize("name", INVALID_ORDERS)
def test_invalid_order_is_refused_and_not_stored(engine: Engine, name: str) -> None:
    # given
    content, status, field = INVALID_ORDERS[name]
    stored = engine.count_orders()
    # when
    response = engine.http.post(
        "api/orders/execute", content=content, headers={"Content-Type": "application/json"}
    )
    # then
    assert_is_problem(response, status)
    assert field is None or field in {error["field"] for error in response.json()["errors"]}
    assert engine.count_orders() == stored


@pytest.mark.parametrize("name", INVALID_REQUESTS)
def test_invalid_request_is_answered_with_a_problem(engine: Engine, name: str) -> None:
    method, path, status = INVALID_REQUESTS[name]
    assert_is_problem(engine.http.request(method, path), status)
