"""Limit and sniper orders on a moving market that the test can foresee."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from itertools import pairwise
from typing import Any

import pytest
from tests.e2e.engine import HAPPY_LIFE, Engine, Json, new_user, statuses, wait_until
from tests.e2e.stacks import PROFILE, own_stack

from local import aws
from local.launch import launch, pool_created
from local.stack import Stack
from order_engine.domain.money import from_base_units, price_of, to_base_units
from order_engine.domain.statuses import FINAL_STATUSES
from order_engine.domain.tokens import TOKENS
from order_engine.venues.mock.market import Market
from order_engine.venues.mock.settings import MockSettings
from order_engine.venues.registry import venue_names

TICK_SECONDS = 2
PLANNED_LAUNCH = timedelta(seconds=90)
SECONDS = 60.0
SNIPER_SECONDS = 2.0
"""From the pool's event to `triggered`, for 95 of 100 sniper orders."""

AMOUNTS: Mapping[str, str] = {
    "SOL": "1", "ETH": "0.1", "BTC": "0.01", "JUP": "200", "RAY": "60", "USDC": "150",
}  # fmt: skip
PAIRS = [
    pair
    for token in ("SOL", "ETH", "BTC", "JUP", "RAY")
    for pair in ((token, "USDC"), ("USDC", token))
]
UNREACHABLE = "1000000000"


@dataclass(frozen=True)
class Path:
    """The better venue's net price for the pair's amount, from now on."""

    token_in: str
    token_out: str
    prices: Sequence[Decimal]
    step_seconds: float

    @property
    def amount_in(self) -> str:
        return AMOUNTS[self.token_in]

    def between(self, start_seconds: float, end_seconds: float) -> Sequence[Decimal]:
        first, last = (math.ceil(t / self.step_seconds) for t in (start_seconds, end_seconds))
        return self.prices[first:last]


