"""Exact amounts."""

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from order_engine.domain.money import (
    decimal_text,
    from_base_units,
    minimum_out,
    price_of,
    slippage_bps_between,
    to_base_units,
)

U64_MAX = 2**64 - 1


@given(st.integers(0, U64_MAX), st.integers(0, 18))
def test_base_units_and_back_is_the_same_amount(units: int, decimals: int) -> None:
    assert to_base_units(from_base_units(units, decimals), decimals) == units


def test_amount_with_more_decimals_than_the_token_is_refused() -> None:
    with pytest.raises(ValueError, match="more than 6 decimals"):
        to_base_units(Decimal("0.0000001"), 6)


@given(st.integers(0, U64_MAX), st.integers(0, 10_000))
def test_minimum_out_keeps_the_tolerance_and_rounds_down(
    amount_out: int, slippage_bps: int
) -> None:
    least = minimum_out(amount_out, slippage_bps)
    assert 0 <= least <= amount_out
    exact = Decimal(amount_out) * (10_000 - slippage_bps) / 10_000
    assert least <= exact < least + 1


@given(st.integers(1, U64_MAX), st.integers(0, 9_999))
def test_minimum_out_shrinks_with_the_tolerance(amount_out: int, slippage_bps: int) -> None:
    assert minimum_out(amount_out, slippage_bps) >= minimum_out(amount_out, slippage_bps + 1)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("1E+3", "1000"),
        ("1.500", "1.5"),
        ("0E-18", "0"),
        ("100", "100"),
        ("1e-9", "0.000000001"),
    ],
)
def test_decimal_text_is_plain_notation(value: str, text: str) -> None:
    assert decimal_text(Decimal(value)) == text


def test_price_is_truncated_to_the_columns_eighteen_decimals() -> None:
    assert price_of(Decimal(2), Decimal(3)) == Decimal("0.666666666666666666")


def test_slippage_is_positive_when_the_fill_is_worse_than_the_quote() -> None:
    assert slippage_bps_between(Decimal(100), Decimal(99)) == Decimal("100.00")
    assert slippage_bps_between(Decimal(100), Decimal(101)) == Decimal("-100.00")
