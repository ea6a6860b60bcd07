"""What grows is stated once: a venue and an order type that only tests know go all the way."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import psycopg
import pytest
from tests.integration.conftest import Api, Function
from tests.support import if_touched, orca
from tests.support.execution import execute
from tests.support.times import in_an_hour

from order_engine import bootstrap
from order_engine.adapters.postgres.resting import CONDITIONS
from order_engine.domain import types
from order_engine.venues import registry

Database = psycopg.Connection[dict[str, Any]]
Json = dict[str, Any]
QUICK_MARKET = {
    "MOCK_LANDING_MS": "0",
    "MOCK_QUOTE_LATENCY_MS": "0",
    "MOCK_BUILD_LATENCY_MS": "0",
    "MOCK_SEND_LATENCY_MS": "0",
    "MOCK_CHECK_LATENCY_MS": "0",
    "MOCK_VOLATILITY": "still",
}


@pytest.fixture
def third_venue() -> Iterator[str]:
    with registry.also(orca.LISTING):
        yield orca.LISTING.name


@pytest.fixture
def fourth_type(database: Database, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Register the type; the constraint is what its migration would change."""
    rules = if_touched.IfTouched()
    monkeypatch.setitem(CONDITIONS, rules.name, if_touched.CONDITION)
    database.execute("ALTER TABLE orders DROP CONSTRAINT orders_type_check")
    with types.also(rules):
        yield rules.name
    database.execute(
        "ALTER TABLE orders ADD CONSTRAINT orders_type_check"
        " CHECK (type IN ('market', 'limit', 'sniper')) NOT VALID"
    )


@pytest.fixture
def triggers(load_function: Callable[..., Function]) -> Function:
    return load_function("triggers", **QUICK_MARKET)


def placed(api: Api, **fields: Any) -> Json:
    reply = api.post({"tokenIn": "SOL", "tokenOut": "USDC", "amountIn": "1.5", **fields})
    assert reply.status == 202, reply.text
    return reply.json


def test_order_bound_to_the_third_venue_goes_from_post_to_confirmed(
    third_venue: str, nobody_at_rest: None, triggers: Function, start_api: Callable[..., Api]
) -> None:
    order = placed(
        start_api(**QUICK_MARKET),
        type="sniper",
        tokenOut="MOON",
        expiresAt=in_an_hour(),
        trigger={"venue": third_venue},
    )
    opened = {
        "detail-type": "PoolCreated",
        "source": f"dex.{third_venue}",
        "detail": {"token": "MOON"},
    }

    report = triggers.invoke(opened)
    ended = execute(order["orderId"], f"{order['orderId']}-1")

    assert (order["status"], report["order_ids"]) == ("open", [order["orderId"]])
    assert ended["outcome"] == "confirmed"
    stored = bootstrap.orders().get(order["orderId"])
    assert stored is not None
    assert (stored.status, stored.chosen_dex) == ("confirmed", third_venue)
    assert [quote.dex for quote in stored.quotes] == [third_venue]


def test_third_venue_is_quoted_beside_the_others(third_venue: str, api: Api) -> None:
    query = {"tokenIn": "SOL", "tokenOut": "USDC", "amountIn": "1"}

    quotes = api.get("/api/quotes", query).json["quotes"]

    assert [quote["dex"] for quote in quotes] == ["raydium", "meteora", third_venue]
    assert quotes[-1]["feePct"] == "0.1"


def test_order_of_the_fourth_type_rests_is_released_and_confirmed(
    fourth_type: str, nobody_at_rest: None, triggers: Function, start_api: Callable[..., Api]
) -> None:
    api = start_api(**QUICK_MARKET)
    order = placed(api, type=fourth_type, limitPrice="100000", expiresAt=in_an_hour())
    order_id = order["orderId"]
    assert order["status"] == "open"
    api.request("PATCH", f"/api/orders/{order_id}", body='{"limitPrice": "1"}')

    report = triggers.invoke({})
    ended = execute(order_id, f"{order_id}-1")

    assert report["order_ids"] == [order_id]
    assert ended["outcome"] == "confirmed"
    assert api.get(f"/api/orders/{order_id}").json["type"] == fourth_type


def test_order_of_the_fourth_type_without_its_terms_is_refused(fourth_type: str, api: Api) -> None:
    reply = api.post({"type": fourth_type, "tokenIn": "SOL", "tokenOut": "USDC", "amountIn": "1.5"})

    assert (reply.status, reply.faulty_fields) == (422, ["expiresAt", "limitPrice"])


def test_nothing_of_the_tests_venue_and_type_stays_registered() -> None:
    assert "orca" not in registry.venue_names()
    assert "if_touched" not in [rules.name for rules in types.order_types()]
