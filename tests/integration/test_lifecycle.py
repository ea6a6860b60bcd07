"""An order's transitions against a real Postgres."""

import uuid
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import timedelta
from decimal import Decimal
from typing import Any

import psycopg
import pytest
from tests.support.engine_parts import lifecycle_of
from tests.support.postgres import Orders

from order_engine.api.queries import OrderQueries
from order_engine.clock import SystemClock
from order_engine.domain.events import OrderEvent
from order_engine.domain.failures import FailureCode
from order_engine.domain.orders import ExecutionTerms, Order, OrderTerms, SwapTransaction
from order_engine.errors import Rejected, StreamUnavailable
from order_engine.execution.acceptance import Acceptance
from order_engine.execution.lifecycle import Lifecycle, Step
from order_engine.execution.messages import DecideRequest, LandedSwap, RouteRequest
from order_engine.execution.turns import Turns
from order_engine.venues.contract import (
    Built,
    NoRoute,
    Quoted,
    Reverted,
    Unavailable,
    VenueQuote,
)


@dataclass
class RecordingStream:
    """Keep what was streamed; refuse while ``away``."""

    events: list[OrderEvent] = field(default_factory=list)
    away: bool = False

    def append(self, events: Sequence[OrderEvent]) -> None:
        if self.away:
            raise StreamUnavailable("away")
        self.events.extend(events)

    def statuses(self) -> list[str]:
        return [event.status.value for event in self.events]


@dataclass
class RecordingStarter:
    started: list[str] = field(default_factory=list)

    def start(self, order_id: str, execution: str) -> None:
        self.started.append(execution)


@dataclass
class Engine:
    orders: Orders
    stream: RecordingStream
    executions: RecordingStarter
    lifecycle: Lifecycle
    acceptance: Acceptance

    def accept(self, **changes: Any) -> Order:
        terms = some_terms(**changes)
        return self.acceptance.accept(terms, digest_of(terms), None).order

    def at_building(self, **changes: Any) -> tuple[Order, ExecutionTerms]:
        order = self.accept(**changes)
        self.lifecycle.route(order.order_id, order.execution, None)
        terms = order.execution_terms
        self.lifecycle.decide(terms, order.execution, 1, QUOTES)
        return order, terms

    def at_submitted(self, **changes: Any) -> tuple[Order, ExecutionTerms]:
        order, terms = self.at_building(**changes)
        self.lifecycle.submit(terms, order.execution, 1, built("first"))
        return order, terms

    def statuses(self, order: Order) -> list[str]:
        return [event.status.value for event in self.orders.events_of(order.order_id)]


def some_terms(**changes: Any) -> OrderTerms:
    return OrderTerms(
        **{
            "user_id": f"user-{uuid.uuid4()}",
            "token_in": "SOL",
            "token_out": "USDC",
            "amount_in": Decimal("1.5"),
            "slippage_bps": 50,
            **changes,
        }
    )


def digest_of(terms: OrderTerms) -> str:
    return terms.model_dump_json()


def said(step: Step) -> dict[str, Any]:
    """Return the answer as the state machine gets it."""
    return step.answer.to_json_dict()


def quoted(dex: str, amount_out: str) -> Quoted:
    return Quoted(
        quote=VenueQuote(
            dex=dex,
            price=Decimal(amount_out) / Decimal("1.5"),
            amount_out=Decimal(amount_out),
            fee_pct=Decimal("0.25"),
            price_impact_pct=Decimal("0.01"),
            liquidity=Decimal(1000),
            slot=7,
        )
    )


QUOTES = [quoted("raydium", "223.5"), quoted("meteora", "225")]
NO_ANSWERS = [Unavailable(detail="raydium gave no quote")] * 2
REVERTED = Reverted(code=FailureCode.SLIPPAGE_EXCEEDED, detail="below the minimum")


def built(signature: str) -> Built:
    return Built(
        transaction=SwapTransaction(
            signature=signature, payload="eA==", last_valid_block_height=150, venue="meteora"
        )
    )


def landed(signature: str, amount_out: str = "224.9") -> LandedSwap:
    return LandedSwap(amount_out=Decimal(amount_out), transaction=built(signature).transaction)


@pytest.fixture
def engine(orders: Orders) -> Engine:
    stream, executions = RecordingStream(), RecordingStarter()
    return Engine(
        orders,
        stream,
        executions,
        lifecycle_of(orders, stream, executions),
        Acceptance(
            orders, stream, Turns(orders, executions), {}, SystemClock(), lambda: str(uuid.uuid4())
        ),
    )


