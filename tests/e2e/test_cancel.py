"""Calling orders off: before they are submitted, too late, and in a race with their execution."""

from __future__ import annotations

import random
import time
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta

import httpx
import pytest
from tests.e2e.engine import Engine, Json, market_order, new_user, statuses, wait_until
from tests.support.deadlines import patience

from local import aws
from order_engine.domain.statuses import FINAL_STATUSES

RACES = 30
LONGEST_PAUSE_SECONDS = 1.5


def cancel(engine: Engine, order_id: str) -> httpx.Response:
    return engine.http.delete(f"api/orders/{order_id}")


def doomed(fate: str, **fields: object) -> Json:
    return market_order(clientOrderId=f"{fate}-{uuid.uuid4().hex}", **fields)


def await_status(engine: Engine, order_id: str, status: str) -> None:
    wait_until(
        lambda: engine.order_row(order_id)["status"] == status,
        seconds=30,
        what=f"order {order_id} {status}",
    )


@contextmanager
def nobody_routing(engine: Engine) -> Iterator[None]:
    """Keep new orders pending for the length of the block: no transition is carried out."""
    functions = aws.client("lambda", engine.stack.emulator_url)
    ids = aws.physical_ids(engine.stack.emulator_url, engine.stack.stack_name)
    name = ids["LifecycleFunction"]
    before = functions.get_function_concurrency(FunctionName=name)
    functions.put_function_concurrency(FunctionName=name, ReservedConcurrentExecutions=0)
    try:
        yield
    finally:
        functions.put_function_concurrency(
            FunctionName=name,
            ReservedConcurrentExecutions=before["ReservedConcurrentExecutions"],
        )


def execution_statuses(engine: Engine, order_id: str) -> list[str]:
    return [execution["status"] for execution in engine.executions(order_id)]


def assert_called_off(engine: Engine, order_id: str) -> None:
    """Check that the order is canceled, that nothing works on it and nothing was swapped."""
    order = engine.order(order_id)
    assert order["status"] == "canceled"
    assert order["events"][-1]["final"]
    assert order["milestones"]["canceled"] == order["events"][-1]["timestamp"]
    assert engine.landed(order_id) == []
    wait_until(
        lambda: "RUNNING" not in execution_statuses(engine, order_id),
        seconds=30,
        what=f"the execution of {order_id} stopped",
    )
    assert engine.order_row(order_id)["status"] == "canceled"


def test_pending_order_is_called_off(engine: Engine) -> None:
    with nobody_routing(engine):
        # given
        order = engine.place()
        # when
        response = cancel(engine, order["orderId"])
    # then
    assert response.status_code == 200
    assert (response.json()["orderId"], response.json()["status"]) == (order["orderId"], "canceled")
    assert_called_off(engine, order["orderId"])
    assert statuses(engine.order(order["orderId"])["events"]) == ["pending", "canceled"]


def test_routing_order_is_called_off(engine: Engine) -> None:
    # given: no quotes, so that it stays in routing through all its retries
    order_id = engine.place(doomed("venue_down", maxRetries=10))["orderId"]
    await_status(engine, order_id, "routing")
    # when
    response = cancel(engine, order_id)
    # then
    assert response.status_code == 200
    assert_called_off(engine, order_id)
    assert execution_statuses(engine, order_id) == ["ABORTED"]


def test_order_at_rest_is_called_off(engine: Engine) -> None:
    # given
    expires_at = datetime.now(UTC) + timedelta(hours=1)
    body = market_order(type="limit", limitPrice="1000000000", expiresAt=expires_at.isoformat())
    order_id = engine.place(body)["orderId"]
    # when
    response = cancel(engine, order_id)
    # then
    assert response.status_code == 200
    assert_called_off(engine, order_id)
    assert engine.executions(order_id) == []


def test_order_on_its_next_attempt_is_called_off(engine: Engine) -> None:
    # given: every attempt lands with an error
    order_id = engine.place(doomed("lands_with_error", maxRetries=10))["orderId"]

    def called_off_while_routing() -> bool:
        row = engine.order_row(order_id)
        assert row["status"] not in FINAL_STATUSES
        is_next_attempt = row["status"] == "routing" and row["attempt"] > 1
        return is_next_attempt and cancel(engine, order_id).status_code == 200

    # when
    wait_until(called_off_while_routing, seconds=60, what=f"order {order_id} called off")
    # then
    assert_called_off(engine, order_id)
    assert {row["fate"] for row in engine.ledger(order_id)} == {"reverted"}


