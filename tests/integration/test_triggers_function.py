"""The triggers function: ticks and PoolCreated events in, released orders out."""

import json
import os
import uuid
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
import pytest
from pydantic import ValidationError
from tests.integration.conftest import LEDGER_TABLE, STREAM_TABLE, Api, Function, sample_event
from tests.support.times import in_an_hour

from order_engine.adapters import aws
from order_engine.clock import timestamp_text

Database = psycopg.Connection[dict[str, Any]]
Json = dict[str, Any]


@pytest.fixture
def triggers(load_function: Callable[..., Function]) -> Function:
    return load_function("triggers")


@pytest.fixture
def api(start_api: Callable[..., Api], triggers: Function) -> Api:
    """The function that takes the orders, on the same mock chain."""
    return start_api(LEDGER_TABLE=LEDGER_TABLE)


@pytest.fixture(autouse=True)
def nothing_else_at_rest(database: Database) -> Iterator[None]:
    """What another test left at rest, or this one does, is not the next one's."""
    cancel = (
        "UPDATE orders SET previous_status = status, status = 'canceled', seq = seq + 1"
        " WHERE status IN ('pending', 'open', 'triggered', 'routing', 'building')"
    )
    database.execute(cancel)
    yield
    database.execute(cancel)


def resting_limit(api: Api, **changes: Any) -> str:
    return placed(api, {"type": "limit", "tokenOut": "USDC", "limitPrice": "100000", **changes})


def resting_sniper(api: Api, **changes: Any) -> str:
    return placed(api, {"type": "sniper", "tokenOut": "MOON", "trigger": {}, **changes})


def placed(api: Api, fields: Json) -> str:
    reply = api.post({"tokenIn": "SOL", "amountIn": "1.5", "expiresAt": in_an_hour(), **fields})
    assert (reply.status, reply.json["status"]) == (202, "open"), reply.text
    order_id: str = reply.json["orderId"]
    return order_id


def executions(triggers: Function) -> list[str]:
    answer = aws.client("stepfunctions").list_executions(
        stateMachineArn=os.environ["STATE_MACHINE_ARN"]
    )
    return [execution["name"] for execution in answer["executions"]]


def status(database: Database, order_id: str) -> str:
    row = database.execute("SELECT status FROM orders WHERE id = %s", [order_id]).fetchone()
    assert row is not None
    return str(row["status"])


def streamed(order_id: str) -> list[str]:
    answer = aws.client("dynamodb").query(
        TableName=STREAM_TABLE,
        KeyConditionExpression="pk = :pk AND begins_with(sk, :event)",
        ExpressionAttributeValues={":pk": {"S": f"order#{order_id}"}, ":event": {"S": "event#"}},
    )
    return [item["status"]["S"] for item in answer["Items"]]


def logged(capsys: pytest.CaptureFixture[str]) -> Json:
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    return next(line for line in lines if line.get("message") == "watched")


def pool_created(token: str, opens_at: datetime | None = None, venue: str = "raydium") -> Json:
    event = sample_event("triggers-pool-created")
    event["source"] = f"dex.{venue}"
    event["detail"] = {"token": token}
    if opens_at is not None:
        event["detail"]["openTime"] = opens_at.isoformat()
    return event


def test_tick_releases_what_the_market_meets_and_leaves_the_rest(
    triggers: Function, api: Api, database: Database
) -> None:
    met, unmet = resting_limit(api), resting_limit(api)
    database.execute("UPDATE orders SET limit_price = 1 WHERE id = %s", [met])

    report = triggers.invoke(sample_event("triggers-tick"))

    assert report["order_ids"] == [met]
    assert (status(database, met), status(database, unmet)) == ("triggered", "open")
    assert executions(triggers) == [f"{met}-1"]
    assert streamed(met) == ["pending", "open", "triggered"]


def test_tick_expires_what_is_past(triggers: Function, api: Api, database: Database) -> None:
    order_id = resting_limit(api)
    database.execute("UPDATE orders SET expires_at = now() WHERE id = %s", [order_id])

    report = triggers.invoke(sample_event("triggers-tick"))

    assert report["expired"] == 1
    assert status(database, order_id) == "expired"
    assert streamed(order_id)[-1] == "expired"


def test_tick_without_orders_asks_nobody(triggers: Function) -> None:
    report = triggers.invoke(sample_event("triggers-tick"))

    assert (report["quotes"], report["released"]) == (0, 0)


