"""Meteora: DLMM pools, that is liquidity in price bins, base plus variable fee, integers.

Sources: ``dlmm-sdk``, ``commons/src/math/u64x64_math.rs`` and ``price_math.rs`` (bin price as
Q64.64), ``commons/src/extensions/bin.rs`` (amounts within one bin), ``extensions/lb_pair.rs``
(fees and the volatility accumulator) and ``commons/src/quote.rs`` (``quote_exact_in``: the walk
over the bins). Token X is the base, token Y the quote; a bin's price is Y per X in base units.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Context, Decimal
from fractions import Fraction
from functools import lru_cache
from typing import NamedTuple

from order_engine.domain.tokens import Token
from order_engine.venues.mock.pools import (
    MAJORS,
    STABLECOINS,
    AmountTooSmall,
    InsufficientLiquidity,
    PoolSwap,
    PoolView,
    pair_depth_usd,
    units_worth,
)

SCALE_BITS = 64
ONE = 1 << SCALE_BITS
BASIS_POINT_MAX = 10_000
FEE_PRECISION = 1_000_000_000
MAX_FEE_RATE = 100_000_000
"""Highest total fee, 10 %, in parts of ``FEE_PRECISION``."""
MIN_BIN_ID = -443_636
MAX_BIN_ID = 443_636
MAX_TOKEN_AMOUNT = 2**64 - 1
_U128_MAX = 2**128 - 1
_MAX_EXPONENT = 0x80000
_VARIABLE_FEE_SCALE = 100_000_000_000

_LOGARITHM = Context(prec=50)
_BIN_DEPTH_SHARE = 50
"""The active bin holds a fiftieth of the pair's depth on each side."""
_BIN_DECAY = Fraction(97, 100)
_BINS_PER_SIDE = 150
_FILTER_PERIOD_SECONDS = 30
_REDUCTION_FACTOR_BPS = 5_000
"""DLMM volatility memory: the references renew every filter period, halved each time."""


class Bin(NamedTuple):
    """Hold one bin's amounts in base units."""

    amount_x: int
    amount_y: int


@dataclass(frozen=True, slots=True)
class FeeParameters:
    """Hold a pool's static fee parameters, named as in the program's ``StaticParameters``."""

    base_factor: int = 10_000
    variable_fee_control: int = 40_000
    max_volatility_accumulator: int = 350_000


@dataclass(frozen=True, slots=True)
class DlmmPool:
    """Describe a pool at one moment, its volatility references already up to date.

    ``index_reference`` and ``volatility_reference`` are what the program's
    ``update_references`` leaves behind before a swap begins.
    """

    bin_step: int
    active_id: int
    bins: Mapping[int, Bin]
    index_reference: int
    volatility_reference: int = 0
    fees: FeeParameters = FeeParameters()

    @property
    def spot_price(self) -> Fraction:
        """Return the active bin's price, base units of Y per base unit of X."""
        return Fraction(bin_price(self.active_id, self.bin_step), ONE)


@dataclass(frozen=True, slots=True)
class DlmmSwap:
    """Tell what a swap gives: amounts in base units, impact as a fraction of the first price."""

    amount_in: int
    amount_out: int
    fee: int
    price_impact: Fraction
    last_bin_id: int


def bin_price(bin_id: int, bin_step: int) -> int:
    """Return ``(1 + bin_step / 10000) ** bin_id`` as Q64.64, rounded just as the program does.

    Raises ``ValueError`` outside of the bins that the program supports.
    """
    if not MIN_BIN_ID <= bin_id <= MAX_BIN_ID:
        raise ValueError(f"bin {bin_id} is out of range")
    base = ONE + (bin_step << SCALE_BITS) // BASIS_POINT_MAX
    return _power_q64(base, bin_id)


def _power_q64(base: int, exponent: int) -> int:
    """Raise a Q64.64 number of at least one to an integer power (``u64x64_math::pow``).

    The power is always taken of ``1 / base``, which keeps every product within 128 bits, and is
    inverted afterwards for a positive exponent.
    """
    if exponent == 0:
        return ONE
    remaining = abs(exponent)
    if remaining >= _MAX_EXPONENT:
        raise ValueError("exponent is out of range")
    squared = _U128_MAX // base
    result = ONE
    while remaining:
        if remaining & 1:
            result = result * squared >> SCALE_BITS
        squared = squared * squared >> SCALE_BITS
        remaining >>= 1
    if result == 0:
        raise ValueError("price underflows Q64.64")
    return _U128_MAX // result if exponent > 0 else result