def test_events_are_streamed_once_though_each_step_is_another_workers(
    engine: Engine, another_repository: Any
) -> None:
    order = engine.accept()
    routed = engine.lifecycle.take(
        RouteRequest(order_id=order.order_id, execution=order.execution, streamed_seq=1)
    )
    elsewhere = lifecycle_of(another_repository(), engine.stream)

    decided = elsewhere.take(
        DecideRequest(
            order=order.execution_terms,
            execution=order.execution,
            attempt=1,
            answers=tuple(QUOTES),
            streamed_seq=routed.answer.streamed_seq,
        )
    )

    assert decided.answer.streamed_seq == 3
    assert engine.stream.statuses() == ["pending", "routing", "building"]


def test_whole_life_records_five_events_and_streams_each_once(engine: Engine) -> None:
    order, terms = engine.at_submitted()

    step = engine.lifecycle.confirm(terms, order.execution, 1, landed("first"), Decimal(150))

    assert step.answer.outcome == "confirmed"
    expected = ["pending", "routing", "building", "submitted", "confirmed"]
    assert engine.statuses(order) == expected
    assert engine.stream.statuses() == expected
    assert [event.seq for event in engine.stream.events] == [1, 2, 3, 4, 5]


def test_confirmed_order_carries_what_the_swap_paid(engine: Engine) -> None:
    order, terms = engine.at_submitted()

    engine.lifecycle.confirm(terms, order.execution, 1, landed("first"), Decimal(150))

    stored = engine.orders.get(order.order_id)
    assert stored is not None
    assert stored.amount_out == Decimal("224.9")
    assert stored.executed_price == Decimal("149.933333333333333333")
    assert stored.realized_slippage_bps == Decimal("4.44")
    assert stored.min_amount_out == Decimal("223.875")
    assert [quote.dex for quote in stored.quotes] == ["raydium", "meteora"]


@pytest.mark.parametrize("step", ["route", "decide", "submit", "confirm", "attempt_failed"])
def test_repeated_call_answers_as_before_and_records_nothing(engine: Engine, step: str) -> None:
    order = engine.accept()
    execution, life = order.execution, engine.lifecycle
    terms = order.execution_terms
    calls: dict[str, Callable[[], Step]] = {
        "route": lambda: life.route(order.order_id, execution, None),
        "decide": lambda: life.decide(terms, execution, 1, QUOTES),
        "submit": lambda: life.submit(terms, execution, 1, built("first")),
        "confirm": lambda: life.confirm(terms, execution, 1, landed("first"), Decimal(150)),
        "attempt_failed": lambda: life.attempt_failed(terms, execution, 1, REVERTED),
    }
    for name, call in calls.items():
        if name == "confirm" and step == "attempt_failed":
            continue
        first = call()
        if name == step:
            break
    events_before = engine.statuses(order)

    again = calls[step]()

    assert again.answer == first.answer
    assert engine.statuses(order) == events_before


def test_transaction_built_anew_after_submission_is_ignored(engine: Engine) -> None:
    order, _ = engine.at_submitted()

    again = engine.lifecycle.submit(order.execution_terms, order.execution, 1, built("second"))

    assert said(again)["transaction"]["signature"] == "first"


def test_no_usable_quote_asks_for_a_retry_with_doubling_backoff(engine: Engine) -> None:
    order = engine.accept(max_retries=3)
    backoffs = []
    after_attempt = None
    for attempt in (1, 2, 3):
        engine.lifecycle.route(order.order_id, order.execution, after_attempt)
        step = engine.lifecycle.decide(order.execution_terms, order.execution, attempt, NO_ANSWERS)
        backoffs.append(said(step)["backoffSeconds"])
        after_attempt = attempt

    assert backoffs == [1, 2, 4]


def test_exhausted_retries_fail_the_order_with_code_and_reason(engine: Engine) -> None:
    order = engine.accept(max_retries=0)
    engine.lifecycle.route(order.order_id, order.execution, None)

    step = engine.lifecycle.decide(order.execution_terms, order.execution, 1, NO_ANSWERS)

    stored = engine.orders.get(order.order_id)
    assert step.answer.outcome == "failed"
    assert stored is not None
    assert stored.failure is not None
    assert stored.failure.code == "VENUE_UNAVAILABLE"
    assert engine.stream.events[-1].failure == stored.failure


def test_market_without_a_pool_fails_at_once(engine: Engine) -> None:
    order = engine.accept()
    engine.lifecycle.route(order.order_id, order.execution, None)

    step = engine.lifecycle.decide(order.execution_terms, order.execution, 1, [NoRoute()] * 2)

    assert step.answer.outcome == "failed"


