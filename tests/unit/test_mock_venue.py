import base64
import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.support.json_venue import JsonVenue

from order_engine.domain.orders import Quote, SwapTransaction, VenueName
from order_engine.errors import VenueTimeout, VenueUnavailable
from order_engine.venues.contract import Venue
from order_engine.venues.mock.ledger import Fate, InMemoryLedger, LedgerRow
from order_engine.venues.mock.settings import MockSettings
from order_engine.venues.mock.venue import MockVenue
from order_engine.venues.registry import venue_names

VENUES = venue_names()
NOON = datetime(2026, 11, 21, 12, tzinfo=UTC)


class ManualClock:
    """Show the time that the test sets; sleeping moves it on."""

    def __init__(self) -> None:
        self.time = NOON
        self.slept: list[float] = []

    def now(self) -> datetime:
        return self.time

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.time += timedelta(seconds=seconds)

    def pass_slots(self, slots: int) -> None:
        self.time += timedelta(milliseconds=400 * slots)


class World:
    """Hold both venues on one ledger and one clock."""

    def __init__(self, **overrides: Any) -> None:
        profile: dict[str, Any] = {
            "quote_latency_ms": 0,
            "build_latency_ms": 0,
            "send_latency_ms": 0,
            "check_latency_ms": 0,
            "scripted_fates": True,
        }
        self.settings = MockSettings(**profile | overrides)
        self.clock = ManualClock()
        self.ledger = InMemoryLedger()

    def venue(self, name: VenueName = "raydium") -> JsonVenue:
        return JsonVenue(
            MockVenue(
                name, self.settings, clock=self.clock, sleep=self.clock.sleep, ledger=self.ledger
            )
        )


def order(client_order_id: str | None = None, attempt: int = 1, **fields: Any) -> dict[str, Any]:
    return {
        "orderId": "7b3c0d6e-52a1-4f0e-9a5e-0c2f8d1b4a77",
        "clientOrderId": client_order_id,
        "attempt": attempt,
        "tokenIn": "SOL",
        "tokenOut": "USDC",
        "amountIn": "1.5",
        "minAmountOut": "1",
    } | fields


def build(venue: JsonVenue, request: dict[str, Any]) -> dict[str, Any]:
    """Return ``request`` with the transaction that the venue built for it."""
    answer = venue.build(request | {"action": "build"})
    assert answer["outcome"] == "built"
    return request | {"transaction": answer["transaction"]}


def check_until_settled(world: World, venue: JsonVenue, request: dict[str, Any]) -> dict[str, Any]:
    """Check as the state machine does: wait what the venue says, then ask again."""
    for _ in range(100):
        answer = venue.check(request)
        if answer["outcome"] not in ("pending", "unseen"):
            return answer
        world.clock.sleep(answer["checkAfterSeconds"])
    raise AssertionError("never settled")


def test_mock_venue_is_a_venue() -> None:
    venue: Venue = World().venue().venue

    assert venue is not None


@pytest.mark.parametrize("name", VENUES)
def test_quote_answers_what_an_order_stores(name: VenueName) -> None:
    answer = World().venue(name).quote(order())

    assert answer["outcome"] == "quoted"
    assert all(isinstance(v, str) for k, v in answer["quote"].items() if k != "slot")
    quote = Quote.model_validate(answer["quote"])
    assert quote.dex == name
    assert abs(quote.price * Decimal("1.5") - quote.amount_out) < Decimal("0.000001")
    assert Decimal(200) < quote.amount_out < Decimal(250)
    assert Decimal("0.05") < quote.fee_pct < Decimal("0.5")
    assert Decimal(0) <= quote.price_impact_pct < Decimal("0.1")
    assert quote.liquidity > 1_000_000


def test_quote_needs_no_order_and_no_ledger() -> None:
    world = World(faults={"venue_down": 1.0})
    venue = JsonVenue(
        MockVenue("raydium", world.settings, clock=world.clock, sleep=world.clock.sleep)
    )
    request = {"tokenIn": "SOL", "tokenOut": "USDC", "amountIn": "1"}

    assert venue.quote(request)["outcome"] == "quoted"


def test_venue_without_a_ledger_cannot_send() -> None:
    world = World()
    venue = JsonVenue(
        MockVenue("raydium", world.settings, clock=world.clock, sleep=world.clock.sleep)
    )

    with pytest.raises(ValueError, match="ledger"):
        venue.send(build(venue, order()))


@pytest.mark.parametrize(("token_in", "token_out"), [("SOL", "MOON"), ("MOON", "USDC")])
def test_token_without_a_pool_has_no_route(token_in: str, token_out: str) -> None:
    request = order(tokenIn=token_in, tokenOut=token_out)

    for name in VENUES:
        assert World().venue(name).quote(request)["outcome"] == "no_route"
        assert World().venue(name).build(request)["outcome"] == "no_route"


