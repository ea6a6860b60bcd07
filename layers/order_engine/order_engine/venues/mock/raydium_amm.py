"""Swap maths of Raydium's AMM v4 pools: constant product, fee on the input, integers only.

Sources: ``raydium-amm``, ``program/src/processor.rs`` (``process_swap_base_in``: the fee is the
ceiling of ``amount_in * 25 / 10000`` and is taken before the swap) and ``program/src/math.rs``
(``swap_token_amount_base_in``); price impact as ``computeAmountOut`` of ``raydium-sdk``,
``src/liquidity/liquidity.ts``, has it.
"""

from dataclasses import dataclass
from fractions import Fraction

from order_engine.venues.mock.swap_errors import AmountTooSmall, InsufficientLiquidity

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


def swap_exact_in(pool: AmmPool, amount_in: int) -> AmmSwap:
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
    fee = -(-amount_in * FEE_NUMERATOR // FEE_DENOMINATOR)
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
