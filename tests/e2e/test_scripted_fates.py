"""What becomes of orders when the venues or the chain misbehave, each in a chosen way."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping
from datetime import datetime
from decimal import Decimal

import pytest
from tests.e2e.engine import HAPPY_LIFE, Engine, Json, market_order, new_user, statuses

# Each fate, and the order's other fields. All are placed at once, since most spend their life
# waiting; each test then looks at the end of one.
FATES: Mapping[str, Mapping[str, object]] = {
    "quote_timeout@raydium": {},
    "quote_timeout@meteora": {},
    "venue_down@raydium": {},
    "venue_down": {"maxRetries": 1},
    "lands_with_error*1": {},
    "lands_with_error": {"maxRetries": 1},
    "lands_with_error*2": {"maxRetries": 2},
    "send_timeout_landed": {},
    "send_timeout_dropped": {},
    "dropped_until_expiry*1": {},
    "dropped_until_expiry": {"maxRetries": 0},
}
SECONDS = 120.0

Fated = Callable[[str], Json]


@pytest.fixture(scope="module")
def fated(engine: Engine) -> Fated:
    """Give the order of a fate once it is final."""
    placed = {
        fate: engine.place(market_order(clientOrderId=f"{fate}-{uuid.uuid4().hex[:8]}", **fields))[
            "orderId"
        ]
        for fate, fields in FATES.items()
    }
    return lambda fate: engine.final_order(placed[fate], SECONDS)


def attempts(order: Json) -> list[int]:
    return [event["attempt"] for event in order["events"] if event["status"] == "routing"]


def signatures(order: Json) -> list[str]:
    return [event["txHash"] for event in order["events"] if event["status"] == "submitted"]


@pytest.mark.parametrize(
    ("fate", "other"),
    [
        ("quote_timeout@raydium", "meteora"),
        ("quote_timeout@meteora", "raydium"),
        ("venue_down@raydium", "meteora"),
    ],
)
def test_venue_without_a_quote_leaves_the_order_to_the_other(
    fated: Fated, fate: str, other: str
) -> None:
    order = fated(fate)
    assert statuses(order["events"]) == HAPPY_LIFE
    assert order["chosenDex"] == other
    assert [quote["dex"] for quote in order["quotes"]] == [other]


def test_both_venues_down_fails_the_order_for_that_reason(fated: Fated) -> None:
    order = fated("venue_down")
    assert order["status"] == "failed"
    assert order["failure"]["code"] == "VENUE_UNAVAILABLE"
    assert order["error"].startswith("VENUE_UNAVAILABLE")


def test_both_venues_down_is_tried_again_before_giving_up(fated: Fated) -> None:
    order = fated("venue_down")
    assert statuses(order["events"]) == ["pending", "routing", "failed"]
    assert order["failure"]["attempt"] == 2
    assert order["retries"] == 2


def test_failed_order_keeps_its_reason_in_postgres(engine: Engine, fated: Fated) -> None:
    order = fated("lands_with_error")
    row = engine.order_row(order["orderId"])
    assert row["status"] == "failed"
    assert row["failure"]["code"] == "SLIPPAGE_EXCEEDED"
    assert row["error"] == order["error"]


def test_every_attempt_landing_with_an_error_fails_the_order(engine: Engine, fated: Fated) -> None:
    order = fated("lands_with_error")
    assert order["failure"]["code"] == "SLIPPAGE_EXCEEDED"
    assert attempts(order) == [1, 2]
    assert engine.landed(order["orderId"]) == []


def test_failed_order_tells_its_reason_over_the_socket(engine: Engine, fated: Fated) -> None:
    order = fated("lands_with_error")
    with engine.listening(orderId=order["orderId"]) as listener:
        events = listener.events_until_final(order["orderId"])
    assert events[-1]["status"] == "failed"
    assert events[-1]["failure"]["code"] == "SLIPPAGE_EXCEEDED"
    assert events[-1]["error"] == order["error"]


def test_first_attempt_landing_with_an_error_is_followed_by_one_that_confirms(
    fated: Fated,
) -> None:
    order = fated("lands_with_error*1")
    assert statuses(order["events"]) == [*HAPPY_LIFE[:4], *HAPPY_LIFE[1:]]
    assert order["retries"] == 1
    assert attempts(order) == [1, 2]


def test_second_attempt_has_a_signature_of_its_own(engine: Engine, fated: Fated) -> None:
    order = fated("lands_with_error*1")
    first, second = signatures(order)
    assert first != second
    assert [row["signature"] for row in engine.landed(order["orderId"])] == [second]


def test_attempts_are_one_two_seconds_apart(fated: Fated) -> None:
    order = fated("lands_with_error*2")
    # The failure is not an event; from one submission to the next routing lie the landing (0.4 s,
    # looked up after 1 s) and the wait.
    submitted = [event for event in order["events"] if event["status"] == "submitted"]
    routing = [event for event in order["events"] if event["status"] == "routing"][1:]
    gaps = [
        (instant(after) - instant(before)).total_seconds()
        for before, after in zip(submitted, routing, strict=False)
    ]
    assert gaps[0] >= 2.0
    assert gaps[1] >= 3.0


def instant(event: Json) -> datetime:
    return datetime.fromisoformat(event["timestamp"])


@pytest.mark.parametrize("fate", ["send_timeout_landed", "send_timeout_dropped"])
def test_send_of_unknown_outcome_confirms_exactly_once(
    engine: Engine, fated: Fated, fate: str
) -> None:
    order = fated(fate)
    assert statuses(order["events"]) == HAPPY_LIFE
    assert [row["signature"] for row in engine.landed(order["orderId"])] == signatures(order)


def test_transaction_that_expires_is_followed_by_a_new_one(engine: Engine, fated: Fated) -> None:
    order = fated("dropped_until_expiry*1")
    first, second = signatures(order)
    assert order["status"] == "confirmed"
    assert first != second
    assert [row["signature"] for row in engine.landed(order["orderId"])] == [second]


def test_transaction_that_expires_is_told_as_the_reason_of_the_next_attempt(
    fated: Fated,
) -> None:
    order = fated("dropped_until_expiry*1")
    again = [event for event in order["events"] if event["status"] == "routing"][1]
    assert again["failure"]["code"] == "TX_EXPIRED"


def test_transaction_that_expires_without_retries_fails_the_order(fated: Fated) -> None:
    order = fated("dropped_until_expiry")
    assert order["status"] == "failed"
    assert order["failure"]["code"] == "TX_EXPIRED"


def test_no_tolerance_in_a_moving_market_never_confirms_below_the_quote(engine: Engine) -> None:
    # given: both directions, so that whichever way the market moves it moves against some of them
    user = new_user()
    swaps = [("SOL", "USDC", "1"), ("USDC", "SOL", "150")] * 10
    # when
    placed = [
        engine.place(
            market_order(
                userId=user,
                tokenIn=token_in,
                tokenOut=token_out,
                amountIn=amount_in,
                slippageTolerance=0,
                maxRetries=0,
            )
        )["orderId"]
        for token_in, token_out, amount_in in swaps
    ]
    orders = [engine.final_order(order_id) for order_id in placed]
    # then
    failed = [order for order in orders if order["status"] == "failed"]
    assert failed
    assert {order["failure"]["code"] for order in failed} == {"SLIPPAGE_EXCEEDED"}
    for order in orders:
        if order["status"] == "confirmed":
            assert Decimal(order["amountOut"]) >= Decimal(order["minAmountOut"])