def test_order_that_the_bins_cannot_fill_has_insufficient_liquidity() -> None:
    venue = World().venue("meteora")

    assert venue.quote(order(amountIn="100000"))["outcome"] == "insufficient_liquidity"
    assert venue.build(order(amountIn="100000"))["outcome"] == "insufficient_liquidity"


def test_order_that_buys_nothing_has_insufficient_liquidity() -> None:
    answer = World().venue().quote(order(amountIn="0.000000001"))

    assert answer["outcome"] == "insufficient_liquidity"
    assert "less than one base unit" in answer["detail"]


@pytest.mark.parametrize("field", ["amountIn", "minAmountOut"])
def test_amount_with_more_decimals_than_the_token_is_an_error(field: str) -> None:
    with pytest.raises(ValueError, match="decimals"):
        World().venue().build(order() | {field: "1.0000000001"})


def test_each_step_takes_its_latency() -> None:
    world = World(
        quote_latency_ms=200, build_latency_ms=50, send_latency_ms=40, check_latency_ms=20
    )
    venue = world.venue()

    venue.quote(order())
    request = build(venue, order())
    venue.send(request)
    venue.check(request)

    assert world.clock.slept == [0.2, 0.05, 0.04, 0.02]


def test_built_transaction_is_valid_for_150_blocks_and_carries_a_64_byte_signature() -> None:
    world = World()
    transaction = SwapTransaction.model_validate(build(world.venue(), order())["transaction"])

    slot = int(NOON.timestamp() * 1000) // 400
    assert transaction.last_valid_block_height == slot + 150
    assert 80 <= len(transaction.signature) <= 88
    assert not set(transaction.signature) & set("0OIl+/=")


def test_build_in_the_same_slot_gives_the_same_transaction_and_later_another() -> None:
    world = World()
    first = build(world.venue(), order())["transaction"]
    same = build(world.venue(), order())["transaction"]
    other_attempt = build(world.venue(), order(attempt=2))["transaction"]
    world.clock.pass_slots(1)
    later = build(world.venue(), order())["transaction"]

    assert first == same
    assert len({t["signature"] for t in (first, other_attempt, later)}) == 3


def test_sent_transaction_lands_at_the_price_of_its_landing_slot() -> None:
    world = World(landing_ms=800, volatility="wild")
    venue = world.venue()
    request = build(venue, order())

    sent = venue.send(request)
    pending = venue.check(request)
    world.clock.pass_slots(2)
    landed = venue.check(request)
    quoted_then = venue.quote(order())["quote"]

    assert sent == {"outcome": "sent", "checkAfterSeconds": 1}
    assert pending == {"outcome": "pending", "checkAfterSeconds": 1}
    assert landed["outcome"] == "landed"
    assert landed["amountOut"] == quoted_then["amountOut"]
    assert landed["slot"] == quoted_then["slot"]


def test_check_is_worthwhile_once_the_landing_is_due() -> None:
    world = World(landing_ms=2_000)
    venue = world.venue()
    request = build(venue, order())

    answer = venue.send(request)
    world.clock.sleep(answer["checkAfterSeconds"])

    assert answer["checkAfterSeconds"] == 2
    assert venue.check(request)["outcome"] == "landed"


def test_output_below_the_minimum_reverts() -> None:
    world = World()
    venue = world.venue()
    request = build(venue, order(minAmountOut="250"))

    venue.send(request)
    answer = check_until_settled(world, venue, request)

    assert answer["outcome"] == "reverted"
    assert answer["code"] == "SLIPPAGE_EXCEEDED"
    assert "below the minimum 250 USDC" in answer["detail"]
    assert json.dumps(answer)


def test_output_of_exactly_the_minimum_lands() -> None:
    world = World(volatility="still")
    venue = world.venue()
    minimum = venue.quote(order())["quote"]["amountOut"]
    request = build(venue, order(minAmountOut=minimum))

    venue.send(request)

    assert check_until_settled(world, venue, request)["amountOut"] == minimum


def test_one_base_unit_above_the_output_reverts() -> None:
    world = World(volatility="still")
    venue = world.venue()
    output = Decimal(venue.quote(order())["quote"]["amountOut"])
    request = build(venue, order(minAmountOut=str(output + Decimal("0.000001"))))

    venue.send(request)

    assert check_until_settled(world, venue, request)["outcome"] == "reverted"


def test_repeated_sends_write_one_row_and_change_nothing() -> None:
    world = World(volatility="wild")
    venue = world.venue()
    request = build(venue, order())

    venue.send(request)
    first = world.ledger.rows()
    world.clock.pass_slots(7)
    venue.send(request)

    assert world.ledger.rows() == first
    assert len(first) == 1


