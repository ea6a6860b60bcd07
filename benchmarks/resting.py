"""Measure orders at rest: what a tick over 5,000 of them takes, and 500 that are met at once.

Run it: `python -m benchmarks.resting`. Figures: docs/resting-orders.md.
"""

from __future__ import annotations

import json
import os
import platform
import random
import shutil
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated, Any

import httpx
import psycopg
import typer
from psycopg.rows import dict_row

from benchmarks.figures import percentile_ms
from local import aws, runtime
from local.logs import FunctionLogs
from local.paths import DEFAULT_STATE_DIRECTORY, StateDirectory
from local.stack import Stack
from order_engine.domain.statuses import FINAL_STATUSES

DIRECTORY = DEFAULT_STATE_DIRECTORY / "bench-resting"
PAIRS = (
    ("SOL", "USDC"), ("SOL", "USDT"), ("ETH", "USDC"), ("ETH", "SOL"), ("BTC", "USDC"),
    ("BTC", "SOL"), ("JUP", "USDC"), ("JUP", "SOL"), ("RAY", "USDC"), ("RAY", "SOL"),
)  # fmt: skip
BURST_PAIR = ("SOL", "USDC")
TRIGGER_PAIR = ("RAY", "USDC")
UNREACHABLE = 10**12
MET = "0.000001"
FINAL = sorted(FINAL_STATUSES)

Connection = psycopg.Connection[dict[str, Any]]

_INSERT = """
WITH stored AS (
    INSERT INTO orders (id, user_id, terms_digest, type, token_in, token_out, amount_in,
        slippage_bps, max_retries, limit_price, expires_at, status, previous_status, seq,
        execution, milestones, created_at, updated_at)
    SELECT id, %(user_id)s, 'digest', 'limit', %(token_in)s, %(token_out)s,
        round((0.01 + random() * 0.05)::numeric, 4), 500, 3, %(limit_price)s,
        now() + interval '1 day', 'open', 'pending', 2, id::text,
        milestone('pending', instant) || milestone('open', instant), instant, instant
    FROM (SELECT gen_random_uuid() AS id, now_in_milliseconds() AS instant
          FROM generate_series(1, %(count)s)) AS new
    RETURNING id, execution, created_at
)
INSERT INTO order_events
    (order_id, seq, event, previous_status, attempt, execution, created_at, streamed_at)
SELECT id, seq, event, previous_status, 0, execution, created_at, created_at
FROM stored, (VALUES (1, 'pending', NULL), (2, 'open', 'pending'))
    AS events (seq, event, previous_status)
"""


def insert_resting(
    connection: Connection, pair: tuple[str, str], count: int, *, user_id: str = "resting"
) -> None:
    """Store limit orders at rest that no price meets, as if accepted and streamed long ago."""
    connection.execute(
        _INSERT,
        {
            "user_id": user_id,
            "token_in": pair[0],
            "token_out": pair[1],
            "limit_price": UNREACHABLE,
            "count": count,
        },
    )


@dataclass(frozen=True)
class Bench:
    """A running stack with orders at rest."""

    stack: Stack
    http: httpx.Client
    database: Connection

    def rows(self, query: str, *parameters: object) -> list[dict[str, Any]]:
        """Return what the database says."""
        return self.database.execute(query.encode(), parameters).fetchall()

    def tick(self) -> tuple[float, dict[str, Any]]:
        """Invoke the deployed function once; return its seconds and its report."""
        name = aws.physical_ids(self.stack.emulator_url, self.stack.stack_name)["TriggersFunction"]
        client = aws.client("lambda", self.stack.emulator_url)
        started = time.monotonic()
        answer = client.invoke(FunctionName=name, Payload=b"{}")
        seconds = time.monotonic() - started
        report: dict[str, Any] = json.loads(answer["Payload"].read())
        if "FunctionError" in answer:
            raise RuntimeError(f"the tick failed: {report}")
        return seconds, report

    def market_order(self) -> float:
        """Submit a market order and return its seconds until confirmed."""
        body = {"tokenIn": "ETH", "tokenOut": "USDC", "amountIn": "0.1", "slippageTolerance": "0.1"}
        started = time.monotonic()
        reply = self.http.post("api/orders/execute", json=body)
        reply.raise_for_status()
        order_id = reply.json()["orderId"]
        while True:
            (row,) = self.rows("SELECT status FROM orders WHERE id = %s", order_id)
            if row["status"] in FINAL:
                if row["status"] != "confirmed":
                    raise RuntimeError(f"market order {order_id} ended {row['status']}")
                return time.monotonic() - started
            time.sleep(0.05)


