"""Orders that wait for their turn, in the deployed stack."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import pytest
from tests.e2e.crowd import calls_at_once
from tests.e2e.engine import Engine, Json, market_order, new_user

BACKLOG = 90
PLACING_AT_ONCE = 12
SECONDS = 180.0


@dataclass
class Rush:
    """One user's backlog, and a newcomer's order that came in behind it."""

    last_when_placed: Json
    newcomer: Json
    backlog: list[Json]


@pytest.fixture(scope="module")
def rush(engine: Engine) -> Rush:
    user = new_user()
    with ThreadPoolExecutor(calls_at_once(engine.place, PLACING_AT_ONCE)) as pool:
        placed = list(pool.map(lambda _: engine.place(userId=user)["orderId"], range(BACKLOG)))
    newcomer = engine.place()["orderId"]
    last = engine.order(placed[-1])
    return Rush(
        last,
        engine.final_order(newcomer, SECONDS),
        [engine.final_order(order_id, SECONDS) for order_id in placed],
    )


def started_at(order: Json) -> str:
    moment: str = order["milestones"]["routing"]
    return moment


def test_order_behind_many_waits_and_tells_how_many_go_before(rush: Rush) -> None:
    assert rush.last_when_placed["status"] == "pending"
    assert rush.last_when_placed["queue"]["ahead"] > 0


def test_every_order_of_the_backlog_is_executed(rush: Rush) -> None:
    assert {order["status"] for order in rush.backlog} == {"confirmed"}
    assert {order["queue"] for order in rush.backlog} == {None}


def test_newcomer_is_started_before_the_rest_of_the_backlog(rush: Rush) -> None:
    later = [order for order in rush.backlog if started_at(order) > started_at(rush.newcomer)]

    waited = [order for order in rush.backlog if started_at(order) > rush.newcomer["createdAt"]]
    assert len(later) >= len(waited) / 2


def test_priority_beyond_ten_is_refused(engine: Engine) -> None:
    refused = engine.http.post("api/orders", json=market_order(priority=11))

    assert refused.status_code == 422
    assert [error["field"] for error in refused.json()["errors"]] == ["priority"]


def test_priority_is_shown(engine: Engine) -> None:
    order_id = engine.place(priority=7)["orderId"]

    assert engine.order(order_id)["priority"] == 7
