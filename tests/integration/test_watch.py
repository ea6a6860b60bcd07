"""Orders at rest, against a real Postgres and a market that the test moves."""

import uuid
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from itertools import count
from typing import Any

import psycopg
import pytest
from tests.support.engine_parts import Streamed, lifecycle_of, moves_of
from tests.support.postgres import Orders

from order_engine.clock import SystemClock
from order_engine.domain.changes import Amendment
from order_engine.domain.failures import FailureCode
from order_engine.domain.orders import Order, OrderTerms, SniperTrigger, SwapTransaction, VenueName
from order_engine.domain.transitions import PairDemand
from order_engine.domain.types.limit import Limit
from order_engine.errors import ExecutionNotStarted, Rejected, VenueUnavailable
from order_engine.execution.acceptance import Acceptance
from order_engine.execution.cancellation import Cancellation
from order_engine.execution.messages import Building
from order_engine.execution.ports import ExecutionState
from order_engine.execution.resting.pace import Pace, in_turn
from order_engine.execution.resting.watch import Watch
from order_engine.execution.turns import Turns
from order_engine.venues.contract import (
    Built,
    InsufficientLiquidity,
    NoRoute,
    QuoteAnswer,
    Quoted,
    QuoteRequest,
    Reverted,
    VenueQuote,
)
from order_engine.venues.mock.assembly import mock_venues
from order_engine.venues.mock.settings import MockSettings
from order_engine.venues.mock.venue import MockVenue

ONE_SOL = QuoteRequest(token_in="SOL", token_out="USDC", amount_in=Decimal(1))


@dataclass
class MovableVenue:
    """Quote the price that the test sets; None: there is no pool."""

    price: Decimal | None = None
    name: str = "raydium"
    liquidity: Decimal = Decimal(1_000_000)
    impact_pct: Decimal = Decimal(0)
    is_down: bool = False
    smallest: Decimal = Decimal(0)
    asked: int = 0

    def quote(self, request: QuoteRequest) -> QuoteAnswer:
        self.asked += 1
        if self.is_down:
            raise VenueUnavailable("down")
        if self.price is None:
            return NoRoute()
        if request.amount_in < self.smallest:
            return InsufficientLiquidity(detail="less than one base unit")
        return Quoted(
            quote=VenueQuote(
                dex=self.name,
                price=self.price,
                amount_out=self.price * request.amount_in,
                fee_pct=Decimal("0.25"),
                price_impact_pct=self.impact_pct,
                liquidity=self.liquidity,
                slot=1,
            )
        )

    def build(self, request: Any) -> Any:
        raise NotImplementedError

    send = check = build


@dataclass
class Started:
    names: list[str] = field(default_factory=list)
    refuses: bool = False

    def start(self, order_id: str, execution: str) -> None:
        if self.refuses:
            raise ExecutionNotStarted("refused")
        self.names.append(execution)

    def state_of(self, execution: str) -> ExecutionState:
        return ExecutionState.RUNNING

    def stop(self, execution: str) -> None:
        self.names.remove(execution)


@dataclass
class Desk:
    """One market with its resting orders."""

    orders: Orders
    raydium: MovableVenue = field(default_factory=lambda: MovableVenue(Decimal(100)))
    meteora: MovableVenue = field(
        default_factory=lambda: MovableVenue(Decimal(100), name="meteora")
    )
    stream: Streamed = field(default_factory=Streamed)
    executions: Started = field(default_factory=Started)

    def watch(self, **pace: Any) -> Watch:
        venues = {"raydium": self.raydium, "meteora": self.meteora}
        return Watch(
            self.orders, self.stream, Turns(self.orders, self.executions), venues, Pace(**pace)
        )

    def accept(self, **changes: Any) -> Any:
        terms = OrderTerms(
            **{
                "user_id": f"user-{uuid.uuid4()}",
                "type": "limit",
                "token_in": "SOL",
                "token_out": "USDC",
                "amount_in": Decimal(1),
                "slippage_bps": 50,
                "limit_price": Decimal(110),
                "expires_at": datetime.now(UTC) + timedelta(hours=1),
                **changes,
            }
        )
        acceptance = Acceptance(
            self.orders,
            self.stream,
            Turns(self.orders, self.executions),
            {"raydium": self.raydium, "meteora": self.meteora},
            SystemClock(),
            lambda: str(uuid.uuid4()),
        )
        return acceptance.accept(terms, terms.model_dump_json(), None)

    def limit(self, **changes: Any) -> Order:
        order: Order = self.accept(**changes).order
        return order

    def sniper(self, **changes: Any) -> Order:
        trigger = changes.pop("trigger", SniperTrigger())
        return self.limit(
            type="sniper",
            token_out="MOON",
            limit_price=None,
            trigger=trigger,
            **changes,
        )

    def status(self, order: Order) -> str:
        stored = self.orders.get(order.order_id)
        assert stored is not None
        return stored.status.value

    def started(self, order: Order) -> list[str]:
        return [name for name in self.executions.names if name.startswith(order.order_id)]

    def move_price(self, price: int) -> None:
        self.raydium.price = self.meteora.price = Decimal(price)


