"""Many orders at once are all executed, though each venue takes only ten calls at a time."""

from __future__ import annotations

from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from tests.e2e.crowd import calls_at_once
from tests.e2e.engine import Engine, Json, new_user

from local import aws

ORDERS = 60
PLACING_AT_ONCE = 20
SECONDS = 120.0


@pytest.fixture(scope="module")
def orders(engine: Engine) -> list[Json]:
    """Orders that were placed at once, each of them final."""
    user = new_user()
    with ThreadPoolExecutor(calls_at_once(engine.place, PLACING_AT_ONCE)) as pool:
        placed = list(pool.map(lambda _: engine.place(userId=user)["orderId"], range(ORDERS)))
    return [engine.final_order(order_id, SECONDS) for order_id in placed]


def function(engine: Engine, logical_id: str) -> tuple[Any, str]:
    client = aws.client("lambda", engine.stack.emulator_url)
    names = aws.physical_ids(engine.stack.emulator_url, engine.stack.stack_name)
    return client, names[logical_id]


@pytest.mark.parametrize("logical_id", ["RaydiumFunction", "MeteoraFunction"])
def test_venue_function_takes_ten_calls_at_a_time(engine: Engine, logical_id: str) -> None:
    client, name = function(engine, logical_id)
    reserved = client.get_function_concurrency(FunctionName=name)
    assert reserved["ReservedConcurrentExecutions"] == 10


def test_orders_at_once_are_all_confirmed(orders: list[Json]) -> None:
    assert Counter(order["status"] for order in orders) == {"confirmed": ORDERS}


def test_orders_at_once_landed_once_each(engine: Engine, orders: list[Json]) -> None:
    assert [len(engine.landed(order["orderId"])) for order in orders[:10]] == [1] * 10


def test_orders_at_once_have_events_without_gaps(orders: list[Json]) -> None:
    for order in orders:
        seqs = [event["seq"] for event in order["events"]]
        assert seqs == list(range(1, len(seqs) + 1))
