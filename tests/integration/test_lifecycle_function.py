"""The lifecycle function: the state machine's steps in, transitions in Postgres out."""

import json
import logging
import uuid
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import psycopg
import pytest
from tests.integration.conftest import Function, sample_event
from tests.support.postgres import Orders

from order_engine import bootstrap
from order_engine.domain.orders import OrderTerms
from order_engine.domain.transitions import NewOrder

Database = psycopg.Connection[dict[str, Any]]
Json = dict[str, Any]
Step = Callable[[str], Json]


@pytest.fixture
def order_id(orders: Orders) -> str:
    """An order as the samples tell of it, stored."""
    terms = OrderTerms(
        user_id="lifecycle",
        type="limit",
        token_in="SOL",
        token_out="USDC",
        amount_in="1.5",
        slippage_bps=50,
        limit_price="140",
        expires_at=datetime.now(UTC) + timedelta(days=1),
    )
    order_id = str(uuid.uuid4())
    orders.insert(NewOrder(order_id, terms, idempotency_key=None, terms_digest="digest"))
    return order_id


@pytest.fixture
def step(load_function: Callable[..., Function], order_id: str) -> Step:
    """Take one step of the samples with this order."""
    function = load_function("lifecycle")

    def take(name: str) -> Json:
        event = sample_event(f"lifecycle-{name}")
        event["execution"] = order_id
        if "order" in event:
            event["order"]["orderId"] = order_id
            event["order"]["expiresAt"] = (datetime.now(UTC) + timedelta(days=1)).isoformat()
        else:
            event["orderId"] = order_id
        return function.invoke(event)

    return take


def row(database: Database, order_id: str) -> Json:
    found = database.execute("SELECT * FROM orders WHERE id = %s", [order_id]).fetchone()
    assert found is not None
    return found


def test_samples_carry_an_order_from_the_claim_to_the_confirmation(
    step: Step, order_id: str, database: Database
) -> None:
    outcomes = [step(name)["outcome"] for name in ("route", "decide", "submit", "confirm")]

    assert outcomes == ["routing", "building", "submitted", "confirmed"]
    order = row(database, order_id)
    assert (order["status"], order["chosen_dex"], str(order["amount_out"])[:6]) == (
        "confirmed",
        "meteora",
        "224.75",
    )


def test_decision_takes_the_better_quote_and_bounds_it_by_limit_and_slippage(step: Step) -> None:
    step("route")

    decided = step("decide")

    # 0.5 % below 224.790364; the limit would allow 210.
    assert (decided["dex"], decided["minAmountOut"]) == ("meteora", "223.666412")


def test_repeated_steps_answer_as_the_first_did(step: Step) -> None:
    for name in ("route", "decide", "submit", "confirm"):
        assert step(name) == step(name)


def test_step_out_of_turn_is_superseded(step: Step) -> None:
    assert step("submit")["outcome"] == "superseded"


def test_reverted_swap_is_tried_again_after_a_pause(
    step: Step, order_id: str, database: Database
) -> None:
    for name in ("route", "decide", "submit"):
        step(name)

    answer = step("attempt-failed")

    assert (answer["outcome"], answer["backoffSeconds"], answer["afterAttempt"]) == ("retry", 1, 1)
    assert row(database, order_id)["tx_resolution"] == "reverted"


def test_unknown_action_raises(load_function: Callable[..., Function]) -> None:
    with pytest.raises(ValueError, match="action"):
        load_function("lifecycle").invoke({**sample_event("lifecycle-decide"), "action": "dance"})


def test_every_line_of_a_step_is_json_and_names_order_execution_and_request(
    load_function: Callable[..., Function],
    order_id: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    function = load_function("lifecycle")
    engine_logger = logging.getLogger("order_engine.execution.lifecycle")

    def noted(*_: object, **__: object) -> object:
        engine_logger.info("from inside the engine")
        raise ZeroDivisionError

    monkeypatch.setattr(bootstrap.lifecycle(), "take_message", noted)
    event = {**sample_event("lifecycle-route"), "orderId": order_id, "execution": order_id}

    with pytest.raises(ZeroDivisionError):
        function.app.handler(event, SimpleNamespace(aws_request_id="r1", function_name="steps"))
    engine_logger.info("after the invocation")

    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    inside, after = lines[-2:]
    assert {key: inside[key] for key in ("order_id", "execution", "request_id", "function")} == {
        "order_id": order_id,
        "execution": order_id,
        "request_id": "r1",
        "function": "steps",
    }
    assert "order_id" not in after
