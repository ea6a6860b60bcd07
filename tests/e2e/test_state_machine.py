"""The execution of an order as Step Functions sees it."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import pytest
from tests.e2e.engine import Engine, Json, new_user, wait_until
from tests.support.postgres import Orders

from local import aws
from order_engine.domain.orders import OrderTerms
from order_engine.domain.transitions import NewOrder
from order_engine.venues.registry import venue_names

MACHINE_SECONDS = 60


@pytest.fixture(scope="module")
def step_functions(engine: Engine) -> Any:
    return aws.client("stepfunctions", engine.stack.emulator_url)


@pytest.fixture
def machine_without_the_venues(engine: Engine, step_functions: Any) -> Iterator[str]:
    """The deployed machine with its venues' functions under names that no quote carries."""
    deployed = step_functions.describe_state_machine(
        stateMachineArn=engine.stack.outputs["StateMachineArn"]
    )
    definition = (
        deployed["definition"].replace("raydium=", "orca=").replace("meteora=", "lifinity=")
    )
    assert definition != deployed["definition"]
    made = step_functions.create_state_machine(
        name=f"unknown-venues-{uuid.uuid4().hex[:8]}",
        definition=definition,
        roleArn=deployed["roleArn"],
    )
    yield made["stateMachineArn"]
    step_functions.delete_state_machine(stateMachineArn=made["stateMachineArn"])


def stored_order(engine: Engine) -> str:
    """Store an order of which no execution knows."""
    orders, order_id = Orders.at(engine.stack.database_url), str(uuid.uuid4())
    terms = OrderTerms(
        user_id=new_user(),
        token_in="SOL",
        token_out="USDC",
        amount_in=Decimal(1),
        slippage_bps=500,
    )
    orders.insert(NewOrder(order_id, terms, idempotency_key=None, terms_digest="digest"))
    orders.close()
    return order_id


def test_order_whose_venue_nobody_knows_fails_with_a_clear_code(
    engine: Engine, step_functions: Any, machine_without_the_venues: str
) -> None:
    order_id = stored_order(engine)

    step_functions.start_execution(
        stateMachineArn=machine_without_the_venues,
        name=order_id,
        input=f'{{"orderId": "{order_id}"}}',
    )

    order = engine.final_order(order_id, seconds=MACHINE_SECONDS)
    assert (order["status"], order["failure"]["code"]) == ("failed", "VENUE_REJECTED")
    assert "there is no venue called" in order["failure"]["detail"]
    assert engine.ledger(order_id) == []


def test_happy_order_enters_as_many_states_as_are_billed(
    engine: Engine, step_functions: Any
) -> None:
    order_id = engine.place(clientOrderId=f"counted-{uuid.uuid4()}")["orderId"]
    engine.final_order(order_id)
    (execution,) = engine.executions(order_id)

    def entered() -> list[str]:
        pages = step_functions.get_paginator("get_execution_history").paginate(
            executionArn=execution["executionArn"]
        )
        events: list[Json] = [event for page in pages for event in page["events"]]
        has_ended = any(event["type"] == "ExecutionSucceeded" for event in events)
        names = [
            event["stateEnteredEventDetails"]["name"]
            for event in events
            if "stateEnteredEventDetails" in event
        ]
        return names if has_ended else []

    states = wait_until(entered, seconds=MACHINE_SECONDS, what="the execution has ended")
    # The emulator's history leaves out the states inside the map, one for each of the two venues.
    looks_again = states.count("Settle") - 1
    assert len(states) - 3 * looks_again + len(venue_names()) == 15