def base_fee_rate(bin_step: int, fees: FeeParameters) -> int:
    """Return the base fee in parts of ``FEE_PRECISION``: ``base_factor * bin_step * 10``."""
    return fees.base_factor * bin_step * 10


def variable_fee_rate(bin_step: int, volatility_accumulator: int, fees: FeeParameters) -> int:
    """Return ``ceil(control * (accumulator * bin_step)^2 / 10^11)`` in parts of FEE_PRECISION."""
    square = (volatility_accumulator * bin_step) ** 2
    return -(-fees.variable_fee_control * square // _VARIABLE_FEE_SCALE)


def total_fee_rate(bin_step: int, volatility_accumulator: int, fees: FeeParameters) -> int:
    """Return base plus variable fee, at most 10 %, in parts of ``FEE_PRECISION``."""
    variable = variable_fee_rate(bin_step, volatility_accumulator, fees)
    return min(base_fee_rate(bin_step, fees) + variable, MAX_FEE_RATE)


def volatility_accumulator_at(pool: DlmmPool, bin_id: int) -> int:
    """Return ``min(reference + |index_reference - bin_id| * 10000, maximum)``."""
    moved = abs(pool.index_reference - bin_id) * BASIS_POINT_MAX
    return min(pool.volatility_reference + moved, pool.fees.max_volatility_accumulator)


def fee_within(amount_with_fee: int, fee_rate: int) -> int:
    """Return the fee contained in an amount, rounded up (``compute_fee_from_amount``)."""
    return -(-amount_with_fee * fee_rate // FEE_PRECISION)


def fee_on_top(amount_without_fee: int, fee_rate: int) -> int:
    """Return the fee to add to a net amount, rounded up (``compute_fee``)."""
    return -(-amount_without_fee * fee_rate // (FEE_PRECISION - fee_rate))


def swap_exact_in(pool: DlmmPool, amount_in: int, *, swap_for_y: bool) -> DlmmSwap:
    """Compute the swap of exactly ``amount_in`` base units of X (``swap_for_y``) or of Y.

    Walks down the bins for Y and up for X. Each bin trades at its one price; its fee is the base
    fee plus the variable fee at the accumulator of that bin. Price impact is
    ``(spot - execution) / spot`` with the first bin's price as spot and the execution price after
    fees (the SDK estimates those at the last bin's rate; here they are the fees really taken).
    Raises ``ValueError`` for an amount that is not positive, ``InsufficientLiquidity`` when the
    bins run out and ``AmountTooSmall`` when not one base unit would come out.
    """
    if amount_in <= 0:
        raise ValueError("amount_in must be positive")
    if amount_in > MAX_TOKEN_AMOUNT:
        raise InsufficientLiquidity("amount exceeds the range of a token account")
    spot: Fraction | None = None
    amount_left, amount_out, fee_total = amount_in, 0, 0
    last_bin_id = pool.active_id
    for bin_id in _bins_in_order(pool, swap_for_y=swap_for_y):
        price = bin_price(bin_id, pool.bin_step)
        if spot is None:
            spot = Fraction(price, ONE) if swap_for_y else Fraction(ONE, price)
        fee_rate = total_fee_rate(pool.bin_step, volatility_accumulator_at(pool, bin_id), pool.fees)
        taken, given, fee = _swap_in_bin(
            pool.bins[bin_id], price, fee_rate, amount_left, swap_for_y=swap_for_y
        )
        amount_left -= taken
        amount_out += given
        fee_total += fee
        last_bin_id = bin_id
        if amount_left == 0:
            break
    if amount_left > 0 or spot is None:
        raise InsufficientLiquidity("the bins hold less than the order asks for")
    if amount_out == 0:
        raise AmountTooSmall("amount buys less than one base unit")
    execution = Fraction(amount_out, amount_in - fee_total)
    return DlmmSwap(
        amount_in=amount_in,
        amount_out=amount_out,
        fee=fee_total,
        price_impact=(spot - execution) / spot,
        last_bin_id=last_bin_id,
    )


def _bins_in_order(pool: DlmmPool, *, swap_for_y: bool) -> list[int]:
    """Return the ids of the bins that hold the output token, in the order a swap meets them."""
    if swap_for_y:
        held = (i for i, held in pool.bins.items() if i <= pool.active_id and held.amount_y > 0)
        return sorted(held, reverse=True)
    return sorted(i for i, held in pool.bins.items() if i >= pool.active_id and held.amount_x > 0)


def _swap_in_bin(
    held: Bin, price: int, fee_rate: int, amount_left: int, *, swap_for_y: bool
) -> tuple[int, int, int]:
    """Return (amount taken with its fee, amount given, fee) of one bin, all in base units."""
    available = held.amount_y if swap_for_y else held.amount_x
    if swap_for_y:
        most_in = -((-available << SCALE_BITS) // price)
    else:
        most_in = -(-available * price >> SCALE_BITS)
    fee = fee_within(amount_left, fee_rate)
    amount_after_fee = amount_left - fee
    if amount_after_fee > most_in:
        fee = fee_on_top(most_in, fee_rate)
        return most_in + fee, available, fee
    if swap_for_y:
        given = amount_after_fee * price >> SCALE_BITS
    else:
        given = (amount_after_fee << SCALE_BITS) // price
    return amount_left, min(given, available), fee


def pool_of(view: PoolView) -> DlmmPool:
    """Return the pair's pool of ``base`` (X) and ``quote`` (Y).

    The volatility references are those of a pool that is traded all the time: the index
    reference is the active bin at the start of the filter period, the volatility reference
    what was left of the movement in the period before.
    """
    bin_step = _bin_step(view.base, view.quote)
    period_slots = max(1, _FILTER_PERIOD_SECONDS * 1000 // view.slot_ms)
    period_start = view.slot - view.slot % period_slots
    active_id, reference_id, earlier_id = (
        _active_bin_id(view.unit_price(at), bin_step)
        for at in (view.slot, period_start, period_start - period_slots)
    )
    fees = FeeParameters()
    moved = abs(reference_id - earlier_id) * BASIS_POINT_MAX
    remembered = min(moved, fees.max_volatility_accumulator) * _REDUCTION_FACTOR_BPS
    return DlmmPool(
        bin_step=bin_step,
        active_id=active_id,
        bins=_bins_around(active_id, view.base, view.quote),
        index_reference=reference_id,
        volatility_reference=remembered // BASIS_POINT_MAX,
        fees=fees,
    )


def swap(view: PoolView, amount_in: int) -> PoolSwap:
    """Compute the swap at the pair's pool; raises what ``swap_exact_in`` raises."""
    pool = pool_of(view)
    result = swap_exact_in(pool, amount_in, swap_for_y=view.sells_base)
    held_x = sum(held.amount_x for held in pool.bins.values())
    held_y = sum(held.amount_y for held in pool.bins.values())
    spot = pool.spot_price
    return PoolSwap(
        amount_out=result.amount_out,
        fee_fraction=Fraction(result.fee, result.amount_in),
        price_impact=result.price_impact,
        liquidity=int(held_x * spot) + held_y if view.sells_base else held_x + int(held_y / spot),
        spot_price=spot if view.sells_base else 1 / spot,
    )


def _active_bin_id(price: Fraction, bin_step: int) -> int:
    """Return the bin nearest to the price: ``round(ln(price) / ln(1 + step / 10000))``."""
    logarithm = _LOGARITHM.subtract(
        _LOGARITHM.ln(Decimal(price.numerator)), _LOGARITHM.ln(Decimal(price.denominator))
    )
    return int(_LOGARITHM.divide(logarithm, _bin_width(bin_step)).to_integral_value())


@lru_cache(maxsize=16)
def _bin_width(bin_step: int) -> Decimal:
    return _LOGARITHM.ln(1 + Decimal(bin_step) / BASIS_POINT_MAX)


@lru_cache(maxsize=4)
def _decays() -> tuple[Fraction, ...]:
    return tuple(_BIN_DECAY**distance for distance in range(_BINS_PER_SIDE + 1))


@lru_cache(maxsize=256)
def _bin_amounts(base: Token, quote: Token) -> tuple[tuple[int, int], ...]:
    """Return (X, Y) of a bin by its distance from the active bin, ``floor(depth * 0.97^k)``."""
    depth = Fraction(pair_depth_usd(base, quote), _BIN_DEPTH_SHARE)
    depth_x, depth_y = units_worth(depth, base), units_worth(depth, quote)
    return tuple((int(depth_x * decay), int(depth_y * decay)) for decay in _decays())


def _bins_around(active_id: int, base: Token, quote: Token) -> dict[int, Bin]:
    """Return the bins: Y below the active bin, X above it, both in it."""
    amounts = _bin_amounts(base, quote)
    bins = {active_id: Bin(*amounts[0])}
    for distance in range(1, len(amounts)):
        amount_x, amount_y = amounts[distance]
        bins[active_id - distance] = Bin(0, amount_y)
        bins[active_id + distance] = Bin(amount_x, 0)
    return bins


def _bin_step(base: Token, quote: Token) -> int:
    """Return the bin step in basis points: finer, the steadier the pair."""
    symbols = {base.symbol, quote.symbol}
    if symbols <= STABLECOINS:
        return 1
    return 10 if symbols <= MAJORS else 20
