"""Thousands of orders at rest, against a real Postgres and the mock market."""

import time
from collections import Counter
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import psycopg
import pytest
from tests.integration.test_watch import Started, mock_market
from tests.support.engine_parts import Streamed
from tests.support.postgres import Orders

from benchmarks.resting import BURST_PAIR, MET, PAIRS, insert_resting
from order_engine.execution.resting.pace import Pace
from order_engine.execution.resting.watch import TickReport, Watch
from order_engine.execution.turns import Turns

Database = psycopg.Connection[dict[str, Any]]

PER_PAIR = 500
TICK_SECONDS = 2.0
TICK_QUOTES = 20


@pytest.fixture
def crowd(database: Database) -> Iterator[None]:
    """5,000 orders at rest over ten pairs, none of them met."""
    clear(database)
    for pair in PAIRS:
        insert_resting(database, pair, PER_PAIR)
    database.execute("ANALYZE orders")
    yield
    clear(database)


def clear(database: Database) -> None:
    database.execute(
        "UPDATE orders SET previous_status = status, status = 'canceled', seq = seq + 1"
        " WHERE status IN ('pending', 'open', 'triggered', 'routing', 'building')"
    )


def tick(watch: Watch) -> tuple[TickReport, float]:
    started = time.monotonic()
    report = watch.tick()
    return report, time.monotonic() - started


@pytest.mark.usefixtures("crowd")
def test_tick_over_five_thousand_orders_keeps_to_two_seconds_and_twenty_quotes(
    orders: Orders,
) -> None:
    watch = Watch(orders, Streamed(), Turns(orders, Started()), mock_market(), Pace())

    ticks = [tick(watch) for _ in range(4)]

    print(f"seconds per tick: {[round(seconds, 3) for _, seconds in ticks]}")
    assert max(report.quotes for report, _ in ticks) <= TICK_QUOTES
    assert {(report.pairs, report.released) for report, _ in ticks} == {(10, 0)}
    assert sorted(seconds for _, seconds in ticks)[1] <= TICK_SECONDS


@pytest.mark.usefixtures("crowd")
def test_pair_met_all_at_once_is_released_at_the_pace_oldest_first_each_order_once(
    orders: Orders, database: Database
) -> None:
    token_in, token_out = BURST_PAIR
    database.execute(
        "UPDATE orders SET limit_price = %s WHERE status = 'open' AND token_in = %s"
        " AND token_out = %s",
        [MET, token_in, token_out],
    )
    oldest_first = [
        str(row["id"])
        for row in database.execute(
            "SELECT id FROM orders WHERE status = 'open' AND limit_price = %s"
            " ORDER BY created_at, id",
            [Decimal(MET)],
        )
    ]
    executions = Started()
    pace = Pace(releases_per_tick=50)
    watch = Watch(orders, Streamed(), Turns(orders, executions), mock_market(), pace)

    ticks = [tick(watch) for _ in range(PER_PAIR // 50 + 1)]

    released = [order_id for report, _ in ticks for order_id in report.order_ids]
    assert [report.released for report, _ in ticks] == [50] * (PER_PAIR // 50) + [0]
    assert released == oldest_first
    assert set(Counter(executions.names).values()) == {1}
    assert sorted(executions.names) == sorted(f"{order_id}-1" for order_id in oldest_first)
    assert sorted(seconds for _, seconds in ticks)[len(ticks) // 2] <= TICK_SECONDS
