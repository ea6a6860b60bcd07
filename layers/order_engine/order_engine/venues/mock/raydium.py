"""Raydium: AMM v4 pools, that is constant product, fee on the input, integers only.

Sources: ``raydium-amm``, ``program/src/processor.rs`` (``process_swap_base_in``: the fee is the
ceiling of ``amount_in * 25 / 10000`` and is taken before the swap) and ``program/src/math.rs``
(``swap_token_amount_base_in``); price impact as ``computeAmountOut`` of ``raydium-sdk``,
``src/liquidity/liquidity.ts``, has it.
"""

from dataclasses import dataclass
from fractions import Fraction
from math import isqrt

from order_engine.venues.mock.pools import (
    AmountTooSmall,
    InsufficientLiquidity,
    PoolSwap,
    PoolView,
    pair_depth_usd,
    units_worth,
)

FEE_NUMERATOR = 25
FEE_DENOMINATOR = 10_000
MAX_TOKEN_AMOUNT = 2**64 - 1
"""Token accounts on Solana hold ``u64`` base units; no swap can be larger."""


@dataclass(frozen=True, slots=True)
class AmmPool:
    """Hold a pool's reserves in base units, seen from one swap direction."""

    reserve_in: int
    reserve_out: int

    def __post_init__(self) -> None:
        if self.reserve_in <= 0 or self.reserve_out <= 0:
            raise ValueError("reserves must be positive")

    @property
    def spot_price(self) -> Fraction:
        """Return the marginal price before fees, base units out per base unit in."""
        return Fraction(self.reserve_out, self.reserve_in)


@dataclass(frozen=True, slots=True)
class AmmSwap:
    """Tell what a swap gives: amounts in base units, impact as a fraction of the spot price."""

    amount_in: int
    amount_out: int
    fee: int
    price_impact: Fraction


def swap_exact_in(pool: AmmPool, amount_in: int, fee_numerator: int = FEE_NUMERATOR) -> AmmSwap:
    """Compute the swap of exactly ``amount_in`` base units.

    ``fee = ceil(dx * 25 / 10000)``; ``out = floor(Rout * (dx - fee) / (Rin + dx - fee))``;
    price impact is ``(spot - execution) / spot`` with the execution price after the fee.
    Raises ``ValueError`` for an amount that is not positive, ``InsufficientLiquidity`` above
    the ``u64`` range and ``AmountTooSmall`` when not one base unit would come out (the program
    refuses such a swap as ``InvalidInput``).
    """
    if amount_in <= 0:
        raise ValueError("amount_in must be positive")
    if amount_in > MAX_TOKEN_AMOUNT:
        raise InsufficientLiquidity("amount exceeds the range of a token account")
    fee = -(-amount_in * fee_numerator // FEE_DENOMINATOR)
    amount_after_fee = amount_in - fee
    amount_out = pool.reserve_out * amount_after_fee // (pool.reserve_in + amount_after_fee)
    if amount_out == 0:
        raise AmountTooSmall("amount buys less than one base unit")
    spot = pool.spot_price
    execution = Fraction(amount_out, amount_after_fee)
    return AmmSwap(
        amount_in=amount_in,
        amount_out=amount_out,
        fee=fee,
        price_impact=(spot - execution) / spot,
    )


def pool_of(view: PoolView) -> AmmPool:
    """Return the pair's pool, seen from the one who sells ``base``.

    The product of the reserves is constant; their ratio is the price of the slot.
    """
    depth = pair_depth_usd(view.base, view.quote)
    product = units_worth(depth, view.base) * units_worth(depth, view.quote)
    price = view.unit_price(view.slot)
    reserve_base = isqrt(product * price.denominator // price.numerator)
    reserve_quote = reserve_base * price.numerator // price.denominator
    return AmmPool(reserve_in=reserve_base, reserve_out=reserve_quote)


def swap(view: PoolView, amount_in: int, fee_numerator: int = FEE_NUMERATOR) -> PoolSwap:
    """Compute the swap at the pair's pool; raises what ``swap_exact_in`` raises."""
    pool = pool_of(view)
    if not view.sells_base:
        pool = AmmPool(pool.reserve_out, pool.reserve_in)
    result = swap_exact_in(pool, amount_in, fee_numerator)
    return PoolSwap(
        amount_out=result.amount_out,
        fee_fraction=Fraction(fee_numerator, FEE_DENOMINATOR),
        price_impact=result.price_impact,
        liquidity=2 * pool.reserve_out,
        spot_price=pool.spot_price,
    )
