from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from order_engine.domain.money import minimum_out
from order_engine.venues.mock.pools import (
    AmountTooSmall,
    InsufficientLiquidity,
    SwapImpossible,
)
from order_engine.venues.mock.raydium import MAX_TOKEN_AMOUNT, AmmPool, swap_exact_in

SOL, USDC = 10**9, 10**6
POOL = AmmPool(reserve_in=10_000 * SOL, reserve_out=1_500_000 * USDC)

reserves = st.integers(min_value=10**3, max_value=2**63)
amounts = st.integers(min_value=1, max_value=MAX_TOKEN_AMOUNT)
pools = st.builds(AmmPool, reserve_in=reserves, reserve_out=reserves)


def output(pool: AmmPool, amount_in: int) -> int:
    """Return the output, 0 for an amount too small to swap."""
    try:
        return swap_exact_in(pool, amount_in).amount_out
    except AmountTooSmall:
        return 0


@pytest.mark.parametrize(
    ("sol_in", "usdc_out", "impact_percent"),
    [
        (1, "149.610076", "0.0100"),
        (100, "14814.723136", "0.9876"),
        (1_000, "136053.648556", "9.0702"),
    ],
)
def test_swap_of_a_known_pool_gives_the_known_output(
    sol_in: int, usdc_out: str, impact_percent: str
) -> None:
    swap = swap_exact_in(POOL, sol_in * SOL)

    assert swap.amount_out == Fraction(usdc_out) * USDC
    assert f"{float(swap.price_impact * 100):.4f}" == impact_percent


def test_example_of_the_raydium_documentation_gives_what_its_formula_says() -> None:
    # The documentation prints 1,995,015,009 for this swap; its own formula does not.
    pool = AmmPool(reserve_in=1_000_000_000_000, reserve_out=2_000_000_000_000)

    assert swap_exact_in(pool, 1_000_000_000).amount_out == 1_993_011_970


def test_fee_is_rounded_up() -> None:
    assert swap_exact_in(POOL, 400 * SOL).fee == SOL
    assert swap_exact_in(POOL, 400 * SOL + 1).fee == SOL + 1


def test_swap_of_one_base_unit_is_too_small() -> None:
    with pytest.raises(AmountTooSmall):
        swap_exact_in(POOL, 1)


def test_swap_above_the_range_of_a_token_account_is_refused() -> None:
    with pytest.raises(InsufficientLiquidity):
        swap_exact_in(POOL, MAX_TOKEN_AMOUNT + 1)


@pytest.mark.parametrize("amount_in", [0, -1])
def test_swap_of_an_amount_that_is_not_positive_is_an_error(amount_in: int) -> None:
    with pytest.raises(ValueError, match="amount_in"):
        swap_exact_in(POOL, amount_in)


@pytest.mark.parametrize(("reserve_in", "reserve_out"), [(0, 1), (1, 0), (-1, 1)])
def test_pool_without_reserves_is_an_error(reserve_in: int, reserve_out: int) -> None:
    with pytest.raises(ValueError, match="reserves"):
        AmmPool(reserve_in, reserve_out)


@given(pool=pools, amount_in=amounts)
def test_any_swap_keeps_the_product_and_pays_less_than_the_reserve(
    pool: AmmPool, amount_in: int
) -> None:
    try:
        swap = swap_exact_in(pool, amount_in)
    except SwapImpossible:
        return

    product = pool.reserve_in * pool.reserve_out
    # The fee stays in the pool, so even without it the product must not shrink.
    without_fee = (pool.reserve_in + amount_in - swap.fee) * (pool.reserve_out - swap.amount_out)
    assert without_fee >= product
    assert 0 < swap.amount_out < pool.reserve_out


@given(pool=pools, amount_in=amounts, more=amounts)
def test_larger_input_never_gives_a_smaller_output(
    pool: AmmPool, amount_in: int, more: int
) -> None:
    larger = min(amount_in + more, MAX_TOKEN_AMOUNT)

    assert output(pool, larger) >= output(pool, min(amount_in, larger))


@given(pool=pools, amount_in=amounts)
def test_fee_is_a_quarter_percent_rounded_up_and_impact_a_fraction(
    pool: AmmPool, amount_in: int
) -> None:
    try:
        swap = swap_exact_in(pool, amount_in)
    except SwapImpossible:
        return

    assert 0 <= swap.fee - Fraction(amount_in * 25, 10_000) < 1
    assert 0 < swap.price_impact < 1


@given(amount_out=amounts, slippage_bps=st.integers(min_value=0, max_value=10_000))
def test_minimum_output_is_within_one_unit_below_the_exact_one(
    amount_out: int, slippage_bps: int
) -> None:
    minimum = minimum_out(amount_out, slippage_bps)

    assert 0 <= Fraction(amount_out * (10_000 - slippage_bps), 10_000) - minimum < 1
    assert minimum <= amount_out