@dataclass(frozen=True)
class Foresight:
    """The seeded market, computed ahead."""

    market: Market
    slot_ms: int

    def paths(self, seconds: float, stride: int) -> Iterator[Path]:
        for token_in, token_out in PAIRS:
            yield self._path(token_in, token_out, seconds, stride)

    def _path(self, token_in: str, token_out: str, seconds: float, stride: int) -> Path:
        start = self.market.slot_at(datetime.now(UTC))
        slots = range(start, start + int(seconds * 1000) // self.slot_ms, stride)
        amount_in = Decimal(AMOUNTS[token_in])
        units = to_base_units(amount_in, TOKENS[token_in].decimals)
        prices = [
            price_of(
                from_base_units(
                    max(
                        self.market.swap(token_in, token_out, units, venue, slot).amount_out
                        for venue in venue_names()
                    ),
                    TOKENS[token_out].decimals,
                ),
                amount_in,
            )
            for slot in slots
        ]
        return Path(token_in, token_out, prices, stride * self.slot_ms / 1000)

    def crossing(self) -> tuple[Path, Decimal]:
        """Find a limit above the market for some seconds, and mostly below it for a minute then."""
        candidates = []
        for path in self.paths(75, stride=5):
            for start in range(10, 22, 2):
                limit = max(path.between(0, start)) * Decimal("1.0005")
                later = path.between(start, 75)
                met = sum(price >= limit for price in later) / len(later)
                candidates.append((met, path, limit))
        _, path, limit = max(candidates, key=lambda candidate: candidate[0])
        return path, limit

    def flickering(self, count: int) -> list[tuple[Path, Decimal]]:
        """Find limits that prices cross most often while they are mostly short of them."""
        found = []
        for path in self.paths(40, stride=2):
            ranked = sorted(path.prices)
            for share in (0.6, 0.7, 0.8):
                limit = ranked[int(share * len(ranked))]
                above = [price >= limit for price in path.prices]
                crossings = sum(a != b for a, b in pairwise(above))
                if not any(above[: int(3 / path.step_seconds)]):
                    found.append((crossings, path, limit))
        found.sort(key=lambda candidate: candidate[0], reverse=True)
        return [(path, limit) for _, path, limit in found[:count]]


@pytest.fixture(scope="module")
def stack() -> Iterator[Stack]:
    planned = {"WIF": (datetime.now(UTC) + PLANNED_LAUNCH).isoformat()}
    profile = {
        **PROFILE,
        "TickSeconds": str(TICK_SECONDS),
        "MockLaunches": json.dumps(planned),
    }
    with own_stack("resting", parameters=profile) as stack:
        yield stack


@pytest.fixture(scope="module")
def engine(stack: Stack) -> Iterator[Engine]:
    """The stack's engine; its first minute of ticks begins now, the schedule starts the next."""
    engine = Engine(stack)
    watch = aws.physical_ids(stack.emulator_url, stack.stack_name)["WatchStateMachine"]
    aws.client("stepfunctions", stack.emulator_url).start_execution(stateMachineArn=watch)
    yield engine
    engine.close()


@pytest.fixture(scope="module")
def foresight(stack: Stack) -> Foresight:
    settings = MockSettings(
        seed=int(stack.parameters["MockSeed"]),
        volatility=stack.parameters["MockVolatility"],
        slot_ms=int(stack.parameters["MockSlotMs"]),
    )
    return Foresight(Market.of(settings), settings.slot_ms)


def price(value: Decimal) -> str:
    return f"{value:.12f}"


def in_seconds(seconds: float) -> str:
    return (datetime.now(UTC) + timedelta(seconds=seconds)).isoformat()


def limit_order(path: Path | None = None, **fields: Any) -> Json:
    return {
        "userId": new_user(),
        "type": "limit",
        "tokenIn": path.token_in if path else "SOL",
        "tokenOut": path.token_out if path else "USDC",
        "amountIn": path.amount_in if path else "1",
        "slippageTolerance": "0.05",
        "limitPrice": UNREACHABLE,
        "expiresAt": in_seconds(600),
        **fields,
    }


def sniper_order(token: str, *, trigger: Json | None = None, **fields: Any) -> Json:
    return {
        "userId": new_user(),
        "type": "sniper",
        "tokenIn": "SOL",
        "tokenOut": token,
        "amountIn": "0.5",
        "expiresAt": in_seconds(600),
        "trigger": trigger or {},
        **fields,
    }


def resting(engine: Engine, body: Json) -> str:
    order = engine.place(body)
    assert order["status"] == "open", order
    order_id: str = order["orderId"]
    return order_id


def final(engine: Engine, order_id: str, seconds: float = SECONDS) -> Json:
    wait_until(
        lambda: engine.order_row(order_id)["status"] in FINAL_STATUSES,
        seconds=seconds,
        what=f"order {order_id} final",
    )
    return engine.order(order_id)


def assert_within_limit(order: Json) -> None:
    assert Decimal(order["executedPrice"]) >= Decimal(order["limitPrice"])
    assert Decimal(order["amountOut"]) >= Decimal(order["minAmountOut"])


# Limit orders. Those that only have to wait are placed together, and each test looks at one.


@pytest.fixture(scope="module")
def placed(engine: Engine, foresight: Foresight) -> dict[str, str]:
    planned = resting(engine, sniper_order("WIF"))
    # A landing below the limit is a retry; only its price may decide what becomes of the order.
    path, limit = foresight.crossing()
    crossing = resting(engine, limit_order(path, limitPrice=price(limit), maxRetries=10))
    flickering = [
        engine.place(limit_order(path, limitPrice=price(limit), maxRetries=10))["orderId"]
        for path, limit in foresight.flickering(6)
    ]
    return {
        "planned": planned,
        "crossing": crossing,
        "expiring": resting(engine, limit_order(expiresAt=in_seconds(4))),
        **{f"flickering-{number}": order_id for number, order_id in enumerate(flickering)},
    }


def test_limit_above_the_market_fills_at_its_limit_or_better_once_the_price_has_crossed(
    engine: Engine, placed: dict[str, str]
) -> None:
    order = final(engine, placed["crossing"])

    assert order["status"] == "confirmed"
    assert statuses(order["events"])[:4] == ["pending", "open", "triggered", "routing"]
    assert_within_limit(order)
    assert len(engine.landed(order["orderId"])) == 1


def test_limit_that_is_not_reached_in_time_expires(engine: Engine, placed: dict[str, str]) -> None:
    order = final(engine, placed["expiring"])

    assert statuses(order["events"]) == ["pending", "open", "expired"]
    assert order["milestones"]["expired"] >= order["expiresAt"]
    assert engine.executions(order["orderId"]) == []


def test_order_at_rest_can_be_canceled_and_stays_so(engine: Engine) -> None:
    order_id = resting(engine, limit_order())
    with engine.listening(orderId=order_id) as listener:
        response = engine.http.delete(f"api/orders/{order_id}")
        events = listener.events_until_final(order_id)

    assert (response.status_code, response.json()["status"]) == (200, "canceled")
    assert statuses(events) == ["pending", "open", "canceled"]
    amended = engine.http.patch(f"api/orders/{order_id}", json={"limitPrice": "1"})
    assert (amended.status_code, amended.json()["code"]) == (409, "ORDER_NOT_AMENDABLE")


def test_amended_limit_is_what_the_order_fills_at(engine: Engine) -> None:
    order_id = resting(engine, limit_order())

    response = engine.http.patch(f"api/orders/{order_id}", json={"limitPrice": "50"})
    order = final(engine, order_id)

    assert (response.status_code, response.json()["limitPrice"]) == (200, "50")
    assert statuses(order["events"]) == ["pending", "open", "triggered", *HAPPY_LIFE[1:]]
    assert order["limitPrice"] == "50"
    assert_within_limit(order)


def test_marketable_limit_executes_at_once_and_warns(engine: Engine) -> None:
    reply = engine.place(limit_order(limitPrice="50"))
    order = final(engine, reply["orderId"])

    assert "marketable" in reply["warnings"][0]
    assert statuses(order["events"]) == HAPPY_LIFE
    assert_within_limit(order)


def test_orders_at_rest_are_listed_as_open(engine: Engine) -> None:
    user = new_user()
    limit = resting(engine, limit_order(userId=user))
    sniper = resting(engine, sniper_order("PEPE", userId=user, trigger={"venue": "meteora"}))
    canceled = resting(engine, limit_order(userId=user))
    engine.http.delete(f"api/orders/{canceled}")

    listed = engine.http.get("api/orders", params={"status": "open", "userId": user}).json()

    assert [order["orderId"] for order in listed["orders"]] == [sniper, limit]
    for order_id in (limit, sniper):
        engine.http.delete(f"api/orders/{order_id}")


# Sniper orders


@dataclass(frozen=True)
class Sniped:
    """What became of the sniper orders of one pool event, delivered three times."""

    fired: list[Json]
    waited: list[Json]
    seconds: list[float]
    live: list[Json]


@pytest.fixture(scope="module")
def snipe(engine: Engine, stack: Stack, placed: dict[str, str]) -> Callable[..., Sniped]:
    def put(token: str, venue: str, times: int) -> datetime:
        put_at = datetime.now(UTC)
        events = aws.client("events", stack.emulator_url)
        answer = events.put_events(Entries=[pool_created(token, venue)] * times)
        assert answer["FailedEntryCount"] == 0
        return put_at

    def snipe(token: str, venue: str, fires: Sequence[Json], waits: Sequence[Json]) -> Sniped:
        firing = [resting(engine, sniper_order(token, **fields)) for fields in fires]
        waiting = [resting(engine, sniper_order(token, **fields)) for fields in waits]
        with engine.listening(orderId=firing[0]) as listener:
            put_at = put(token, venue, times=3)
            fired = [final(engine, order_id) for order_id in firing]
            live = listener.events_until_final(firing[0])
        put(token, venue, times=1)
        seconds = [
            (datetime.fromisoformat(order["milestones"]["triggered"]) - put_at).total_seconds()
            for order in fired
        ]
        return Sniped(fired, [engine.order(order_id) for order_id in waiting], seconds, live)

    return snipe


@pytest.fixture(scope="module")
def moon_at_raydium(snipe: Callable[..., Sniped]) -> Sniped:
    within = {"minLiquidity": "100", "maxPrice": "0.0002", "venue": "raydium"}
    return snipe(
        "MOON",
        "raydium",
        fires=[{}, {"trigger": within}, {}, {}, {}, {}],
        waits=[
            {"trigger": {"minLiquidity": "100000"}},
            {"trigger": {"maxPrice": "0.00001"}},
            {"trigger": {"venue": "meteora"}},
        ],
    )


@pytest.fixture(scope="module")
def pepe_at_meteora(snipe: Callable[..., Sniped]) -> Sniped:
    return snipe("PEPE", "meteora", fires=[{}, {}, {}, {}, {}], waits=[])


def test_pool_that_opens_fires_the_snipers_within_two_seconds(
    moon_at_raydium: Sniped, pepe_at_meteora: Sniped, record_property: Callable[..., None]
) -> None:
    seconds = sorted(moon_at_raydium.seconds + pepe_at_meteora.seconds)

    record_property("seconds_from_event_to_triggered", seconds)
    print(f"from event to triggered: {seconds}")
    assert len(seconds) == 11
    assert seconds[math.ceil(0.95 * len(seconds)) - 1] <= SNIPER_SECONDS


def test_sniper_swaps_once_however_often_its_event_is_delivered(
    engine: Engine, moon_at_raydium: Sniped, pepe_at_meteora: Sniped
) -> None:
    for order in moon_at_raydium.fired + pepe_at_meteora.fired:
        stored = engine.order(order["orderId"])
        assert statuses(stored["events"]).count("triggered") == 1
        assert stored["status"] == "confirmed"
        assert len(engine.landed(order["orderId"])) == 1


def test_sniper_fills_at_the_venue_whose_pool_opened(
    moon_at_raydium: Sniped, pepe_at_meteora: Sniped
) -> None:
    assert {order["chosenDex"] for order in moon_at_raydium.fired} == {"raydium"}
    assert {order["chosenDex"] for order in pepe_at_meteora.fired} == {"meteora"}


def test_sniper_pays_no_more_than_its_highest_price(moon_at_raydium: Sniped) -> None:
    order = moon_at_raydium.fired[1]

    paid = Decimal(order["amountIn"]) / Decimal(order["amountOut"])

    assert paid <= Decimal(order["trigger"]["maxPrice"])


def test_pool_that_is_too_small_too_dear_or_elsewhere_leaves_the_sniper_at_rest(
    engine: Engine, moon_at_raydium: Sniped
) -> None:
    for order in moon_at_raydium.waited:
        assert engine.order(order["orderId"])["status"] == "open", order["trigger"]


def test_launch_of_the_laptop_opens_the_pool_that_a_sniper_waits_for(
    engine: Engine, stack: Stack, moon_at_raydium: Sniped
) -> None:
    elsewhere = moon_at_raydium.waited[2]

    (pool,) = launch(stack, "moon", venues=["meteora"])
    (again,) = launch(stack, "moon", venues=["meteora"], opens_in_seconds=3600)

    assert (pool.was_known, again.was_known) == (False, True)
    assert again.opens_at == pool.opens_at
    assert final(engine, elsewhere["orderId"])["status"] == "confirmed"


def test_snipers_life_is_told_live_and_again_to_who_comes_late(
    engine: Engine, moon_at_raydium: Sniped
) -> None:
    order_id = moon_at_raydium.fired[0]["orderId"]
    with engine.listening(orderId=order_id) as listener:
        replayed = listener.events_until_final(order_id)

    assert statuses(replayed) == ["pending", "open", "triggered", *HAPPY_LIFE[1:]]
    assert replayed == first_occurrences(moon_at_raydium.live)


def test_sniper_of_a_pool_that_is_open_is_refused_unless_it_says_otherwise(
    engine: Engine, moon_at_raydium: Sniped
) -> None:
    refused = engine.http.post("api/orders/execute", json=sniper_order("MOON"))
    allowed = engine.place(sniper_order("MOON", trigger={"allowExisting": True}))

    assert (refused.status_code, refused.json()["code"]) == (422, "POOL_ALREADY_OPEN")
    assert final(engine, allowed["orderId"])["status"] == "confirmed"


# What takes longest comes last


def test_limit_around_which_the_price_flickers_goes_back_to_rest_and_never_fills_worse(
    engine: Engine, placed: dict[str, str]
) -> None:
    flickering = [placed[name] for name in placed if name.startswith("flickering")]

    def went_back() -> list[Json]:
        orders = [engine.order(order_id) for order_id in flickering]
        return [order for order in orders if "routing-open" in "-".join(statuses(order["events"]))]

    (order, *_) = wait_until(went_back, seconds=SECONDS, what="a limit met, and missed again")
    events = order["events"]
    back = next(
        event
        for event in events
        if (event.get("previousStatus"), event["status"]) == ("routing", "open")
    )
    assert back["failure"]["code"] == "LIMIT_NOT_MET"
    assert back["attempt"] >= 1
    for order_id in flickering:
        engine.http.delete(f"api/orders/{order_id}")
    for order in [final(engine, order_id) for order_id in flickering]:
        assert order["status"] in ("confirmed", "canceled")
        if order["status"] == "confirmed":
            assert_within_limit(order)
        with engine.listening(orderId=order["orderId"]) as listener:
            told = listener.events_until_final(order["orderId"])
        assert statuses(told) == statuses(order["events"])


def test_planned_launch_fires_its_sniper_without_any_event(
    engine: Engine, placed: dict[str, str]
) -> None:
    order = final(engine, placed["planned"], seconds=PLANNED_LAUNCH.total_seconds() + SECONDS)

    assert order["status"] == "confirmed"
    assert len(engine.landed(order["orderId"])) == 1


def first_occurrences(events: Sequence[Json]) -> list[Json]:
    seen: dict[int, Json] = {}
    for event in events:
        seen.setdefault(event["seq"], event)
    return list(seen.values())