@contextmanager
def bench(parameters: dict[str, str]) -> Iterator[Bench]:
    """Run a stack of this measurement's own for the length of the block."""
    state = StateDirectory.at(DIRECTORY)
    runtime.down(state)
    for directory in (state.postgres, state.emulator):
        shutil.rmtree(directory, ignore_errors=True)
    with (
        runtime.running_stack(state.root, parameters=parameters) as stack,
        httpx.Client(base_url=stack.http_url.rstrip("/") + "/", timeout=60) as http,
        psycopg.connect(stack.database_url, autocommit=True, row_factory=dict_row) as database,
    ):
        yield Bench(stack, http, database)


def until(probe: Callable[[], bool], seconds: float, what: str) -> None:
    """Wait for a condition. Raises TimeoutError."""
    deadline = time.monotonic() + seconds
    while not probe():
        if time.monotonic() > deadline:
            raise TimeoutError(f"after {seconds:.0f} s still not: {what}")
        time.sleep(0.2)


def report_distribution(name: str, seconds: Sequence[float]) -> None:
    """Print count, p50, p95 and the longest of some durations."""
    ordered = sorted(seconds)
    p50, p95 = percentile_ms(ordered, 50), percentile_ms(ordered, 95)
    print(f"{name}: n {len(ordered)}, p50 {p50} ms, p95 {p95} ms, max {ordered[-1] * 1000:.0f} ms")


def measure_ticks(bench: Bench, count: int) -> None:
    """Tick over all the resting orders, none of which is met; count what Lambda took and asked."""
    bench.tick()
    start_ms = int(time.time() * 1000)
    ticks = [bench.tick() for _ in range(count)]
    report_distribution("tick, as its caller sees it", [seconds for seconds, _ in ticks])
    print(f"quotes per tick: {sorted({report['quotes'] for _, report in ticks})}")
    lines = FunctionLogs(bench.stack).since(start_ms, source="triggers", containing="watched")
    print(f"ticks logged meanwhile: {len(lines)}")


def await_schedule(bench: Bench) -> None:
    """Wait until the schedule makes the ticks: its first minute begins one after the deploy."""
    start_ms = int(time.time() * 1000)
    logs = FunctionLogs(bench.stack)

    def ticks() -> bool:
        return bool(logs.since(start_ms, source="triggers", containing="watched"))

    until(ticks, 120, "a tick of the schedule's own")


def measure_triggering(bench: Bench, count: int, seed: int) -> None:
    """Let single orders be met at random moments; count from there to `triggered`."""
    chosen = bench.rows(
        "SELECT id FROM orders WHERE status = 'open' AND token_in = %s AND token_out = %s LIMIT %s",
        *TRIGGER_PAIR,
        count,
    )
    chance = random.Random(seed)
    for row in chosen:
        bench.rows(
            "WITH amended AS (UPDATE orders SET limit_price = %s WHERE id = %s RETURNING id)"
            " INSERT INTO met SELECT id, clock_timestamp() FROM amended RETURNING order_id",
            MET,
            row["id"],
        )
        time.sleep(chance.uniform(0.5, 3.0))
    ids = [row["id"] for row in chosen]

    def all_final() -> bool:
        query = "SELECT count(*) AS n FROM orders WHERE id = ANY(%s) AND status = ANY(%s)"
        return bool(bench.rows(query, ids, list(FINAL))[0]["n"] == len(ids))

    until(all_final, 180, "every triggered order final")


def met_at(bench: Bench, order_ids: Sequence[uuid.UUID], moment: datetime) -> list[float]:
    """Return the seconds from a moment to each order's final event."""
    return [
        (row["ended"] - moment).total_seconds()
        for row in bench.rows(
            "SELECT max(created_at) AS ended FROM order_events WHERE order_id = ANY(%s)"
            " GROUP BY order_id",
            list(order_ids),
        )
    ]


