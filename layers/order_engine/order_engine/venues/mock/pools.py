"""What a simulated exchange sees of the market, and what it answers.

A venue's module has one function, ``swap(view, amount_in) -> PoolSwap``: the pool it keeps for the
pair, at the price of the slot, and the swap maths of its program.
"""

from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction

from order_engine.domain.tokens import Token

STABLECOINS = frozenset({"USDC", "USDT"})
MAJORS = frozenset({"SOL", "USDC", "USDT", "ETH", "BTC"})

_DEPTH_USD = {
    "SOL": 1_500_000,
    "USDC": 3_000_000,
    "USDT": 3_000_000,
    "ETH": 2_000_000,
    "BTC": 2_500_000,
    "BONK": 400_000,
    "JUP": 500_000,
    "RAY": 600_000,
}
_DEFAULT_DEPTH_USD = 50_000
"""Value of one side of a constant product pool; a pair has the depth of its shallower token."""


class SwapImpossible(Exception):
    """Stand for every reason why a pool cannot make a swap."""


class InsufficientLiquidity(SwapImpossible):
    """Report that the pool does not hold enough of the output token."""


class AmountTooSmall(SwapImpossible):
    """Report an input that buys less than one base unit of the output token."""


@dataclass(frozen=True, slots=True)
class PoolSwap:
    """Tell what a swap gives at one slot; amounts in base units, impact as a fraction."""

    amount_out: int
    fee_fraction: Fraction
    price_impact: Fraction
    liquidity: int
    """Value of the whole pool in base units of the output token."""
    spot_price: Fraction
    """Base units out per base unit in, before fees and impact."""


@dataclass(frozen=True, slots=True)
class PoolView:
    """Show a pair at one slot: who is base and quote, which of them is sold, and the price.

    ``unit_price`` gives the venue's price at any slot, base units of ``quote`` per base unit of
    ``base``.
    """

    base: Token
    quote: Token
    sells_base: bool
    slot: int
    slot_ms: int
    unit_price: Callable[[int], Fraction]


type Swap = Callable[[PoolView, int], PoolSwap]
"""Compute a swap of so many base units; raises ``SwapImpossible``."""


def pair_depth_usd(base: Token, quote: Token) -> int:
    """Return what one side of the pair's pool is worth."""
    return min(_DEPTH_USD.get(token.symbol, _DEFAULT_DEPTH_USD) for token in (base, quote))


def units_worth(usd: int | Fraction, token: Token) -> int:
    """Return how many base units of a token so many dollars buy at its reference price."""
    return int(usd * 10**token.decimals / Fraction(token.reference_price_usd))
