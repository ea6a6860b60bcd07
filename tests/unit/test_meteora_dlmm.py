from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from order_engine.venues.mock import meteora as dlmm
from order_engine.venues.mock.pools import (
    AmountTooSmall,
    InsufficientLiquidity,
    SwapImpossible,
)

SOL, USDC = 10**9, 10**6
ACTIVE_ID = -1898
BINS = {
    ACTIVE_ID + distance: dlmm.Bin(
        amount_x=200 * SOL * 97 ** abs(distance) // 100 ** abs(distance) if distance >= 0 else 0,
        amount_y=30_000 * USDC * 97 ** abs(distance) // 100 ** abs(distance)
        if distance <= 0
        else 0,
    )
    for distance in range(-100, 101)
}
POOL = dlmm.DlmmPool(bin_step=10, active_id=ACTIVE_ID, bins=BINS, index_reference=ACTIVE_ID)

bin_steps = st.sampled_from([1, 2, 5, 10, 20, 25, 80, 100, 400])
amounts = st.integers(min_value=1, max_value=10**15)


@st.composite
def pools(draw: st.DrawFn) -> dlmm.DlmmPool:
    active_id = draw(st.integers(min_value=-200, max_value=200))
    reserves = st.integers(min_value=0, max_value=10**13)
    bins = {
        active_id + distance: dlmm.Bin(
            amount_x=draw(reserves) if distance >= 0 else 0,
            amount_y=draw(reserves) if distance <= 0 else 0,
        )
        for distance in range(-4, 5)
    }
    return dlmm.DlmmPool(
        bin_step=draw(bin_steps),
        active_id=active_id,
        bins=bins,
        index_reference=active_id + draw(st.integers(min_value=-30, max_value=30)),
        volatility_reference=draw(st.integers(min_value=0, max_value=350_000)),
    )


def output(pool: dlmm.DlmmPool, amount_in: int, *, swap_for_y: bool) -> int | None:
    """Return the output, 0 for an amount too small and ``None`` when the bins run out."""
    try:
        return dlmm.swap_exact_in(pool, amount_in, swap_for_y=swap_for_y).amount_out
    except AmountTooSmall:
        return 0
    except InsufficientLiquidity:
        return None


@pytest.mark.parametrize(
    ("sol_in", "usdc_out"),
    [(1, "149.860243"), (100, "14986.0243"), (400, "59913.240221"), (1_000, "149540.48784")],
)
def test_swap_of_a_known_pool_gives_the_known_output(sol_in: int, usdc_out: str) -> None:
    swap = dlmm.swap_exact_in(POOL, sol_in * SOL, swap_for_y=True)

    assert abs(swap.amount_out - Fraction(usdc_out) * USDC) <= 1


def test_swap_within_the_active_bin_has_no_price_impact() -> None:
    swap = dlmm.swap_exact_in(POOL, 100 * SOL, swap_for_y=True)

    assert swap.last_bin_id == ACTIVE_ID
    assert 0 <= swap.price_impact < Fraction(1, 10**9)  # what is left is the rounding of one unit


def test_swap_across_bins_has_an_impact_and_pays_the_variable_fee() -> None:
    within = dlmm.swap_exact_in(POOL, 100 * SOL, swap_for_y=True)
    across = dlmm.swap_exact_in(POOL, 1_000 * SOL, swap_for_y=True)

    assert across.last_bin_id == ACTIVE_ID - 5
    assert Fraction(across.fee, across.amount_in) > Fraction(within.fee, within.amount_in)
    assert Fraction(2, 1000) < across.price_impact < Fraction(3, 1000)


def test_swap_for_x_walks_up_and_the_round_trip_loses_at_least_the_fees() -> None:
    bought = dlmm.swap_exact_in(POOL, 60_000 * USDC, swap_for_y=False)
    sold = dlmm.swap_exact_in(POOL, bought.amount_out, swap_for_y=True)

    assert bought.last_bin_id > ACTIVE_ID
    assert sold.amount_out < 60_000 * USDC * Fraction(998, 1000)


def test_swap_that_empties_the_bins_is_refused() -> None:
    everything = sum(held.amount_y for held in BINS.values())
    worth_more_than_all = everything * 8  # in lamports: a lamport buys 0.15 of a USDC base unit

    with pytest.raises(InsufficientLiquidity):
        dlmm.swap_exact_in(POOL, worth_more_than_all, swap_for_y=True)


def test_swap_in_a_pool_without_bins_is_refused() -> None:
    empty = dlmm.DlmmPool(bin_step=10, active_id=0, bins={}, index_reference=0)

    with pytest.raises(InsufficientLiquidity):
        dlmm.swap_exact_in(empty, SOL, swap_for_y=True)


def test_swap_above_the_range_of_a_token_account_is_refused() -> None:
    with pytest.raises(InsufficientLiquidity):
        dlmm.swap_exact_in(POOL, 2**64, swap_for_y=True)


