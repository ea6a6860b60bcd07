"""The life of a market order, from its acceptance to its confirmation."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal

import pytest
from tests.e2e.engine import (
    HAPPY_LIFE,
    Engine,
    Json,
    market_order,
    new_user,
    statuses,
    wait_until,
)

VENUES = {"raydium", "meteora"}

RECONCILER_SECONDS = 90
"""It passes every minute."""


@dataclass(frozen=True)
class Life:
    """Everything that was seen of one order."""

    acceptance: Json
    location: str
    received: list[Json]
    order: Json


@pytest.fixture(scope="module")
def life(engine: Engine) -> Life:
    """A market order, watched over a WebSocket until it was confirmed."""
    response = engine.http.post(
        "api/orders/execute", json=market_order(clientOrderId="whole-life", userId=new_user())
    )
    acceptance = response.json()
    with engine.listening(acceptance["wsUrl"]) as listener:
        received = listener.events_until_final(acceptance["orderId"])
    return Life(
        acceptance=acceptance,
        location=response.headers["Location"],
        received=received,
        order=engine.order(acceptance["orderId"]),
    )


def test_accepted_order_is_shown_whole_and_pending(life: Life) -> None:
    accepted = life.acceptance
    assert accepted["status"] == "pending"
    assert accepted["message"]
    assert (accepted["tokenIn"], accepted["tokenOut"], accepted["amountIn"]) == (
        "SOL",
        "USDC",
        "1.5",
    )


def test_accepted_order_is_found_at_its_location(engine: Engine, life: Life) -> None:
    path = life.location.rpartition("/api/orders/")[2]
    assert path == life.acceptance["orderId"]
    assert engine.order(path)["clientOrderId"] == "whole-life"


def test_watched_order_is_told_in_five_steps(life: Life) -> None:
    assert statuses(life.received) == HAPPY_LIFE


def test_watched_order_numbers_its_events_without_gaps(life: Life) -> None:
    assert [event["seq"] for event in life.received] == [1, 2, 3, 4, 5]


def test_watched_order_ends_with_its_only_final_event(life: Life) -> None:
    assert [event["final"] for event in life.received] == [False] * 4 + [True]


def test_events_chain_by_their_previous_status(life: Life) -> None:
    assert [event.get("previousStatus") for event in life.received] == [None, *HAPPY_LIFE[:-1]]


def test_events_never_go_back_in_time(life: Life) -> None:
    instants = [datetime.fromisoformat(event["timestamp"]) for event in life.received]
    assert instants == sorted(instants)


def test_events_carry_the_names_of_older_systems(life: Life) -> None:
    for event in life.received:
        assert event["event"] == event["status"]
        assert event["type"] == f"order.{event['status']}"
        assert event.get("routedDex") == event.get("chosenDex")


def test_events_over_the_socket_equal_those_of_the_order(life: Life) -> None:
    assert life.received == life.order["events"]


def test_order_in_postgres_has_an_event_for_each_status(engine: Engine, life: Life) -> None:
    rows = engine.event_rows(life.order["orderId"])
    assert [(row["seq"], row["event"]) for row in rows] == list(enumerate(HAPPY_LIFE, start=1))


def test_events_in_postgres_are_all_marked_as_streamed_by_the_next_pass(
    engine: Engine, life: Life
) -> None:
    wait_until(
        lambda: all(row["streamed_at"] for row in engine.event_rows(life.order["orderId"])),
        seconds=RECONCILER_SECONDS,
        what="every event is marked as streamed",
    )


def test_order_in_postgres_is_what_the_reply_says(engine: Engine, life: Life) -> None:
    row = engine.order_row(life.order["orderId"])
    assert row["status"] == "confirmed"
    assert row["tx_hash"] == life.order["txHash"]
    assert row["amount_out"] == Decimal(life.order["amountOut"])
    assert row["executed_price"] == Decimal(life.order["executedPrice"])
    assert row["dex"] == life.order["chosenDex"]


def test_order_runs_in_one_execution_of_its_name(engine: Engine, life: Life) -> None:
    executions = engine.executions(life.order["orderId"])
    assert [execution["name"] for execution in executions] == [life.order["orderId"]]
    assert executions[0]["status"] == "SUCCEEDED"


def test_order_landed_exactly_once_on_the_chain(engine: Engine, life: Life) -> None:
    landed = engine.landed(life.order["orderId"])
    assert [row["signature"] for row in landed] == [life.order["txHash"]]
    assert landed[0]["amountOut"] == life.order["amountOut"]


def test_order_got_at_least_its_minimum(life: Life) -> None:
    assert Decimal(life.order["amountOut"]) >= Decimal(life.order["minAmountOut"])


def test_order_went_to_the_better_of_both_quotes(life: Life) -> None:
    quotes = {quote["dex"]: Decimal(quote["amountOut"]) for quote in life.order["quotes"]}
    assert set(quotes) == VENUES
    spread = max(quotes.values()) / min(quotes.values())
    assert quotes[life.order["chosenDex"]] == max(quotes.values()) or spread < Decimal("1.001")


def test_decision_is_told_with_both_quotes(life: Life) -> None:
    building = life.received[2]
    assert building["quotes"] == life.order["quotes"]
    assert building["chosenDex"] == life.order["chosenDex"]


def test_signature_is_told_before_the_confirmation(life: Life) -> None:
    submitted, confirmed = life.received[3:]
    assert submitted["txHash"] == confirmed["txHash"] == life.order["txHash"]


def test_order_is_found_by_the_callers_own_id(engine: Engine, life: Life) -> None:
    response = engine.http.get(
        "api/orders/by-client-id/whole-life", params={"userId": life.order["userId"]}
    )
    assert response.json()["orderId"] == life.order["orderId"]


def test_order_is_listed_with_its_users_orders(engine: Engine, life: Life) -> None:
    response = engine.http.get(
        "api/orders", params={"userId": life.order["userId"], "status": "closed"}
    )
    assert [order["orderId"] for order in response.json()["orders"]] == [life.order["orderId"]]


def test_many_orders_are_paged_newest_first_without_gap_or_repetition(engine: Engine) -> None:
    # given
    user = new_user()
    placed = [engine.place(userId=user)["orderId"] for _ in range(5)]
    # when
    pages: list[list[str]] = []
    query = {"userId": user, "status": "all", "limit": "2"}
    while True:
        page = engine.http.get("api/orders", params=query).json()
        pages.append([order["orderId"] for order in page["orders"]])
        if page["nextCursor"] is None:
            break
        query["cursor"] = page["nextCursor"]
    # then
    assert [len(page) for page in pages] == [2, 2, 1]
    assert [order_id for page in pages for order_id in page] == placed[::-1]


def test_quotes_are_compared_without_an_order(engine: Engine) -> None:
    response = engine.http.get(
        "api/quotes", params={"tokenIn": "SOL", "tokenOut": "USDC", "amountIn": "100"}
    )
    comparison = response.json()
    assert {quote["dex"] for quote in comparison["quotes"]} == VENUES
    assert comparison["bestDex"] in VENUES
