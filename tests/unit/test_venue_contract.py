"""What a venue answers, read leniently: what is not in the contract fails an attempt, no more."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from pydantic import TypeAdapter, ValidationError

from order_engine.domain.failures import Failure, FailureCode
from order_engine.domain.orders import ExecutionTerms
from order_engine.execution.decision import Choice, choose
from order_engine.execution.messages import AttemptFailedRequest, DecideRequest, parse_request
from order_engine.venues.contract import (
    MAX_VENUE_DATA_BYTES,
    AnyFailure,
    Quoted,
    Reverted,
    VenueQuote,
    VenueRejected,
)

NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)
TERMS = ExecutionTerms(
    order_id="7b3c0d6e-52a1-4f0e-9a5e-0c2f8d1b4a77",
    token_in="SOL",
    token_out="USDC",
    amount_in=Decimal(1),
    slippage_bps=50,
)
FAILURES: TypeAdapter[Any] = TypeAdapter(AnyFailure)


def quote(dex: str = "raydium", **more: Any) -> VenueQuote:
    return VenueQuote(
        dex=dex,
        price=Decimal(150),
        amount_out=Decimal(150),
        fee_pct=Decimal("0.25"),
        price_impact_pct=Decimal(0),
        liquidity=Decimal(1000),
        slot=1,
        **more,
    )


def decided(*answers: Any) -> Choice | Failure:
    message = {
        "action": "decide",
        "order": TERMS.to_json_dict(),
        "execution": "e",
        "attempt": 1,
        "answers": list(answers),
    }
    request = parse_request(message)
    assert isinstance(request, DecideRequest)
    return choose(request.order, request.answers, request.attempt, NOW)


@pytest.mark.parametrize(
    "answer",
    [
        {"outcome": "maybe"},
        {"outcome": "quoted"},
        {"outcome": "quoted", "quote": {"dex": "raydium", "price": "cheap"}},
        {"detail": "no outcome"},
        "not an object",
        None,
    ],
)
def test_answer_that_cannot_be_read_leaves_the_other_venues_quote_standing(answer: object) -> None:
    choice = decided(answer, Quoted(quote=quote()).to_json_dict())

    assert isinstance(choice, Choice)
    assert choice.best.dex == "raydium"


def test_only_unreadable_answers_reject_the_attempt_and_say_what_was_wrong() -> None:
    failure = decided({"outcome": "maybe"})

    assert isinstance(failure, Failure)
    assert (failure.code, failure.retryable) == (FailureCode.VENUE_REJECTED, False)
    assert "'maybe'" in failure.detail


def test_venue_that_is_away_outweighs_one_that_cannot_be_read() -> None:
    failure = decided({"outcome": "maybe"}, {"outcome": "unavailable", "detail": "away"})

    assert isinstance(failure, Failure)
    assert failure.code is FailureCode.VENUE_UNAVAILABLE


def test_quote_whose_time_has_passed_is_not_used() -> None:
    past = quote("meteora", expires_at=NOW - timedelta(milliseconds=1))

    choice = decided(
        Quoted(quote=past).to_json_dict(),
        Quoted(quote=quote(expires_at=NOW + timedelta(seconds=1))).to_json_dict(),
    )

    assert isinstance(choice, Choice)
    assert [kept.dex for kept in choice.quotes] == ["raydium"]


def test_revert_with_an_unknown_code_is_a_revert_rejected_by_the_venue() -> None:
    answer = FAILURES.validate_python(
        {"outcome": "reverted", "code": "CUSTOM_6000", "detail": "program error"}
    )

    assert isinstance(answer, Reverted)
    assert (answer.code, answer.detail) == (FailureCode.VENUE_REJECTED, "program error")


def test_unknown_outcome_of_a_failed_attempt_is_a_rejection() -> None:
    request = parse_request(
        {
            "action": "attempt_failed",
            "order": TERMS.to_json_dict(),
            "execution": "e",
            "attempt": 1,
            "answer": {"outcome": "vanished"},
        }
    )

    assert isinstance(request, AttemptFailedRequest)
    assert isinstance(request.answer, VenueRejected)


def test_quote_is_stored_and_shown_without_what_is_the_venues_own() -> None:
    shown = quote(venue_data={"route": [1, 2]}, spot_price=Decimal(151)).public.to_json_dict()

    assert {"venueData", "spotPrice", "expiresAt"}.isdisjoint(shown)


def test_venue_data_longer_than_the_payload_can_carry_is_refused() -> None:
    quote(venue_data="x" * (MAX_VENUE_DATA_BYTES - 2))

    with pytest.raises(ValidationError, match="longer than"):
        quote(venue_data="x" * (MAX_VENUE_DATA_BYTES - 1))
