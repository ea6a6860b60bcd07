"""The whole path of an order where IAM is enforced and callers need a token."""

from __future__ import annotations

import uuid

import pytest
from tests.e2e.engine import HAPPY_LIFE, market_order, statuses
from tests.e2e.guarded.lab import Lab
from websockets.exceptions import InvalidStatus


def test_market_order_over_websocket_is_confirmed(lab: Lab) -> None:
    ticket = lab.http.post("api/stream-tickets").json()
    with lab.listening(ticket["wsUrl"]) as listener:
        accepted = listener.request({"action": "execute", **market_order(userId=None)}, "accepted")
        order_id = accepted["order"]["orderId"]
        events = listener.events_until_final(order_id)

    assert statuses(events) == HAPPY_LIFE
    assert lab.order(order_id)["userId"] == lab.user
    assert len(lab.landed(order_id)) == 1


def test_posted_order_is_replayed_to_one_who_connects_late(lab: Lab) -> None:
    order = lab.place()
    lab.final_order(order["orderId"])
    with lab.listening(order["wsUrl"]) as listener:
        events = listener.events_until_final(order["orderId"])

    assert statuses(events) == HAPPY_LIFE


def test_repeated_order_is_the_same_order(lab: Lab) -> None:
    body = market_order(userId=None)
    headers = {"Idempotency-Key": uuid.uuid4().hex}

    first, second = (
        lab.http.post("api/orders/execute", json=body, headers=headers) for _ in range(2)
    )

    assert (first.status_code, second.status_code) == (202, 202)
    assert second.headers["Idempotency-Replayed"] == "true"
    assert second.json()["orderId"] == first.json()["orderId"]


def test_canceled_order_stays_canceled_and_its_listener_is_told(lab: Lab) -> None:
    order = lab.place(clientOrderId=f"venue_down-{uuid.uuid4().hex}")
    with lab.listening(order["wsUrl"]) as listener:
        lab.await_status(order["orderId"], "routing")
        response = lab.cancel(order["orderId"])
        events = listener.events_until_final(order["orderId"])

    assert response.status_code == 200
    assert events[-1]["status"] == "canceled"
    assert lab.execution_status(order["orderId"]) == "ABORTED"
    assert lab.ledger(order["orderId"]) == []


def test_list_and_quotes_are_answered(lab: Lab) -> None:
    order_id = lab.place()["orderId"]

    listed = lab.http.get("api/orders").json()["orders"]
    quotes = lab.http.get(
        "api/quotes", params={"tokenIn": "SOL", "tokenOut": "USDC", "amountIn": "1"}
    )

    assert order_id in [order["orderId"] for order in listed]
    assert len(quotes.json()["quotes"]) == 2


def test_ticket_opens_one_stream_only(lab: Lab) -> None:
    url = lab.http.post("api/stream-tickets").json()["wsUrl"]
    with lab.listening(url):
        pass

    with pytest.raises(InvalidStatus) as refused, lab.listening(url):
        pass

    assert refused.value.response.status_code in (401, 403)