def test_next_attempt_is_refused_while_the_transaction_may_land(engine: Engine) -> None:
    order, _ = engine.at_submitted()

    step = engine.lifecycle.route(order.order_id, order.execution, 1)

    assert step.answer.outcome == "superseded"
    assert engine.statuses(order)[-1] == "submitted"


def test_next_attempt_follows_a_reverted_transaction_and_says_why(engine: Engine) -> None:
    order, _ = engine.at_submitted()
    engine.lifecycle.attempt_failed(order.execution_terms, order.execution, 1, REVERTED)

    step = engine.lifecycle.route(order.order_id, order.execution, 1)

    assert said(step)["attempt"] == 2
    assert engine.statuses(order)[-2:] == ["submitted", "routing"]


def test_late_claim_does_not_disturb_an_order_on_its_way(engine: Engine) -> None:
    order, _ = engine.at_submitted()

    step = engine.lifecycle.route(order.order_id, order.execution, None)

    assert step.moved is False
    assert engine.statuses(order)[-1] == "submitted"


def test_transition_of_another_execution_is_superseded(engine: Engine) -> None:
    order = engine.accept()

    step = engine.lifecycle.route(order.order_id, f"{order.order_id}-1", None)

    assert step.answer.outcome == "superseded"
    assert engine.statuses(order) == ["pending"]


def test_final_order_refuses_every_change_in_sql_itself(
    engine: Engine, database: psycopg.Connection[Any]
) -> None:
    order, terms = engine.at_submitted()
    engine.lifecycle.confirm(terms, order.execution, 1, landed("first"), Decimal(150))

    with pytest.raises(psycopg.errors.CheckViolation, match="is final"):
        database.execute("UPDATE orders SET retries = 9 WHERE id = %s", [order.order_id])


def test_illegal_transition_is_refused_in_sql_itself(
    engine: Engine, database: psycopg.Connection[Any]
) -> None:
    order = engine.accept()

    with pytest.raises(psycopg.errors.CheckViolation, match="may not go from pending to confirmed"):
        database.execute(
            "UPDATE orders SET status = 'confirmed', seq = seq + 1 WHERE id = %s", [order.order_id]
        )


def test_submitted_order_cannot_fail_in_sql_while_its_transaction_may_land(
    engine: Engine, database: psycopg.Connection[Any]
) -> None:
    order, _ = engine.at_submitted()

    with pytest.raises(psycopg.errors.CheckViolation, match="may still land"):
        database.execute(
            "UPDATE orders SET status = 'failed', failure = '{}', seq = seq + 1 WHERE id = %s",
            [order.order_id],
        )


def test_fill_below_the_minimum_cannot_be_confirmed(engine: Engine) -> None:
    order, terms = engine.at_submitted()

    with pytest.raises(psycopg.errors.CheckViolation, match="confirmed_within_bounds"):
        engine.lifecycle.confirm(terms, order.execution, 1, landed("first", "1"), Decimal(150))


def test_events_cannot_be_rewritten(engine: Engine, database: psycopg.Connection[Any]) -> None:
    order = engine.accept()

    with pytest.raises(psycopg.errors.CheckViolation, match="never changed"):
        database.execute("DELETE FROM order_events WHERE order_id = %s", [order.order_id])


def test_event_kept_back_by_an_absent_stream_goes_out_with_the_next_one(engine: Engine) -> None:
    engine.stream.away = True
    order = engine.accept()
    engine.stream.away = False

    engine.lifecycle.route(order.order_id, order.execution, None)

    assert engine.stream.statuses() == ["pending", "routing"]


def test_equal_requests_in_parallel_store_one_order_and_start_one_execution(
    engine: Engine, another_repository: Any
) -> None:
    terms = some_terms(client_order_id="the-same")
    starts = RecordingStarter()

    def post(_: int) -> str:
        own_orders = another_repository()
        acceptance = Acceptance(
            own_orders,
            RecordingStream(),
            Turns(own_orders, starts),
            {},
            SystemClock(),
            lambda: str(uuid.uuid4()),
        )
        return acceptance.accept(terms, digest_of(terms), None).order.order_id

    with ThreadPoolExecutor(20) as pool:
        order_ids = set(pool.map(post, range(20)))

    assert len(order_ids) == 1
    assert starts.started == list(order_ids)


def test_key_used_again_for_another_order_is_rejected(engine: Engine) -> None:
    first = some_terms(client_order_id="mine")
    engine.acceptance.accept(first, digest_of(first), None)
    second = first.model_copy(update={"amount_in": Decimal(2)})

    with pytest.raises(Rejected, match="clientOrderId was used for a different order"):
        engine.acceptance.accept(second, digest_of(second), None)