@pytest.fixture
def desk(orders: Orders, nobody_at_rest: None) -> Desk:
    return Desk(orders)


def mock_market() -> Mapping[VenueName, MockVenue]:
    settings = MockSettings(quote_latency_ms=0)
    return mock_venues(settings, clock=SystemClock(), sleep=lambda _seconds: None)


def test_limit_above_the_market_rests_and_starts_nothing(desk: Desk) -> None:
    order = desk.limit(limit_price=Decimal(110))

    assert desk.status(order) == "open"
    assert desk.started(order) == []
    assert [event.status.value for event in desk.stream.events] == ["pending", "open"]


def test_marketable_limit_executes_at_once_and_says_so(desk: Desk) -> None:
    accepted = desk.accept(limit_price=Decimal(90))

    assert accepted.warnings == (Limit.met_at_once,)
    assert desk.started(accepted.order) == [accepted.order.order_id]


def test_price_at_the_limit_releases_the_order_to_its_next_execution(desk: Desk) -> None:
    order = desk.limit(limit_price=Decimal(110))
    desk.raydium.price = Decimal(110)

    report = desk.watch().tick()

    assert desk.status(order) == "triggered"
    assert report.order_ids == [order.order_id]
    assert desk.started(order) == [f"{order.order_id}-1"]


def test_price_beyond_the_limit_releases_it_too(desk: Desk) -> None:
    order = desk.limit(limit_price=Decimal(110))
    desk.move_price(500)

    desk.watch().tick()

    assert desk.status(order) == "triggered"


def test_price_short_of_the_limit_leaves_it_at_rest(desk: Desk) -> None:
    order = desk.limit(limit_price=Decimal(110))
    desk.move_price(109)

    desk.watch().tick()

    assert desk.status(order) == "open"


def test_size_too_large_for_the_pool_stays_at_rest_while_a_small_one_goes(desk: Desk) -> None:
    small = desk.limit(limit_price=Decimal(109), amount_in=Decimal(1))
    large = desk.limit(limit_price=Decimal(109), amount_in=Decimal(50))
    desk.move_price(110)
    desk.raydium.impact_pct = desk.meteora.impact_pct = Decimal("0.5")

    desk.watch().tick()

    assert (desk.status(small), desk.status(large)) == ("triggered", "open")


def test_second_tick_does_not_release_again(desk: Desk) -> None:
    order = desk.limit()
    desk.move_price(200)

    desk.watch().tick()
    desk.watch().tick()

    assert desk.started(order) == [f"{order.order_id}-1"]


def test_two_ticks_at_once_release_each_order_once(desk: Desk, orders_factory: Any) -> None:
    resting = [desk.limit() for _ in range(30)]
    desk.move_price(200)
    repositories = [orders_factory(), orders_factory()]

    with ThreadPoolExecutor(2) as pool:
        desks = [
            Desk(repository, desk.raydium, desk.meteora, desk.stream, desk.executions)
            for repository in repositories
        ]
        list(pool.map(lambda other: other.watch().tick(), desks))

    assert sorted(desk.executions.names) == sorted(f"{order.order_id}-1" for order in resting)
    for repository in repositories:
        repository.close()


def test_release_that_could_not_start_is_left_triggered_for_the_reconciler(desk: Desk) -> None:
    order = desk.limit()
    desk.move_price(200)
    desk.executions.refuses = True

    report = desk.watch().tick()

    assert report.left_to_next_tick == 1
    assert desk.status(order) == "triggered"


def test_releases_keep_to_the_pace_best_limit_first_then_oldest(desk: Desk) -> None:
    late_and_low = [desk.limit(limit_price=Decimal(120)) for _ in range(2)]
    best = desk.limit(limit_price=Decimal(105))
    desk.move_price(200)

    report = desk.watch(releases_per_tick=2).tick()

    assert report.order_ids == [best.order_id, late_and_low[0].order_id]