def test_parallel_sends_and_checks_agree_on_one_result() -> None:
    world = World(landing_ms=0)
    request = build(world.venue(), order())

    def send_and_check(_: int) -> str:
        venue = world.venue()
        venue.send(request)
        return json.dumps(venue.check(request))

    with ThreadPoolExecutor(8) as pool:
        answers = set(pool.map(send_and_check, range(40)))

    assert len(answers) == 1
    assert len(world.ledger.rows()) == 1


def test_row_tells_order_attempt_and_result() -> None:
    world = World()
    venue = world.venue("meteora")
    request = build(venue, order(attempt=3, minAmountOut="2"))
    venue.send(request)
    landed = check_until_settled(world, venue, request)

    (row,) = world.ledger.rows()
    slot = int(NOON.timestamp() * 1000) // 400
    assert row == LedgerRow(
        signature=request["transaction"]["signature"],
        order_id=request["orderId"],
        attempt=3,
        venue="meteora",
        min_amount_out="2",
        last_valid_block_height=slot + 150,
        fate=Fate.LANDED,
        sent_slot=slot,
        landing_slot=slot + 2,
        amount_out=landed["amountOut"],
    )


def test_never_sent_transaction_is_unseen_through_its_last_block_then_expired() -> None:
    world = World()
    venue = world.venue()
    request = build(venue, order())

    world.clock.pass_slots(150)
    last = venue.check(request)
    world.clock.pass_slots(1)

    assert last["outcome"] == "unseen"
    assert venue.check(request) == {"outcome": "expired"}


def test_check_in_the_last_block_leaves_the_transaction_free_to_land() -> None:
    world = World(landing_ms=0)
    venue = world.venue()
    request = build(venue, order())
    world.clock.pass_slots(150)

    venue.check(request)
    venue.send(request)

    assert venue.check(request)["outcome"] == "landed"


def test_send_after_expiry_never_lands() -> None:
    world = World()
    venue = world.venue()
    request = build(venue, order())
    world.clock.pass_slots(151)

    assert venue.send(request)["outcome"] == "sent"
    world.clock.pass_slots(10)

    assert venue.check(request) == {"outcome": "expired"}
    assert [row.fate for row in world.ledger.rows()] == [Fate.EXPIRED]


def test_send_that_would_land_after_the_last_block_expires() -> None:
    world = World(landing_ms=800)
    venue = world.venue()
    request = build(venue, order())
    world.clock.pass_slots(149)
    venue.send(request)

    world.clock.pass_slots(1)
    assert venue.check(request)["outcome"] == "pending"
    world.clock.pass_slots(1)
    assert venue.check(request)["outcome"] == "expired"


def test_send_under_way_while_the_check_says_expired_cannot_land() -> None:
    # A slow process reads its clock before the expiry and writes to the ledger after it.
    world = World()
    request = build(world.venue(), order())

    class SlowLedger(InMemoryLedger):
        def put_if_absent(self, row: LedgerRow) -> LedgerRow | None:
            world.clock.pass_slots(200)
            assert world.venue().check(request) == {"outcome": "expired"}
            return world.ledger.put_if_absent(row)

    slow = JsonVenue(
        MockVenue(
            "raydium",
            world.settings,
            clock=world.clock,
            sleep=world.clock.sleep,
            ledger=SlowLedger(),
        )
    )
    slow.send(request)

    assert world.venue().check(request) == {"outcome": "expired"}
    assert [row.fate for row in world.ledger.rows()] == [Fate.EXPIRED]


def test_check_interval_grows_while_nothing_is_known() -> None:
    world = World()
    venue = world.venue()
    request = build(venue, order("dropped_until_expiry-1"))
    venue.send(request)

    intervals = []
    while (answer := venue.check(request))["outcome"] == "pending":
        intervals.append(answer["checkAfterSeconds"])
        world.clock.sleep(intervals[-1])

    assert intervals[0] == 1
    assert max(intervals) == 5
    assert len(intervals) < 20
    assert answer == {"outcome": "expired"}
    assert sum(intervals) <= 62  # 150 blocks of 400 ms, and not much later


def test_quote_timeout_raises_on_quotes_only() -> None:
    world = World()
    request = order("quote_timeout-1")

    with pytest.raises(VenueTimeout):
        world.venue().quote(request)
    assert build(world.venue(), request)


def test_venue_that_is_down_raises_on_every_call_and_the_other_does_not() -> None:
    world = World()
    request = order("venue_down@raydium-1")
    sent = build(world.venue("meteora"), request)
    down = world.venue("raydium")
    stuck = build(World(scripted_fates=False).venue(), request)

    calls: list[Callable[[], object]] = [
        lambda: down.quote(request),
        lambda: down.build(request),
        lambda: down.send(stuck),
        lambda: down.check(stuck),
    ]
    for call in calls:
        with pytest.raises(VenueUnavailable):
            call()
    assert world.venue("meteora").send(sent)["outcome"] == "sent"