@pytest.fixture
def slow_clock(database: psycopg.Connection[Any]) -> Iterator[None]:
    """Have each look at the database's clock take 3 ms, so that two looks differ."""
    replace = (
        "CREATE OR REPLACE FUNCTION now_in_milliseconds() RETURNS timestamptz"
        " LANGUAGE sql VOLATILE AS $$ {} SELECT date_trunc('milliseconds', clock_timestamp()) $$"
    )
    database.execute(replace.format("SELECT pg_sleep(0.003);"))
    yield
    database.execute(replace.format(""))


def test_milestone_event_and_order_tell_the_same_instant(
    engine: Engine, database: psycopg.Connection[Any], slow_clock: None
) -> None:
    order, _ = engine.at_building()

    row = database.execute(
        "SELECT to_char(updated_at AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.MS\"Z\"')"
        " AS changed, milestones ->> 'building' AS milestone,"
        " updated_at = (SELECT max(created_at) FROM order_events WHERE order_id = orders.id)"
        " AS is_event"
        " FROM orders WHERE id = %s",
        [order.order_id],
    ).fetchone()

    assert row is not None
    assert (row["milestone"], row["is_event"]) == (row["changed"], True)


def test_lost_connection_is_replaced_once(
    engine: Engine, orders: Orders, database: psycopg.Connection[Any]
) -> None:
    order = engine.accept()
    database.execute(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
        " WHERE pid <> pg_backend_pid() AND datname = current_database()"
    )

    step = engine.lifecycle.route(order.order_id, order.execution, None)

    assert step.answer.outcome == "routing"


@pytest.fixture
def another_repository(orders_factory: Any) -> Iterator[Any]:
    repositories: list[Orders] = []

    def make() -> Orders:
        repositories.append(orders_factory())
        return repositories[-1]

    yield make
    for repository in repositories:
        repository.close()


def test_submit_repeated_after_expiry_answers_with_the_transaction_written_down(
    engine: Engine,
) -> None:
    order, terms = engine.at_submitted()
    past = terms.model_copy(update={"expires_at": SystemClock().now() - timedelta(seconds=1)})

    again = engine.lifecycle.submit(past, order.execution, 1, built("second"))

    assert again.answer.outcome == "submitted"
    assert said(again)["transaction"]["signature"] == "first"


def test_reverts_that_do_not_count_leave_a_limit_order_its_retries(engine: Engine) -> None:
    order, terms = engine.at_submitted(max_retries=0)
    limit = terms.model_copy(update={"type": "limit"})

    step = engine.lifecycle.attempt_failed(limit, order.execution, 1, REVERTED)

    assert step.answer.outcome == "retry"
    assert step.order is not None
    assert step.order.retries == 0


def test_reverts_that_do_not_count_still_pause_longer_each_time(engine: Engine) -> None:
    order, terms = engine.at_building()
    limit = terms.model_copy(update={"type": "limit"})
    pauses = []
    for attempt in (1, 2, 3):
        engine.lifecycle.submit(limit, order.execution, attempt, built(f"number {attempt}"))
        step = engine.lifecycle.attempt_failed(limit, order.execution, attempt, REVERTED)
        pauses.append(said(step)["backoffSeconds"])
        engine.lifecycle.route(order.order_id, order.execution, attempt)
        engine.lifecycle.decide(limit, order.execution, attempt + 1, QUOTES)

    assert pauses == [1, 2, 4]


@pytest.mark.parametrize("by_client_id", [False, True])
def test_order_that_moves_while_it_is_read_is_shown_as_of_one_moment(
    engine: Engine,
    another_repository: Callable[[], Orders],
    monkeypatch: pytest.MonkeyPatch,
    by_client_id: bool,
) -> None:
    order = engine.accept(client_order_id="moves")
    elsewhere = lifecycle_of(another_repository(), RecordingStream())
    queries = OrderQueries(engine.orders)
    execute = psycopg.Connection.execute
    statements: list[object] = []

    def move_after_the_first(
        connection: psycopg.Connection[Any], *arguments: Any
    ) -> psycopg.Cursor[Any]:
        cursor = execute(connection, *arguments)
        statements.append(arguments[0])
        if len(statements) == 1:
            elsewhere.route(order.order_id, order.execution, None)
        return cursor

    monkeypatch.setattr(psycopg.Connection, "execute", move_after_the_first)

    shown = (
        queries.by_client_id(order.user_id, "moves")
        if by_client_id
        else queries.one(order.order_id, caller=None)
    )

    monkeypatch.undo()
    assert engine.statuses(order) == ["pending", "routing"]
    assert shown.events[-1].status is shown.status