def measure_burst(bench: Bench, deadline_seconds: float) -> None:
    """Let all orders of one pair be met at once while market orders come in."""
    market: list[float] = []
    done = threading.Event()
    failures: list[BaseException] = []

    def trade() -> None:
        try:
            while not done.is_set():
                market.append(own.market_order())
                done.wait(1.0)
        except (RuntimeError, httpx.HTTPError) as error:
            failures.append(error)

    calm = [bench.market_order() for _ in range(8)]
    report_distribution("market order before the burst, until confirmed", calm)
    met = datetime.now(UTC)
    rows = bench.rows(
        "UPDATE orders SET limit_price = %s WHERE status = 'open' AND token_in = %s"
        " AND token_out = %s RETURNING id",
        MET,
        *BURST_PAIR,
    )
    ids = [row["id"] for row in rows]
    with psycopg.connect(
        bench.stack.database_url, autocommit=True, row_factory=dict_row
    ) as connection:
        own = Bench(bench.stack, bench.http, connection)
        trader = threading.Thread(target=trade)
        trader.start()
        try:

            def none_left() -> bool:
                query = "SELECT count(*) AS n FROM orders WHERE id = ANY(%s) AND status <> ALL(%s)"
                return bool(bench.rows(query, ids, list(FINAL))[0]["n"] == 0)

            until(none_left, deadline_seconds, f"{len(ids)} orders final")
        finally:
            done.set()
            trader.join()
    if failures:
        raise failures[0]
    report_distribution("limit order of the burst, from met to final", met_at(bench, ids, met))
    report_distribution("market order during the burst, until confirmed", market)
    statuses = bench.rows(
        "SELECT status, count(*) AS n, max(attempt) AS attempts FROM orders"
        " WHERE id = ANY(%s) GROUP BY status",
        ids,
    )
    print(f"ended: {[(row['status'], row['n'], row['attempts']) for row in statuses]}")
    print(f"swaps per order: {swaps_per_order(bench, {str(order_id) for order_id in ids})}")


def swaps_per_order(bench: Bench, order_ids: set[str]) -> dict[int, int]:
    """Return how many orders have how many landed swaps on the mock chain."""
    pages = aws.client("dynamodb", bench.stack.emulator_url).get_paginator("scan")
    landed = dict.fromkeys(order_ids, 0)
    for page in pages.paginate(TableName=bench.stack.outputs["LedgerTableName"]):
        for item in page["Items"]:
            order_id = item.get("orderId", {}).get("S")
            if order_id in landed and item["fate"]["S"] == "landed":
                landed[order_id] += 1
    counts = list(landed.values())
    return {swaps: counts.count(swaps) for swaps in sorted(set(counts))}


def triggered_within(bench: Bench) -> list[float]:
    """Return the seconds from being met to `triggered`."""
    return [
        (row["triggered"] - row["met"]).total_seconds()
        for row in bench.rows(
            "SELECT met.at AS met, min(created_at) AS triggered FROM met"
            " JOIN order_events USING (order_id) WHERE event = 'triggered'"
            " GROUP BY order_id, met.at"
        )
    ]


def main(
    orders: Annotated[int, typer.Option(help="Orders at rest, over ten pairs.")] = 5000,
    ticks: Annotated[int, typer.Option(help="Ticks to measure.")] = 20,
    singles: Annotated[int, typer.Option(help="Orders met one by one.")] = 20,
    burst_seconds: Annotated[float, typer.Option(help="Longest wait for the burst.")] = 420,
    seed: Annotated[int, typer.Option(help="Seed of the moments.")] = 1,
    parameter: Annotated[
        list[str] | None, typer.Option(help="A template parameter, Key=Value; repeatable.")
    ] = None,
) -> None:
    """Measure a stack of its own, with the template's defaults unless told otherwise."""
    parameters = dict(pair.partition("=")[::2] for pair in parameter or [])
    print(f"{platform.machine()}, {os.cpu_count()} processors, load {os.getloadavg()[0]:.1f}")
    with bench(parameters) as running:
        for pair in PAIRS:
            insert_resting(running.database, pair, orders // len(PAIRS))
        running.database.execute("CREATE TABLE met (order_id uuid PRIMARY KEY, at timestamptz)")
        running.market_order()
        print(f"load {os.getloadavg()[0]:.1f}")
        measure_ticks(running, ticks)
        await_schedule(running)
        measure_triggering(running, singles, seed)
        report_distribution("from met to triggered", triggered_within(running))
        measure_burst(running, burst_seconds)
        print(f"load {os.getloadavg()[0]:.1f}")


if __name__ == "__main__":
    typer.run(main)
