"""What every venue must do, simulated ones and those that only tests know alike."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest
from tests.support import orca

from order_engine.domain.orders import VenueName
from order_engine.domain.tokens import TOKENS
from order_engine.venues import registry
from order_engine.venues.contract import (
    BuildRequest,
    Built,
    CheckRequest,
    Expired,
    Landed,
    NoRoute,
    Quoted,
    QuoteRequest,
    Reverted,
    SendRequest,
    Sent,
    Unseen,
    Venue,
)
from order_engine.venues.mock.ledger import InMemoryLedger
from order_engine.venues.mock.settings import MockSettings
from order_engine.venues.mock.venue import MockVenue

AMOUNT_IN = Decimal("1.5")
SETTINGS = MockSettings(
    quote_latency_ms=0,
    build_latency_ms=0,
    send_latency_ms=0,
    check_latency_ms=0,
    landing_ms=400,
    volatility="still",
)
VENUES = [*registry.venue_names(), orca.LISTING.name]


class ManualClock:
    """Show the time that the test sets."""

    def __init__(self) -> None:
        self.time = datetime(2026, 11, 21, 12, tzinfo=UTC)

    def now(self) -> datetime:
        return self.time

    def pass_blocks(self, blocks: int) -> None:
        self.time += timedelta(milliseconds=SETTINGS.slot_ms * blocks)


@pytest.fixture(params=VENUES)
def name(request: pytest.FixtureRequest) -> Iterator[VenueName]:
    with ExitStack() as stack:
        if request.param not in registry.venue_names():
            stack.enter_context(registry.also(orca.LISTING))
        yield request.param


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def venue(name: VenueName, clock: ManualClock) -> Venue:
    return MockVenue(
        name, SETTINGS, clock=clock, sleep=lambda _seconds: None, ledger=InMemoryLedger()
    )


def price_request(token_in: str = "SOL", token_out: str = "USDC") -> QuoteRequest:  # noqa: S107
    return QuoteRequest(token_in=token_in, token_out=token_out, amount_in=AMOUNT_IN)


def build_request(min_amount_out: Decimal = Decimal(1), attempt: int = 1) -> BuildRequest:
    return BuildRequest(
        order_id="7b3c0d6e-52a1-4f0e-9a5e-0c2f8d1b4a77",
        attempt=attempt,
        token_in="SOL",
        token_out="USDC",
        amount_in=AMOUNT_IN,
        min_amount_out=min_amount_out,
    )


def built(venue: Venue, request: BuildRequest | None = None) -> Built:
    answer = venue.build(request or build_request())
    assert isinstance(answer, Built)
    return answer


def test_quote_names_its_venue_and_pays_its_price(venue: Venue, name: VenueName) -> None:
    answer = venue.quote(price_request())

    assert isinstance(answer, Quoted)
    quote = answer.quote
    assert quote.dex == name
    assert abs(quote.price * AMOUNT_IN - quote.amount_out) < Decimal("0.000001")


def test_spot_price_is_better_than_the_net_price(venue: Venue) -> None:
    answer = venue.quote(price_request())

    assert isinstance(answer, Quoted)
    assert answer.quote.spot_price is not None
    assert answer.quote.price < answer.quote.spot_price < answer.quote.price * Decimal("1.02")


def test_quote_counts_in_units_that_the_token_has(venue: Venue) -> None:
    answer = venue.quote(price_request())

    assert isinstance(answer, Quoted)
    decimals = TOKENS["USDC"].decimals
    assert answer.quote.amount_out == round(answer.quote.amount_out, decimals)


@pytest.mark.parametrize("token_in", ["SOL", "NOT-A-TOKEN"])
def test_pair_without_a_pool_has_no_route(venue: Venue, token_in: str) -> None:
    assert isinstance(venue.quote(price_request(token_in, "MOON")), NoRoute)


def test_built_transaction_is_of_the_venue_and_valid_for_a_while(
    venue: Venue, name: VenueName
) -> None:
    answer, quote = built(venue), venue.quote(price_request())

    assert isinstance(quote, Quoted)
    assert answer.transaction.venue == name
    assert answer.transaction.last_valid_block_height > quote.quote.slot


def test_transactions_of_two_attempts_differ(venue: Venue) -> None:
    first, second = built(venue), built(venue, build_request(attempt=2))

    assert first.transaction.signature != second.transaction.signature


def test_transaction_that_was_sent_lands_and_pays_its_minimum(
    venue: Venue, clock: ManualClock
) -> None:
    transaction = built(venue).transaction

    assert isinstance(venue.send(SendRequest(transaction=transaction)), Sent)
    clock.pass_blocks(5)
    found = venue.check(CheckRequest(transaction=transaction))

    assert isinstance(found, Landed)
    assert found.amount_out >= 1


def test_transaction_sent_twice_lands_once_with_one_outcome(
    venue: Venue, clock: ManualClock
) -> None:
    transaction = built(venue).transaction
    outcomes = []
    for _ in range(2):
        venue.send(SendRequest(transaction=transaction))
        clock.pass_blocks(5)
        outcomes.append(venue.check(CheckRequest(transaction=transaction)))

    assert outcomes[0] == outcomes[1]


def test_swap_below_its_minimum_reverts_with_a_code(venue: Venue, clock: ManualClock) -> None:
    transaction = built(venue, build_request(min_amount_out=Decimal(1_000_000))).transaction

    venue.send(SendRequest(transaction=transaction))
    clock.pass_blocks(5)
    found = venue.check(CheckRequest(transaction=transaction))

    assert isinstance(found, Reverted)
    assert found.code == "SLIPPAGE_EXCEEDED"


def test_transaction_that_nobody_sent_is_unseen_and_then_expires_for_good(
    venue: Venue, clock: ManualClock
) -> None:
    transaction = built(venue).transaction

    assert isinstance(venue.check(CheckRequest(transaction=transaction)), Unseen)
    clock.pass_blocks(SETTINGS.expiry_blocks + 1)
    assert isinstance(venue.check(CheckRequest(transaction=transaction)), Expired)
    venue.send(SendRequest(transaction=transaction))
    clock.pass_blocks(5)
    assert isinstance(venue.check(CheckRequest(transaction=transaction)), Expired)


def test_transaction_whose_bytes_were_changed_is_refused(venue: Venue) -> None:
    transaction = built(venue).transaction.model_copy(update={"payload": "eA=="})

    with pytest.raises(ValueError, match="signature"):
        venue.send(SendRequest(transaction=transaction))