def test_send_that_times_out_landed_is_found_and_a_repeated_send_is_answered() -> None:
    world = World()
    venue = world.venue()
    request = build(venue, order("send_timeout_landed-1"))

    with pytest.raises(VenueTimeout):
        venue.send(request)

    assert venue.send(request)["outcome"] == "sent"
    assert check_until_settled(world, venue, request)["outcome"] == "landed"
    assert [row.fate for row in world.ledger.rows()] == [Fate.LANDED]


def test_send_that_times_out_dropped_is_not_seen_until_sent_again() -> None:
    world = World()
    venue = world.venue()
    request = build(venue, order("send_timeout_dropped-1"))

    with pytest.raises(VenueTimeout):
        venue.send(request)
    world.clock.pass_slots(10)
    unseen = venue.check(request)
    again = venue.send(request)

    assert unseen["outcome"] == "unseen"
    assert again["outcome"] == "sent"
    assert check_until_settled(world, venue, request)["outcome"] == "landed"
    assert sorted(row.fate for row in world.ledger.rows()) == [Fate.LANDED, Fate.LOST_ONCE]


def test_send_that_times_out_dropped_and_is_not_repeated_expires() -> None:
    world = World()
    venue = world.venue()
    request = build(venue, order("send_timeout_dropped-1"))
    with pytest.raises(VenueTimeout):
        venue.send(request)

    assert check_until_settled(world, venue, request) == {"outcome": "expired"}


def test_dropped_transaction_expires_however_often_it_is_sent() -> None:
    world = World()
    venue = world.venue()
    request = build(venue, order("dropped_until_expiry-1"))

    venue.send(request)
    world.clock.pass_slots(20)
    venue.send(request)

    assert venue.check(request)["outcome"] == "pending"
    assert check_until_settled(world, venue, request) == {"outcome": "expired"}


def test_transaction_fated_to_fail_reverts_and_the_next_attempt_lands() -> None:
    world = World()
    venue = world.venue()
    outcomes = []
    for attempt in (1, 2):
        request = build(venue, order("lands_with_error*1-1", attempt=attempt))
        venue.send(request)
        outcomes.append(check_until_settled(world, venue, request))

    assert outcomes[0]["outcome"] == "reverted"
    assert outcomes[0]["code"] == "SLIPPAGE_EXCEEDED"
    assert outcomes[1]["outcome"] == "landed"


def test_changed_payload_is_refused() -> None:
    world = World()
    venue = world.venue()
    request = build(venue, order())
    payload = base64.b64decode(request["transaction"]["payload"])
    request["transaction"]["payload"] = base64.b64encode(
        payload.replace(b'"minAmountOut":"1"', b'"minAmountOut":"0"')
    ).decode()

    with pytest.raises(ValueError, match="does not match"):
        venue.send(request)
    assert world.ledger.rows() == []


def test_transaction_of_the_other_venue_is_refused() -> None:
    world = World()

    with pytest.raises(ValueError, match="meteora"):
        world.venue("raydium").send(build(world.venue("meteora"), order()))


@given(
    steps=st.lists(
        st.tuples(st.sampled_from(["send", "check", "wait"]), st.integers(1, 60)), max_size=14
    ),
    fate=st.sampled_from(
        ["plain", "send_timeout_landed", "send_timeout_dropped", "dropped_until_expiry"]
    ),
    volatility=st.sampled_from(["calm", "wild"]),
)
@settings(max_examples=80)
def test_final_answer_never_changes_whatever_is_called(
    steps: list[tuple[str, int]], fate: str, volatility: str
) -> None:
    world = World(volatility=volatility)
    venue = world.venue()
    quoted = Decimal(venue.quote(order())["quote"]["amountOut"])
    request = build(venue, order(f"{fate}-1", minAmountOut=str(quoted)))
    final: dict[str, Any] | None = None

    for step, slots in [*steps, ("wait", 200), ("check", 1), ("send", 1), ("check", 1)]:
        if step == "wait":
            world.clock.pass_slots(slots)
        elif step == "send":
            try:
                venue.send(request)
            except VenueTimeout:
                assert fate.startswith("send_timeout")
        else:
            answer = venue.check(request)
            assert final is None or answer == final
            if answer["outcome"] not in ("pending", "unseen"):
                final = answer

    assert final is not None
    landed = [row for row in world.ledger.rows() if row.fate is Fate.LANDED]
    assert len(landed) == (final["outcome"] == "landed")
    for row in landed:
        assert Decimal(row.amount_out or 0) >= Decimal(row.min_amount_out)
        assert (row.landing_slot or 0) <= row.last_valid_block_height