def test_each_pair_is_asked_once_per_venue_whatever_the_number_of_orders(desk: Desk) -> None:
    for _ in range(10):
        desk.limit()
        desk.limit(token_in="ETH")
    asked_before = desk.raydium.asked + desk.meteora.asked

    report = desk.watch().tick()

    assert report.quotes == 4
    assert desk.raydium.asked + desk.meteora.asked - asked_before == 4


def test_order_that_buys_nothing_does_not_hide_the_price_from_the_others(desk: Desk) -> None:
    desk.raydium.smallest = desk.meteora.smallest = Decimal("0.001")
    order = desk.limit(limit_price=Decimal(110))
    desk.limit(limit_price=Decimal(10**9), amount_in=Decimal("0.000000001"))
    desk.move_price(120)

    desk.watch().tick()

    assert desk.status(order) == "triggered"


@pytest.mark.parametrize("dust", ["0.000000001", "0.0000001", "0.00001"])
def test_dust_at_rest_does_not_hide_the_mock_markets_price_from_the_others(
    desk: Desk, dust: str
) -> None:
    watch = Watch(
        desk.orders, desk.stream, Turns(desk.orders, desk.executions), mock_market(), Pace()
    )
    order = desk.limit()
    desk.limit(amount_in=Decimal(dust))
    desk.orders.amend(order.order_id, Amendment(limit_price=Decimal(1)))

    watch.tick()

    assert desk.status(order) == "triggered"


def test_size_that_is_exact_enough_is_remembered_for_the_next_tick(desk: Desk) -> None:
    watch = Watch(
        desk.orders, desk.stream, Turns(desk.orders, desk.executions), mock_market(), Pace()
    )
    desk.limit(amount_in=Decimal("0.000000001"), limit_price=Decimal(10**9))

    quotes = [watch.tick().quotes for _ in range(2)]

    assert quotes[1] == 2 < quotes[0]


def test_pairs_share_the_pace_so_that_a_crowded_one_does_not_starve_another(desk: Desk) -> None:
    for _ in range(5):
        desk.limit(token_in="BTC")
    lonely = desk.limit(token_in="SOL")
    desk.move_price(200)

    report = desk.watch(releases_per_tick=4).tick()

    assert report.released == 4
    assert desk.status(lonely) == "triggered"


def test_pairs_take_turns_when_the_pace_does_not_reach_all(desk: Desk) -> None:
    ticks = count()
    for _ in range(3):
        desk.limit(token_in="BTC")
    last = desk.limit(token_in="SOL")
    desk.move_price(200)

    for _ in range(2):
        desk.watch(releases_per_tick=1, rotation=ticks.__next__).tick()

    assert desk.status(last) == "triggered"