def test_swap_of_one_lamport_is_too_small() -> None:
    with pytest.raises(AmountTooSmall):
        dlmm.swap_exact_in(POOL, 1, swap_for_y=True)


def test_swap_of_nothing_is_an_error() -> None:
    with pytest.raises(ValueError, match="amount_in"):
        dlmm.swap_exact_in(POOL, 0, swap_for_y=True)


def test_empty_bins_are_skipped() -> None:
    gap = {bin_id: held for bin_id, held in BINS.items() if bin_id < ACTIVE_ID - 2}
    pool = dlmm.DlmmPool(bin_step=10, active_id=ACTIVE_ID, bins=gap, index_reference=ACTIVE_ID)

    assert dlmm.swap_exact_in(pool, SOL, swap_for_y=True).last_bin_id == ACTIVE_ID - 3


def test_base_and_variable_fee_match_the_program() -> None:
    fees = dlmm.FeeParameters()

    assert dlmm.base_fee_rate(10, fees) == 1_000_000  # 0.1 %
    # 40,000 * (20,000 * 10)^2 / 10^11 = 16,000; one more and the ceiling shows.
    assert dlmm.variable_fee_rate(10, 20_000, fees) == 16_000
    assert dlmm.variable_fee_rate(10, 20_001, fees) == 16_002
    assert dlmm.variable_fee_rate(10, 20_000, dlmm.FeeParameters(variable_fee_control=0)) == 0


def test_total_fee_is_capped_at_ten_percent() -> None:
    fees = dlmm.FeeParameters(base_factor=60_000)

    assert dlmm.total_fee_rate(400, 350_000, fees) == dlmm.MAX_FEE_RATE


def test_volatility_accumulator_grows_by_10000_a_bin_up_to_its_maximum() -> None:
    assert dlmm.volatility_accumulator_at(POOL, ACTIVE_ID) == 0
    assert dlmm.volatility_accumulator_at(POOL, ACTIVE_ID - 3) == 30_000
    assert dlmm.volatility_accumulator_at(POOL, ACTIVE_ID + 40) == 350_000


@pytest.mark.parametrize("bin_id", [dlmm.MIN_BIN_ID - 1, dlmm.MAX_BIN_ID + 1])
def test_price_of_a_bin_out_of_range_is_an_error(bin_id: int) -> None:
    with pytest.raises(ValueError, match="out of range"):
        dlmm.bin_price(bin_id, 1)


def test_price_that_underflows_is_an_error() -> None:
    with pytest.raises(ValueError, match="underflows"):
        dlmm.bin_price(dlmm.MIN_BIN_ID, 400)


@given(
    bin_id=st.integers(min_value=-500, max_value=500), bin_step=st.sampled_from([1, 10, 20, 100])
)
def test_bin_price_is_the_exact_power_to_twelve_digits(bin_id: int, bin_step: int) -> None:
    exact = Fraction(10_000 + bin_step, 10_000) ** bin_id

    price = Fraction(dlmm.bin_price(bin_id, bin_step), dlmm.ONE)

    assert abs(price - exact) < exact / 10**12


@given(pool=pools(), amount_in=amounts, swap_for_y=st.booleans())
@settings(max_examples=60)
def test_any_swap_pays_no_more_than_the_bins_hold_and_no_better_than_the_price(
    pool: dlmm.DlmmPool, amount_in: int, swap_for_y: bool
) -> None:
    try:
        swap = dlmm.swap_exact_in(pool, amount_in, swap_for_y=swap_for_y)
    except SwapImpossible:
        return

    held = sum(b.amount_y if swap_for_y else b.amount_x for b in pool.bins.values())
    assert 0 < swap.amount_out <= held
    assert 0 <= swap.price_impact < 1


@given(pool=pools(), amount_in=amounts, swap_for_y=st.booleans())
@settings(max_examples=60)
def test_fee_is_between_the_base_fee_and_ten_percent(
    pool: dlmm.DlmmPool, amount_in: int, swap_for_y: bool
) -> None:
    try:
        swap = dlmm.swap_exact_in(pool, amount_in, swap_for_y=swap_for_y)
    except SwapImpossible:
        return

    lowest = Fraction(dlmm.base_fee_rate(pool.bin_step, pool.fees), dlmm.FEE_PRECISION)
    rounding = len(pool.bins)
    assert swap.fee >= min(lowest, Fraction(1, 10)) * amount_in - rounding
    assert swap.fee <= Fraction(amount_in, 10) + rounding


@given(pool=pools(), amount_in=amounts, more=amounts, swap_for_y=st.booleans())
@settings(max_examples=60)
def test_larger_input_never_gives_a_smaller_output(
    pool: dlmm.DlmmPool, amount_in: int, more: int, swap_for_y: bool
) -> None:
    smaller = output(pool, amount_in, swap_for_y=swap_for_y)
    larger = output(pool, amount_in + more, swap_for_y=swap_for_y)

    if smaller is None:
        assert larger is None
    elif larger is not None:
        assert larger >= smaller