def test_tick_logs_one_line_and_counts_its_releases(
    triggers: Function, api: Api, database: Database, capsys: pytest.CaptureFixture[str]
) -> None:
    order_id = resting_limit(api)
    database.execute("UPDATE orders SET limit_price = 1 WHERE id = %s", [order_id])
    capsys.readouterr()

    triggers.invoke(sample_event("triggers-tick"))

    line = logged(capsys)
    assert (line["released"], line["order_ids"]) == (1, [order_id])


def test_pool_created_fires_the_snipers_that_wait_for_it_once(
    triggers: Function, api: Api, database: Database
) -> None:
    waiting, other = resting_sniper(api), resting_sniper(api, tokenOut="PEPE")

    for _ in range(3):
        triggers.invoke(pool_created("MOON"))

    assert (status(database, waiting), status(database, other)) == ("triggered", "open")
    assert executions(triggers) == [f"{waiting}-1"]


def test_pool_created_right_after_a_tick_that_saw_no_pool_fires(
    triggers: Function, api: Api, database: Database
) -> None:
    order_id = resting_sniper(api)

    before = triggers.invoke(sample_event("triggers-tick"))
    triggers.invoke(pool_created("MOON"))

    assert before["released"] == 0
    assert status(database, order_id) == "triggered"


def test_pool_that_opens_later_fires_by_a_tick_then(
    triggers: Function, api: Api, database: Database
) -> None:
    order_id = resting_sniper(api)
    opens_at = datetime.now(UTC) + timedelta(seconds=2)

    announced = triggers.invoke(pool_created("MOON", opens_at))
    while datetime.now(UTC) < opens_at + timedelta(seconds=0.5):
        database.execute("SELECT pg_sleep(0.1)")
    triggers.invoke(sample_event("triggers-tick"))

    assert announced["released"] == 0
    assert status(database, order_id) == "triggered"


def test_pool_at_another_venue_leaves_the_sniper_at_rest(
    triggers: Function, api: Api, database: Database
) -> None:
    order_id = resting_sniper(api, trigger={"venue": "meteora"})

    triggers.invoke(pool_created("MOON", venue="raydium"))
    at_raydium = status(database, order_id)
    triggers.invoke(pool_created("MOON", venue="meteora"))

    assert (at_raydium, status(database, order_id)) == ("open", "triggered")


def test_planned_launch_fires_without_any_event(
    load_function: Callable[..., Function], start_api: Callable[..., Api], database: Database
) -> None:
    opens_at = datetime.now(UTC) + timedelta(seconds=3)
    plan = json.dumps({"WIF": timestamp_text(opens_at)})
    triggers = load_function("triggers", MOCK_LAUNCHES=plan)
    api = start_api(LEDGER_TABLE=LEDGER_TABLE, MOCK_LAUNCHES=plan)
    order_id = resting_sniper(api, tokenOut="WIF")
    while datetime.now(UTC) < opens_at + timedelta(seconds=0.5):
        database.execute("SELECT pg_sleep(0.1)")

    triggers.invoke(sample_event("triggers-tick"))

    assert status(database, order_id) == "triggered"


def test_sample_of_a_created_pool_is_recorded_with_its_open_time(triggers: Function) -> None:
    triggers.invoke(sample_event("triggers-pool-created"))

    item = aws.client("dynamodb").get_item(
        TableName=LEDGER_TABLE, Key={"signature": {"S": "pool#MOON@raydium"}}
    )["Item"]
    assert item["opensAt"]["S"] == "2026-11-21T02:40:00.000Z"


@pytest.mark.parametrize("token", ["SOL", "NOPE", "", None])
def test_pool_of_a_token_that_cannot_be_launched_raises_for_the_failed_events_queue(
    triggers: Function, token: str | None
) -> None:
    event = sample_event("triggers-pool-created")
    event["detail"]["token"] = token

    with pytest.raises(ValidationError):
        triggers.invoke(event)


@pytest.mark.usefixtures("nobody_at_rest")
def test_pace_of_the_environment_bounds_a_tick(
    load_function: Callable[..., Function], start_api: Callable[..., Api], database: Database
) -> None:
    triggers = load_function("triggers", RELEASES_PER_TICK="3")
    api = start_api(LEDGER_TABLE=LEDGER_TABLE)
    user = f"user-{uuid.uuid4()}"
    for _ in range(7):
        resting_limit(api, userId=user)
    database.execute("UPDATE orders SET limit_price = 1 WHERE user_id = %s", [user])

    released = [triggers.invoke(sample_event("triggers-tick"))["released"] for _ in range(3)]

    assert released == [3, 3, 1]