@pytest.mark.parametrize("pairs", [1, 9, 10, 11, 15, 20, 30, 37])
def test_every_pair_has_its_turn_within_a_few_ticks(pairs: int) -> None:
    demands = [PairDemand("SOL", f"T{number}", Decimal(1)) for number in range(pairs)]
    most = Pace(quotes_per_tick=20).pairs_per_tick(venues=2)
    ticks = -(-pairs // 10) + 1

    served = {pair.token_out for turn in range(ticks) for pair in in_turn(demands, most, turn)}

    assert len(served) == pairs


@pytest.mark.parametrize("quotes_per_tick", [4, 5])
def test_sniper_pairs_stay_within_the_quotes_of_a_tick(desk: Desk, quotes_per_tick: int) -> None:
    # given: more pairs without a pool than two venues may be asked for
    desk.raydium.price = desk.meteora.price = None
    for token in ("SOL", "USDC", "BTC", "ETH"):
        desk.sniper(token_in=token)
    asked_before = desk.raydium.asked + desk.meteora.asked
    watch = desk.watch(quotes_per_tick=quotes_per_tick)

    reports = [watch.tick(), watch.pool_created("MOON")]

    assert [report.quotes for report in reports] == [4, 4]
    assert desk.raydium.asked + desk.meteora.asked == asked_before + 8


@pytest.mark.parametrize("served", ["SOL", "USDC", "BTC", "ETH"])
def test_sniper_pairs_take_turns_when_a_tick_does_not_reach_all(desk: Desk, served: str) -> None:
    # given: four pairs, three of which stay at rest and are asked for in every tick that has room
    ticks = count()
    desk.raydium.price = desk.meteora.price = None
    out_of_reach = SniperTrigger(max_price=Decimal("0.000001"))
    orders = {
        token: desk.sniper(
            token_in=token, trigger=SniperTrigger() if token == served else out_of_reach
        )
        for token in ("SOL", "USDC", "BTC", "ETH")
    }
    desk.move_price(200)

    for _ in range(2):
        desk.watch(quotes_per_tick=4, rotation=ticks.__next__).tick()

    triggered = [token for token, order in orders.items() if desk.status(order) == "triggered"]
    assert triggered == [served]


@pytest.mark.parametrize("quotes_per_tick", [2, 4])
def test_sniper_pairs_do_not_shut_out_limit_orders(desk: Desk, quotes_per_tick: int) -> None:
    # given: sniper pairs enough for every quote of every tick
    ticks = count()
    desk.raydium.price = desk.meteora.price = None
    for token in ("SOL", "USDC", "BTC", "ETH"):
        desk.sniper(token_in=token)
    desk.raydium.price = desk.meteora.price = Decimal(100)
    limit = desk.limit()
    desk.move_price(200)

    for _ in range(2):
        desk.watch(quotes_per_tick=quotes_per_tick, rotation=ticks.__next__).tick()

    assert desk.status(limit) == "triggered"


def test_venue_that_is_down_does_not_stop_the_other(desk: Desk) -> None:
    order = desk.limit()
    desk.move_price(200)
    desk.raydium.is_down = True

    desk.watch().tick()

    assert desk.status(order) == "triggered"


def test_past_expiry_expires_and_is_not_released(
    desk: Desk, database: psycopg.Connection[Any]
) -> None:
    order = desk.limit()
    desk.move_price(200)
    desk.orders.amend(
        order.order_id, Amendment(expires_at=datetime.now(UTC) - timedelta(seconds=1))
    )

    report = desk.watch().tick()

    assert (report.expired, report.released) == (1, 0)
    assert desk.status(order) == "expired"


def test_canceled_at_rest_stays_canceled(desk: Desk) -> None:
    order = desk.limit()
    desk.executions.names.append(order.execution)
    Cancellation(moves_of(desk.orders, desk.stream, desk.executions), desk.executions).cancel(
        order.order_id
    )
    desk.move_price(200)

    desk.watch().tick()

    assert desk.status(order) == "canceled"


def test_order_whose_limit_is_not_met_any_more_rests_again_and_pauses(desk: Desk) -> None:
    order = desk.limit(limit_price=Decimal(110))
    desk.move_price(111)
    desk.watch().tick()
    lifecycle = lifecycle_of(desk.orders, desk.stream)
    execution = f"{order.order_id}-1"
    routed = lifecycle.route(order.order_id, execution, None)
    desk.move_price(109)
    quote = desk.raydium.quote(ONE_SOL)

    assert routed.order is not None
    step = lifecycle.decide(order.execution_terms, execution, routed.order.attempt, [quote])

    assert step.answer.outcome == "resting"
    assert desk.status(order) == "open"
    desk.move_price(111)
    assert desk.watch().tick().released == 0


def test_limit_bounds_the_fill_when_it_is_stricter_than_the_slippage(desk: Desk) -> None:
    order = desk.limit(limit_price=Decimal("99.9"), slippage_bps=1000)
    lifecycle = lifecycle_of(desk.orders, desk.stream)
    lifecycle.route(order.order_id, order.execution, None)

    step = lifecycle.decide(
        order.execution_terms, order.execution, 1, [desk.raydium.quote(ONE_SOL)]
    )

    assert isinstance(step.answer, Building)
    assert step.answer.min_amount_out == Decimal("99.9")


def test_sniper_rests_until_its_pool_opens_and_fires_once(desk: Desk) -> None:
    desk.raydium.price = desk.meteora.price = None
    order = desk.sniper()
    before = desk.watch().tick().released
    desk.raydium.price = Decimal(1000)

    for _ in range(3):
        desk.watch().pool_created("MOON")

    assert before == 0
    assert desk.started(order) == [f"{order.order_id}-1"]


@pytest.mark.parametrize(
    ("trigger", "fires"),
    [
        (SniperTrigger(venue="raydium"), True),
        (SniperTrigger(venue="meteora"), False),
        (SniperTrigger(min_liquidity=Decimal(1000)), True),
        (SniperTrigger(min_liquidity=Decimal(1001)), False),
        (SniperTrigger(max_price=Decimal("0.001")), True),
        (SniperTrigger(max_price=Decimal("0.0009")), False),
    ],
)
def test_sniper_fires_only_within_its_bounds(
    desk: Desk, trigger: SniperTrigger, fires: bool
) -> None:
    desk.raydium.price = desk.meteora.price = None
    order = desk.sniper(trigger=trigger)
    # 1,000 MOON per SOL, and a pool worth 1,000 SOL.
    desk.raydium.price, desk.raydium.liquidity = Decimal(1000), Decimal(1_000_000)

    desk.watch().tick()

    assert bool(desk.started(order)) is fires


def test_sniper_of_an_open_pool_is_rejected(desk: Desk) -> None:
    desk.move_price(1000)

    with pytest.raises(Rejected) as rejection:
        desk.sniper()

    assert rejection.value.code == "POOL_ALREADY_OPEN"


def test_sniper_that_allows_existing_pools_fires_at_once(desk: Desk) -> None:
    desk.move_price(1000)

    order = desk.sniper(trigger=SniperTrigger(allow_existing=True))

    assert desk.started(order) == [order.order_id]


@pytest.mark.parametrize(
    ("bounds", "starts"),
    [
        ({"min_liquidity": Decimal(1000)}, True),
        ({"min_liquidity": Decimal(1001)}, False),
        ({"max_price": Decimal("0.001")}, True),
        ({"max_price": Decimal("0.0009")}, False),
    ],
)
def test_sniper_that_allows_existing_pools_still_wants_its_bounds(
    desk: Desk, bounds: dict[str, Decimal], starts: bool
) -> None:
    # 1,000 MOON per SOL, and pools worth 1,000 SOL.
    desk.move_price(1000)

    order = desk.sniper(trigger=SniperTrigger(allow_existing=True, **bounds))

    assert bool(desk.started(order)) is starts
    assert desk.status(order) == ("pending" if starts else "open")


def test_amend_changes_the_terms_of_an_order_at_rest_only(desk: Desk) -> None:
    order = desk.limit()
    amended, changed = desk.orders.amend(order.order_id, Amendment(limit_price=Decimal(300)))
    desk.move_price(400)
    desk.watch().tick()

    _, changed_later = desk.orders.amend(order.order_id, Amendment(limit_price=Decimal(500)))

    assert amended is not None
    assert amended.limit_price == 300
    assert (changed, changed_later) == (True, False)


def test_sniper_bound_to_a_venue_fills_nowhere_else(desk: Desk) -> None:
    order = desk.sniper(trigger=SniperTrigger(venue="meteora", allow_existing=True))
    lifecycle = lifecycle_of(desk.orders, desk.stream)
    lifecycle.route(order.order_id, order.execution, None)

    step = lifecycle.decide(
        order.execution_terms, order.execution, 1, [desk.raydium.quote(ONE_SOL)]
    )

    assert step.answer.outcome == "resting"


def test_sniper_does_not_fill_in_a_pool_that_is_too_small(desk: Desk) -> None:
    trigger = SniperTrigger(min_liquidity=Decimal(10_001), allow_existing=True)
    desk.raydium.liquidity = desk.meteora.liquidity = Decimal(2_000_000)
    order = desk.sniper(trigger=trigger)
    lifecycle = lifecycle_of(desk.orders, desk.stream)
    lifecycle.route(order.order_id, order.execution, None)
    # At 100 per SOL, a pool of 1,000,000 is worth 10,000 SOL.
    desk.raydium.liquidity = Decimal(1_000_000)

    step = lifecycle.decide(
        order.execution_terms, order.execution, 1, [desk.raydium.quote(ONE_SOL)]
    )

    assert step.answer.outcome == "resting"


def test_limit_order_whose_swaps_revert_goes_on_past_its_retries(desk: Desk) -> None:
    order = desk.limit(limit_price=Decimal(90), max_retries=0)
    terms, execution = order.execution_terms, order.execution
    lifecycle = lifecycle_of(desk.orders, desk.stream)
    lifecycle.route(order.order_id, execution, None)
    lifecycle.decide(terms, execution, 1, [desk.raydium.quote(ONE_SOL)])
    transaction = SwapTransaction(
        signature=f"s-{uuid.uuid4()}", payload="", last_valid_block_height=1, venue="raydium"
    )
    lifecycle.submit(terms, execution, 1, Built(transaction=transaction))

    reverted = Reverted(code=FailureCode.SLIPPAGE_EXCEEDED, detail="moved away")
    lifecycle.attempt_failed(terms, execution, 1, reverted)
    step = lifecycle.route(order.order_id, execution, 1)

    assert (step.answer.outcome, getattr(step.answer, "attempt", None)) == ("routing", 2)
