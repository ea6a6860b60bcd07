"""Measure the queue alone: what a claim costs with 100,000 orders of 1,000 users waiting.

Run it: `python -m benchmarks.turns`. Figures: docs/measurements.md.
"""

from __future__ import annotations

import tempfile
import threading
import time
import uuid
from collections import Counter
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any

import psycopg
import typer
from psycopg.rows import dict_row

from benchmarks.figures import percentile_ms
from local.postgres import embedded_postgres
from order_engine.adapters.postgres.connection import Database
from order_engine.adapters.postgres.migrate import migrate
from order_engine.adapters.postgres.waiting import PostgresWaitingOrders
from order_engine.adapters.secrets import DatabaseSecret
from order_engine.domain.changes import Decided, Routed, Submitted
from order_engine.domain.orders import OrderTerms, SwapTransaction
from order_engine.domain.transitions import Guard, NewOrder, Transition

SLOTS = 25
CLAIMERS = 10
INSERTERS = 5
TERMS = {"tokenIn": "SOL", "tokenOut": "USDC", "amountIn": Decimal(1), "slippageBps": 50}

_FILL = """
INSERT INTO orders (id, user_id, terms_digest, type, token_in, token_out, amount_in, slippage_bps,
    max_retries, status, execution, milestones, created_at, updated_at, turn)
SELECT id, 'user-' || number %% %(users)s, 'digest', 'market', 'SOL', 'USDC', 1, 50, 3, 'pending',
    id::text, milestone('pending', instant), instant, instant, number / %(users)s
FROM (SELECT gen_random_uuid() AS id, now_in_milliseconds() AS instant, number
      FROM generate_series(0, %(orders)s - 1) AS number) AS new
"""

# The statements of claim_next_order, one by one: PostgreSQL explains no statement of a function.
_PLANS = {
    "used slots": "SELECT count(*) FROM orders_with_slot",
    "head of the queue": """
SELECT * FROM waiting_orders ORDER BY is_urgent DESC, turn, id LIMIT 1 FOR UPDATE SKIP LOCKED""",
    "the user's order that runs": """
SELECT * FROM waiting_orders WHERE user_id = 'user-7' AND is_urgent = false
ORDER BY priority DESC, created_at, id LIMIT 1 FOR UPDATE SKIP LOCKED""",
    "the whole claim": "SELECT id FROM claim_next_order(1000000)",
}


class _KnownSecret(DatabaseSecret):
    def __init__(self, url: str) -> None:
        super().__init__("arn:aws:secretsmanager:us-east-1:000000000000:secret:benchmark")
        self._url = url

    def _read(self) -> dict[str, Any]:
        return {"conninfo": self._url}


class Load:
    """Let workers submit what they hold and start what they are handed, while others place."""

    def __init__(self, url: str, seconds: float) -> None:
        self._url = url
        self._until = time.monotonic() + seconds
        self._lock = threading.Lock()
        self.durations: dict[str, list[float]] = {"hand on": [], "insert": []}
        self.waits: Counter[str] = Counter()
        self.samples = 0

    def run(self) -> None:
        """Run all workers to the end of the time."""
        threads = [threading.Thread(target=self._claim) for _ in range(CLAIMERS)]
        threads += [threading.Thread(target=self._insert) for _ in range(INSERTERS)]
        threads.append(threading.Thread(target=self._watch_waits))
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    def _orders(self) -> PostgresWaitingOrders:
        return PostgresWaitingOrders(Database(_KnownSecret(self._url)), SLOTS)

    def _claim(self) -> None:
        orders = self._orders()
        held = orders.claim_next()
        while held is not None and time.monotonic() < self._until:
            _route_and_decide(orders, held.order_id, held.execution)
            started = time.perf_counter()
            held = orders.move(_submission(held.order_id, held.execution)).next_in_slot
            self._note("hand on", started)

    def _insert(self) -> None:
        orders, number = self._orders(), 0
        while time.monotonic() < self._until:
            number += 1
            terms = OrderTerms.model_validate({**TERMS, "userId": f"user-{number % 1000}"})
            started = time.perf_counter()
            orders.insert(NewOrder(str(uuid.uuid4()), terms, None, "digest"))
            self._note("insert", started)

    def _note(self, what: str, started: float) -> None:
        with self._lock:
            self.durations[what].append(time.perf_counter() - started)

    def _watch_waits(self) -> None:
        """Look every 10 ms at what sessions wait for."""
        with psycopg.connect(self._url, autocommit=True, row_factory=dict_row) as connection:
            while time.monotonic() < self._until:
                self.samples += 1
                for row in connection.execute(
                    "SELECT wait_event_type, wait_event, count(*) AS sessions"
                    " FROM pg_stat_activity WHERE wait_event_type IN ('Lock', 'LWLock', 'IO')"
                    " AND datname = current_database() GROUP BY 1, 2"
                ):
                    self.waits[f"{row['wait_event_type']} {row['wait_event']}"] += row["sessions"]
                time.sleep(0.01)


