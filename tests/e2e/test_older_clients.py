"""Requests as clients of five similar systems send them are accepted unchanged."""

from __future__ import annotations

import json

import pytest
from tests.e2e.engine import HAPPY_LIFE, Engine, statuses

PATHS = ("api/orders/execute", "api/orders", "orders/execute")

# Word for word what those systems' documentation shows. The fourth shows no body of its own:
# it is given the short names that it uses elsewhere.
BODIES = {
    "amount-and-side": '{"tokenIn":"SOL","tokenOut":"USDC","amount":1.5,"side":"buy"}',
    "texts": """{
      "userId": "00000000-0000-0000-0000-000000000006",
      "type": "market",
      "tokenIn": "SOL",
      "tokenOut": "USDC",
      "amountIn": "1",
      "slippageTolerance": "0.01"
    }""",
    "amount-and-slippage": (
        '{ "tokenIn": "SOL", "tokenOut": "USDC", "amount": 0.5, "slippage": 0.01 }'
    ),
    "order-type": (
        '{"orderType":"market","tokenIn":"SOL","tokenOut":"USDC","amount":2,"slippage":0.005}'
    ),
    "numbers": """{
      "type": "market",
      "tokenIn": "USDC",
      "tokenOut": "ETH",
      "amountIn": 1000,
      "userId": "user123"
    }""",
}


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("name", BODIES)
def test_request_of_an_older_client_is_accepted(engine: Engine, path: str, name: str) -> None:
    # when
    response = engine.http.post(
        path, content=BODIES[name], headers={"Content-Type": "application/json"}
    )
    # then
    assert response.status_code == 202, response.text
    reply = response.json()
    sent = json.loads(BODIES[name])
    assert reply["orderId"]
    assert reply["wsUrl"].endswith(f"orderId={reply['orderId']}")
    assert float(reply["amountIn"]) == float(sent.get("amountIn", sent.get("amount")))


def test_request_without_a_content_type_is_accepted(engine: Engine) -> None:
    response = engine.http.post("api/orders", content=BODIES["amount-and-side"])
    assert response.status_code == 202, response.text


def test_older_client_sees_its_order_confirmed_under_the_names_it_knows(engine: Engine) -> None:
    # given
    body = json.loads(BODIES["amount-and-slippage"]) | {"slippage": 0.05}
    response = engine.http.post("orders/execute", json=body)
    # when
    with engine.listening(response.json()["wsUrl"]) as listener:
        events = listener.events_until_final(response.json()["orderId"])
    # then
    confirmed = events[-1]
    assert statuses(events) == HAPPY_LIFE
    assert confirmed["event"] == "confirmed"
    assert confirmed["routedDex"] in ("raydium", "meteora")
    assert confirmed["txHash"]
    assert float(confirmed["executedPrice"]) > 0
