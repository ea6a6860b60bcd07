"""Submitting and following an order on one WebSocket connection."""

from __future__ import annotations

from tests.e2e.engine import HAPPY_LIFE, Engine, Json, market_order, new_user, statuses


def execute(**fields: object) -> Json:
    return {"action": "execute", "requestId": "r1", **market_order(**fields)}


def test_executed_order_is_accepted_with_the_request_id(engine: Engine) -> None:
    with engine.listening() as listener:
        accepted = listener.request(execute(), "accepted")
    assert accepted["requestId"] == "r1"
    assert accepted["order"]["status"] == "pending"


def test_executed_order_is_followed_on_the_same_connection(engine: Engine) -> None:
    with engine.listening() as listener:
        accepted = listener.request(execute(), "accepted")
        events = listener.events_until_final(accepted["order"]["orderId"])
    assert statuses(events) == HAPPY_LIFE


def test_executed_order_equals_one_that_was_posted(engine: Engine) -> None:
    # given
    user = new_user()
    with engine.listening() as listener:
        # when
        accepted = listener.request(execute(userId=user, clientOrderId="both"), "accepted")
        posted = engine.http.post(
            "api/orders/execute", json=market_order(userId=user, clientOrderId="both")
        )
    # then
    assert posted.headers["Idempotency-Replayed"] == "true"
    assert posted.json()["orderId"] == accepted["order"]["orderId"]


def test_executing_invalid_order_names_the_field_and_stores_nothing(engine: Engine) -> None:
    # given
    user = new_user()
    with engine.listening() as listener:
        # when
        error = listener.request(execute(userId=user, amountIn="-1"), "error")
        # then
        assert error["requestId"] == "r1"
        assert error["code"] == "VALIDATION_FAILED"
        assert [problem["field"] for problem in error["errors"]] == ["amountIn"]
        assert listener.request({"action": "ping"}, "pong")
    assert engine.orders_of(user) == []


def test_executing_other_order_under_a_used_key_is_refused(engine: Engine) -> None:
    # given
    user = new_user()
    with engine.listening() as listener:
        listener.request(execute(userId=user, clientOrderId="once"), "accepted")
        # when
        again = execute(userId=user, clientOrderId="once", amountIn="2")
        error = listener.request(again, "error")
    # then
    assert error["code"] == "IDEMPOTENCY_KEY_REUSED"