def test_canceling_again_changes_nothing(engine: Engine) -> None:
    # given
    order_id = engine.place(doomed("venue_down", maxRetries=10))["orderId"]
    first = cancel(engine, order_id)
    # when
    again = [cancel(engine, order_id) for _ in range(3)]
    # then
    assert [response.status_code for response in (first, *again)] == [200] * 4
    assert [response.json() for response in again] == [first.json()] * 3
    assert statuses(engine.order(order_id)["events"]).count("canceled") == 1


def test_canceling_at_once_from_several_sides_cancels_once(engine: Engine) -> None:
    # given
    order_id = engine.place(doomed("venue_down", maxRetries=10))["orderId"]
    # when
    with ThreadPoolExecutor(4) as pool:
        responses = list(pool.map(lambda _: cancel(engine, order_id), range(4)))
    # then
    assert [response.status_code for response in responses] == [200] * 4
    assert statuses(engine.order(order_id)["events"]).count("canceled") == 1
    assert_called_off(engine, order_id)


def test_canceling_is_pushed(engine: Engine) -> None:
    # given
    user = new_user()
    with engine.listening(userId=user) as listener:
        listener.next_message("subscribed")
        order = engine.place(doomed("venue_down", userId=user, maxRetries=10))
        # when
        cancel(engine, order["orderId"])
        with engine.listening(order["wsUrl"]) as late:
            lives = [it.events_until_final(order["orderId"]) for it in (listener, late)]
    # then
    stored = engine.order(order["orderId"])["events"]
    assert lives == [stored, stored]
    assert stored[-1]["status"] == "canceled"
    assert stored[-1]["final"]


def test_submitted_order_is_not_called_off(engine: Engine) -> None:
    # given: sent, and never seen on the chain until it expires
    order_id = engine.place(doomed("dropped_until_expiry", maxRetries=0))["orderId"]
    await_status(engine, order_id, "submitted")
    # when
    response = cancel(engine, order_id)
    # then
    assert_too_late(response, "submitted")
    assert engine.final_order(order_id)["status"] == "failed"
    assert_too_late(cancel(engine, order_id), "failed")


def test_confirmed_order_is_not_called_off(engine: Engine) -> None:
    # given
    order_id = engine.place()["orderId"]
    before = engine.final_order(order_id)
    # when
    response = cancel(engine, order_id)
    # then
    assert_too_late(response, "confirmed")
    assert engine.order(order_id) == before


def assert_too_late(response: httpx.Response, status: str) -> None:
    assert response.status_code == 409, response.text
    assert response.headers["Content-Type"].startswith("application/problem+json")
    assert response.json()["code"] == "ORDER_NOT_CANCELABLE"
    assert status in response.json()["detail"]


@pytest.mark.parametrize(
    ("order_id", "status"), [("00000000-0000-4000-8000-000000000000", 404), ("no-uuid", 422)]
)
def test_canceling_what_is_no_order_is_refused(engine: Engine, order_id: str, status: int) -> None:
    assert cancel(engine, order_id).status_code == status


def test_every_race_ends_either_canceled_or_confirmed(engine: Engine) -> None:
    # given
    pauses = random.Random(7)
    longest = patience(LONGEST_PAUSE_SECONDS)
    seconds = [pauses.uniform(0, longest) for _ in range(RACES)]

    def race(pause: float) -> tuple[str, int]:
        order_id = engine.place()["orderId"]
        time.sleep(pause)
        return order_id, cancel(engine, order_id).status_code

    # when
    with ThreadPoolExecutor(5) as pool:
        answers = dict(pool.map(race, seconds))
    # then
    ends = {order_id: engine.final_order(order_id) for order_id in answers}
    for order_id, order in ends.items():
        life = statuses(order["events"])
        assert [event["seq"] for event in order["events"]] == list(range(1, len(life) + 1))
        assert sum(event["final"] for event in order["events"]) == 1
        if answers[order_id] == 200:
            assert life[-1] == "canceled"
            assert "submitted" not in life
            assert_called_off(engine, order_id)
            assert engine.ledger(order_id) == []
        else:
            assert (answers[order_id], life[-1]) == (409, "confirmed")
            assert len(engine.landed(order_id)) == 1
    # A race that always has the same winner is none.
    assert set(answers.values()) == {200, 409}