def _route_and_decide(orders: PostgresWaitingOrders, order_id: str, execution: str) -> None:
    orders.move(Transition(order_id, Routed(), Guard.CLAIM, execution))
    decided = Decided(
        quotes=(), chosen_dex="raydium", quoted_price=Decimal(1), min_amount_out=Decimal(1)
    )
    orders.move(Transition(order_id, decided, Guard.ATTEMPT, execution, 1))


def _submission(order_id: str, execution: str) -> Transition:
    transaction = SwapTransaction(
        signature=str(uuid.uuid4()), payload="eA==", last_valid_block_height=1, venue="raydium"
    )
    return Transition(order_id, Submitted(transaction=transaction), Guard.ATTEMPT, execution, 1)


def main(
    waiting: Annotated[int, typer.Option(min=1, help="Orders that wait.")] = 100_000,
    users: Annotated[int, typer.Option(min=1, help="Users who own them.")] = 1_000,
    seconds: Annotated[float, typer.Option(min=1, help="How long to measure.")] = 20,
) -> None:
    """Fill the queue, explain a claim, then measure claims beside inserts."""
    with (
        tempfile.TemporaryDirectory(prefix="turns") as folder,
        embedded_postgres(Path(folder)) as server,
        psycopg.connect(server.url, autocommit=True, row_factory=dict_row) as connection,
    ):
        migrate(connection)
        typer.echo(f"{waiting} orders of {users} users ...")
        connection.execute("ALTER TABLE orders DISABLE TRIGGER take_turn_when_stored")
        connection.execute(_FILL, {"orders": waiting, "users": users})
        connection.execute("ALTER TABLE orders ENABLE TRIGGER take_turn_when_stored")
        connection.execute("VACUUM ANALYZE orders")
        for name, statement in _PLANS.items():
            typer.echo(f"\n{name}")
            with connection.transaction(force_rollback=True):
                for row in connection.execute("EXPLAIN (ANALYZE, BUFFERS, COSTS OFF) " + statement):
                    typer.echo(f"  {row['QUERY PLAN']}")
        load = Load(server.url, seconds)
        load.run()
        typer.echo(f"\n{CLAIMERS} workers hand on, {INSERTERS} insert, for {seconds:.0f} s")
        for what, durations in load.durations.items():
            ordered = sorted(durations)
            typer.echo(
                f"  {what}: {len(ordered) / seconds:.0f} a second,"
                f" p50 {percentile_ms(ordered, 50)} ms, p95 {percentile_ms(ordered, 95)} ms"
            )
        typer.echo(f"  waiting sessions, of {load.samples} looks at all:")
        for event, number in load.waits.most_common():
            typer.echo(f"    {event}: {number / load.samples:.2f} at a time")


if __name__ == "__main__":
    typer.run(main)
