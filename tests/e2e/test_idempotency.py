"""One request, however often it is sent, makes one order."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest
from tests.e2e.crowd import calls_at_once
from tests.e2e.engine import Engine, Json, market_order, new_user

PARALLEL = 20


def post(engine: Engine, body: Json, key: str | None = None) -> httpx.Response:
    headers = {"Idempotency-Key": key} if key else {}
    return engine.http.post("api/orders/execute", json=body, headers=headers)


@pytest.fixture(scope="module")
def answers(engine: Engine) -> list[httpx.Response]:
    """The answers to equal requests that were sent at the same time."""
    body = market_order(clientOrderId="twenty-at-once")
    with ThreadPoolExecutor(calls_at_once(engine.place, PARALLEL)) as pool:
        return list(pool.map(lambda _: post(engine, body), range(PARALLEL)))


def test_equal_requests_at_once_are_all_answered_alike(answers: list[httpx.Response]) -> None:
    assert {answer.status_code for answer in answers} == {202}
    assert len({answer.json()["orderId"] for answer in answers}) == 1


def test_equal_requests_at_once_are_replays_but_one(answers: list[httpx.Response]) -> None:
    replays = [answer.headers.get("Idempotency-Replayed") for answer in answers]
    assert replays.count("true") == PARALLEL - 1


def test_equal_requests_at_once_store_one_order(
    engine: Engine, answers: list[httpx.Response]
) -> None:
    assert len(engine.orders_of(answers[0].json()["userId"])) == 1


def test_equal_requests_at_once_start_one_execution(
    engine: Engine, answers: list[httpx.Response]
) -> None:
    order_id = answers[0].json()["orderId"]
    engine.final_order(order_id)
    assert len(engine.executions(order_id)) == 1
    assert len(engine.landed(order_id)) == 1


def test_other_order_under_a_used_header_key_is_refused(engine: Engine) -> None:
    # given
    body, key = market_order(), f"key-{new_user()}"
    post(engine, body, key)
    # when
    answer = post(engine, {**body, "amountIn": "2"}, key)
    # then
    assert answer.status_code == 422
    assert answer.json()["code"] == "IDEMPOTENCY_KEY_REUSED"
    assert len(engine.orders_of(body["userId"])) == 1


def test_same_order_in_another_spelling_is_a_replay(engine: Engine) -> None:
    # given
    body, key = market_order(slippageTolerance="0.05"), f"key-{new_user()}"
    first = post(engine, body, key)
    # when
    spelled = {
        "userId": body["userId"],
        "tokenIn": "SOL",
        "tokenOut": "USDC",
        "amount": 1.50,
        "slippageBps": 500,
        "orderType": "market",
    }
    answer = post(engine, spelled, key)
    # then
    assert answer.headers["Idempotency-Replayed"] == "true"
    assert answer.json()["orderId"] == first.json()["orderId"]


def test_same_key_of_another_user_is_another_order(engine: Engine) -> None:
    key = f"key-{new_user()}"
    first, second = (post(engine, market_order(), key).json() for _ in range(2))
    assert first["orderId"] != second["orderId"]


def test_equal_requests_without_a_key_are_different_orders(engine: Engine) -> None:
    body = market_order()
    first, second = (post(engine, body).json() for _ in range(2))
    assert first["orderId"] != second["orderId"]
