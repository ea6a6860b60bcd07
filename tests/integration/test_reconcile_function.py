"""The reconcile function: schedule and execution events in, orders brought to work again."""

import uuid
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import psycopg
import pytest
from tests.integration.conftest import Function, sample_event
from tests.support.postgres import Orders

from order_engine.adapters import aws
from order_engine.domain.orders import OrderTerms
from order_engine.domain.transitions import NewOrder
from order_engine.execution import reconciliation

Database = psycopg.Connection[dict[str, Any]]
Json = dict[str, Any]


@pytest.fixture
def reconcile(load_function: Callable[..., Function], nobody_at_rest: None) -> Function:
    return load_function("reconcile")


@pytest.fixture
def order_id(orders: Orders, reconcile: Function) -> str:
    """An order whose execution nobody started."""
    return stored_order(orders)


def stored_order(orders: Orders) -> str:
    terms = OrderTerms(
        user_id="reconcile",
        token_in="SOL",
        token_out="USDC",
        amount_in=Decimal("1.5"),
        slippage_bps=50,
    )
    order_id = str(uuid.uuid4())
    orders.insert(NewOrder(order_id, terms, idempotency_key=None, terms_digest="digest"))
    return order_id


def age(database: Database, order_id: str) -> None:
    database.execute(
        "UPDATE orders SET updated_at = now() - interval '1 minute' WHERE id = %s", [order_id]
    )


def executions(reconcile: Function) -> list[str]:
    answer = aws.client("stepfunctions").list_executions(stateMachineArn=machine_arn(reconcile))
    return sorted(execution["name"] for execution in answer["executions"])


def machine_arn(reconcile: Function) -> str:
    machines = aws.client("stepfunctions").list_state_machines()["stateMachines"]
    arn: str = machines[0]["stateMachineArn"]
    return arn


def ended(order_id: str) -> Json:
    event = sample_event("reconcile-execution-ended")
    event["detail"]["name"] = order_id
    return event


def test_schedule_starts_an_order_whose_execution_is_missing(
    reconcile: Function, order_id: str, database: Database
) -> None:
    age(database, order_id)

    findings = reconcile.invoke(sample_event("reconcile-schedule"))

    assert (findings["started"], findings["order_ids"]) == (1, [order_id])
    assert executions(reconcile) == [order_id]


def test_one_pass_takes_care_of_more_orders_than_one_statement_takes(
    reconcile: Function,
    orders: Orders,
    database: Database,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(reconciliation, "ORDERS_AT_ONCE", 2)
    order_ids = [stored_order(orders) for _ in range(5)]
    for order_id in order_ids:
        age(database, order_id)

    findings = reconcile.invoke(sample_event("reconcile-schedule"))

    assert findings["started"] == 5
    assert executions(reconcile) == sorted(order_ids)


def test_schedule_leaves_a_young_order_alone(reconcile: Function, order_id: str) -> None:
    findings = reconcile.invoke(sample_event("reconcile-schedule"))

    assert findings["order_ids"] == []


def test_schedule_streams_what_was_left_in_the_outbox(
    reconcile: Function, order_id: str, database: Database
) -> None:
    database.execute(
        "INSERT INTO order_events (order_id, seq, event, attempt, execution, created_at)"
        " VALUES (%s, 2, 'open', 0, 'x', now() - interval '1 minute')",
        [order_id],
    )

    findings = reconcile.invoke(sample_event("reconcile-schedule"))

    assert findings["events_streamed"] == 1


def test_ended_execution_is_followed_by_the_next_generation_at_once(
    reconcile: Function, order_id: str
) -> None:
    # The machine of the tests ends at once.
    aws.client("stepfunctions").start_execution(
        stateMachineArn=machine_arn(reconcile), name=order_id
    )
    aws.client("stepfunctions").stop_execution(
        executionArn=machine_arn(reconcile).replace(":stateMachine:", ":execution:")
        + f":{order_id}"
    )

    findings = reconcile.invoke(ended(order_id))

    assert findings["restarted"] == 1
    assert executions(reconcile) == [order_id, f"{order_id}-1"]


def test_generation_that_ended_names_the_same_order(reconcile: Function, order_id: str) -> None:
    findings = reconcile.invoke(ended(f"{order_id}-3"))

    assert findings["order_ids"] == [order_id]


def test_ended_execution_of_an_unknown_order_changes_nothing(reconcile: Function) -> None:
    findings = reconcile.invoke(sample_event("reconcile-execution-ended"))

    assert findings["order_ids"] == []
