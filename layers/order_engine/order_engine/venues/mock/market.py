"""The mock market: prices and pools as a pure function of a seed and a slot.

Nothing is stored. Any process that knows the seed recomputes the same price of the same pair at
the same venue and slot, so a quote, the landing of its swap and a later audit agree. Prices are
integers and fractions throughout and thus equal on every platform.

Every token has a dollar price: its reference price times bounded, continuous noise. A pair's price
is the cross rate of two tokens, hence free of triangular arbitrage; each venue adds a small,
slowly moving basis. Pools follow the price as arbitraged pools do: the constant product pool at a
constant product, the bin pool with its bins around the bin nearest to the price.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Context, Decimal
from fractions import Fraction
from functools import lru_cache
from hashlib import blake2b
from math import isqrt
from typing import Protocol

from order_engine.domain.tokens import TOKENS, Token
from order_engine.settings import MockSettings, VenueName, VolatilityName
from order_engine.venues.mock import meteora_dlmm, raydium_amm

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND = timedelta(milliseconds=1)
_UNIT = 10**9
"""Noise and price factors are integers in parts of a billion."""
_UNITS_PER_BPS = _UNIT // 10_000
_LOGARITHM = Context(prec=50)

_STABLECOINS = frozenset({"USDC", "USDT"})
_STABLECOIN_DAMPING = 100
"""Stablecoins move this many times less than other tokens."""
_STABLE_PAIR_BASIS_DAMPING = 10
_QUOTE_PRIORITY = ("USDC", "USDT", "SOL", "BTC", "ETH")
"""Which token of a pair is the quote (Y); of two others, the one later in the alphabet."""
_MAJORS = frozenset({"SOL", "USDC", "USDT", "ETH", "BTC"})

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

_BIN_DEPTH_SHARE = 50
"""The active bin holds a fiftieth of the pair's depth on each side."""
_BIN_DECAY = Fraction(97, 100)
_BINS_PER_SIDE = 150
_FILTER_PERIOD_SECONDS = 30
_REDUCTION_FACTOR_BPS = 5_000
"""DLMM volatility memory: the references renew every filter period, halved each time."""


@dataclass(frozen=True, slots=True)
class VolatilityProfile:
    """Set how prices move.

    The price noise is a sum of octaves; each has four times the period of the one before and,
    as in a random walk, twice its amplitude.
    """

    finest_amplitude: int
    octaves: int
    basis_amplitude: int
    basis_moves: bool = True


PROFILES: Mapping[VolatilityName, VolatilityProfile] = {
    "still": VolatilityProfile(0, 0, 75 * _UNITS_PER_BPS, basis_moves=False),
    "calm": VolatilityProfile(_UNITS_PER_BPS // 5, 9, 50 * _UNITS_PER_BPS),
    "normal": VolatilityProfile(_UNITS_PER_BPS, 9, 100 * _UNITS_PER_BPS),
    "wild": VolatilityProfile(20 * _UNITS_PER_BPS, 6, 150 * _UNITS_PER_BPS),
}
_FINEST_PERIOD_SLOTS = 2
_BASIS_PERIODS_SLOTS = ((64, 4), (512, 4), (8192, 2))
"""Periods of the basis noise, each with the divisor of the basis amplitude that it gets."""


class NoRoute(Exception):
    """Report that a venue has no pool for a pair (or none yet)."""


class PoolCalendar(Protocol):
    """Know when pools of launchable tokens open."""

    def pool_opens_at(self, base: str, quote: str, venue: VenueName) -> datetime | None:
        """Return when the pool of ``base``/``quote`` opens, ``None`` when it is not planned."""
        ...


class EmptyCalendar:
    """Plan no pool: launchable tokens cannot be traded."""

    def pool_opens_at(self, base: str, quote: str, venue: VenueName) -> datetime | None:
        """Return ``None``."""
        return None


@dataclass(frozen=True, slots=True)
class PoolSwap:
    """Tell what a swap gives at one slot; amounts in base units, impact as a fraction."""

    amount_out: int
    fee_fraction: Fraction
    price_impact: Fraction
    liquidity: int
    """Value of the whole pool in base units of the output token."""


class Market:
    """Price swaps at any venue and slot."""

    def __init__(
        self,
        *,
        seed: int,
        volatility: VolatilityName = "normal",
        slot_ms: int = 400,
        calendar: PoolCalendar | None = None,
        tokens: Mapping[str, Token] = TOKENS,
    ) -> None:
        self._seed = seed
        self._profile = PROFILES[volatility]
        self._slot_ms = slot_ms
        self._calendar = calendar if calendar is not None else EmptyCalendar()
        self._tokens = tokens

    @classmethod
    def of(cls, settings: MockSettings, calendar: PoolCalendar | None = None) -> "Market":
        """Make the market that the settings describe."""
        return cls(
            seed=settings.seed,
            volatility=settings.volatility,
            slot_ms=settings.slot_ms,
            calendar=calendar,
        )

    def slot_at(self, moment: datetime) -> int:
        """Return ``floor(unix_ms / slot_ms)``; the mock chain's block height is its slot."""
        return (moment - _EPOCH) // _MILLISECOND // self._slot_ms

    def price(self, token_in: str, token_out: str, venue: VenueName, slot: int) -> Fraction:
        """Return a venue's price before fees and impact, tokenOut per tokenIn.

        Raises ``NoRoute`` like ``swap``. The bin pool trades at the bin nearest to this price.
        """
        base, quote = self._route(token_in, token_out, venue, slot)
        price = self._pair_price(base, quote, venue, slot)
        return price if base.symbol == token_in else 1 / price

    def swap(
        self, token_in: str, token_out: str, amount_in: int, venue: VenueName, slot: int
    ) -> PoolSwap:
        """Compute a swap of ``amount_in`` base units at the pool's state of ``slot``.

        Raises ``NoRoute`` for an unknown token, a pair of one token with itself and a pool that is
        not open at ``slot``; ``pricing.errors.SwapImpossible`` when the pool cannot fill it.
        """
        base, quote = self._route(token_in, token_out, venue, slot)
        sells_base = base.symbol == token_in
        if venue == "raydium":
            return self._swap_at_raydium(base, quote, amount_in, slot, sells_base=sells_base)
        return self._swap_at_meteora(base, quote, amount_in, slot, sells_base=sells_base)

    def amm_pool(self, base: Token, quote: Token, slot: int) -> raydium_amm.AmmPool:
        """Return Raydium's pool, seen from the one who sells ``base``.

        The product of the reserves is constant; their ratio is the price of the slot.
        """
        depth = _pair_depth_usd(base, quote)
        product = _units_worth(depth, base) * _units_worth(depth, quote)
        price = self._unit_price(base, quote, "raydium", slot)
        reserve_base = isqrt(product * price.denominator // price.numerator)
        reserve_quote = reserve_base * price.numerator // price.denominator
        return raydium_amm.AmmPool(reserve_in=reserve_base, reserve_out=reserve_quote)

    def dlmm_pool(self, base: Token, quote: Token, slot: int) -> meteora_dlmm.DlmmPool:
        """Return Meteora's pool of ``base`` (X) and ``quote`` (Y).

        The volatility references are those of a pool that is traded all the time: the index
        reference is the active bin at the start of the filter period, the volatility reference
        what was left of the movement in the period before.
        """
        bin_step = _bin_step(base, quote)
        period_slots = max(1, _FILTER_PERIOD_SECONDS * 1000 // self._slot_ms)
        period_start = slot - slot % period_slots
        active_id, reference_id, earlier_id = (
            self._active_bin_id(base, quote, bin_step, at)
            for at in (slot, period_start, period_start - period_slots)
        )
        fees = meteora_dlmm.FeeParameters()
        moved = abs(reference_id - earlier_id) * meteora_dlmm.BASIS_POINT_MAX
        remembered = min(moved, fees.max_volatility_accumulator) * _REDUCTION_FACTOR_BPS
        return meteora_dlmm.DlmmPool(
            bin_step=bin_step,
            active_id=active_id,
            bins=_bins_around(active_id, base, quote),
            index_reference=reference_id,
            volatility_reference=remembered // meteora_dlmm.BASIS_POINT_MAX,
            fees=fees,
        )

    def _swap_at_raydium(
        self, base: Token, quote: Token, amount_in: int, slot: int, *, sells_base: bool
    ) -> PoolSwap:
        pool = self.amm_pool(base, quote, slot)
        if not sells_base:
            pool = raydium_amm.AmmPool(pool.reserve_out, pool.reserve_in)
        swap = raydium_amm.swap_exact_in(pool, amount_in)
        return PoolSwap(
            amount_out=swap.amount_out,
            fee_fraction=Fraction(raydium_amm.FEE_NUMERATOR, raydium_amm.FEE_DENOMINATOR),
            price_impact=swap.price_impact,
            liquidity=2 * pool.reserve_out,
        )

    def _swap_at_meteora(
        self, base: Token, quote: Token, amount_in: int, slot: int, *, sells_base: bool
    ) -> PoolSwap:
        pool = self.dlmm_pool(base, quote, slot)
        swap = meteora_dlmm.swap_exact_in(pool, amount_in, swap_for_y=sells_base)
        held_x = sum(held.amount_x for held in pool.bins.values())
        held_y = sum(held.amount_y for held in pool.bins.values())
        spot = pool.spot_price
        return PoolSwap(
            amount_out=swap.amount_out,
            fee_fraction=Fraction(swap.fee, swap.amount_in),
            price_impact=swap.price_impact,
            liquidity=int(held_x * spot) + held_y if sells_base else held_x + int(held_y / spot),
        )

    def _route(
        self, token_in: str, token_out: str, venue: VenueName, slot: int
    ) -> tuple[Token, Token]:
        """Return (base, quote) of the pool that swaps the two tokens."""
        first, second = self._tokens.get(token_in), self._tokens.get(token_out)
        if first is None or second is None or first is second:
            raise NoRoute(f"{venue} has no pool for {token_in}/{token_out}")
        base, quote = sorted((first, second), key=_quote_rank, reverse=True)
        if (base.launchable or quote.launchable) and not self._is_open(base, quote, venue, slot):
            raise NoRoute(f"{venue}'s pool for {base.symbol}/{quote.symbol} is not open")
        return base, quote

    def _is_open(self, base: Token, quote: Token, venue: VenueName, slot: int) -> bool:
        opens_at = self._calendar.pool_opens_at(base.symbol, quote.symbol, venue)
        return opens_at is not None and slot >= self.slot_at(opens_at)

    def _active_bin_id(self, base: Token, quote: Token, bin_step: int, slot: int) -> int:
        """Return the bin nearest to the price: ``round(ln(price) / ln(1 + step / 10000))``."""
        price = self._unit_price(base, quote, "meteora", slot)
        logarithm = _LOGARITHM.subtract(
            _LOGARITHM.ln(Decimal(price.numerator)), _LOGARITHM.ln(Decimal(price.denominator))
        )
        return int(_LOGARITHM.divide(logarithm, _bin_width(bin_step)).to_integral_value())

    def _unit_price(self, base: Token, quote: Token, venue: VenueName, slot: int) -> Fraction:
        """Return the price in base units of ``quote`` per base unit of ``base``."""
        price = self._pair_price(base, quote, venue, slot)
        return price * Fraction(10**quote.decimals, 10**base.decimals)

    def _pair_price(self, base: Token, quote: Token, venue: VenueName, slot: int) -> Fraction:
        basis = _UNIT + self._basis(base, quote, venue, slot)
        return (
            Fraction(base.reference_price_usd)
            / Fraction(quote.reference_price_usd)
            * Fraction(self._token_factor(base, slot) * basis, self._token_factor(quote, slot))
            / _UNIT
        )

    def _token_factor(self, token: Token, slot: int) -> int:
        """Return a token's dollar price relative to its reference, in parts of a billion."""
        movement = 0
        for octave in range(self._profile.octaves):
            noise = _noise(
                self._seed, f"token/{token.symbol}/{octave}", slot, _FINEST_PERIOD_SLOTS * 4**octave
            )
            movement += self._profile.finest_amplitude * 2**octave * noise // _UNIT
        if token.symbol in _STABLECOINS:
            movement //= _STABLECOIN_DAMPING
        return _UNIT + movement

    def _basis(self, base: Token, quote: Token, venue: VenueName, slot: int) -> int:
        """Return how far a venue is off the pair's common price, in parts of a billion."""
        basis = 0
        for period_slots, divisor in _BASIS_PERIODS_SLOTS:
            noise = _noise(
                self._seed,
                f"basis/{base.symbol}/{quote.symbol}/{venue}/{period_slots}",
                slot if self._profile.basis_moves else 0,
                period_slots,
            )
            basis += self._profile.basis_amplitude * noise // _UNIT // divisor
        if base.symbol in _STABLECOINS and quote.symbol in _STABLECOINS:
            basis //= _STABLE_PAIR_BASIS_DAMPING
        return basis


def _noise(seed: int, name: str, slot: int, period_slots: int) -> int:
    """Return value noise in [-1, 1] (parts of a billion), continuous in the slot.

    Random values stand at every ``period_slots``-th slot, from a phase of the series' own, and
    are joined by the smoothstep ``3t^2 - 2t^3``.
    """
    phase = _lattice_value(seed, name, -1) % period_slots
    cell, position = divmod(slot + phase, period_slots)
    left = _lattice_value(seed, name, cell)
    right = _lattice_value(seed, name, cell + 1)
    weight = position * position * (3 * period_slots - 2 * position)
    return left + (right - left) * weight // period_slots**3


@lru_cache(maxsize=8192)
def _lattice_value(seed: int, name: str, cell: int) -> int:
    digest = blake2b(f"{seed}/{name}/{cell}".encode(), digest_size=8).digest()
    return (int.from_bytes(digest) * (2 * _UNIT + 1) >> 64) - _UNIT


@lru_cache(maxsize=16)
def _bin_width(bin_step: int) -> Decimal:
    return _LOGARITHM.ln(1 + Decimal(bin_step) / meteora_dlmm.BASIS_POINT_MAX)


@lru_cache(maxsize=4)
def _decays() -> tuple[Fraction, ...]:
    return tuple(_BIN_DECAY**distance for distance in range(_BINS_PER_SIDE + 1))


@lru_cache(maxsize=256)
def _bin_amounts(base: Token, quote: Token) -> tuple[tuple[int, int], ...]:
    """Return (X, Y) of a bin by its distance from the active bin, ``floor(depth * 0.97^k)``."""
    depth = Fraction(_pair_depth_usd(base, quote), _BIN_DEPTH_SHARE)
    depth_x, depth_y = _units_worth(depth, base), _units_worth(depth, quote)
    return tuple((int(depth_x * decay), int(depth_y * decay)) for decay in _decays())


def _bins_around(active_id: int, base: Token, quote: Token) -> dict[int, meteora_dlmm.Bin]:
    """Return the bins: Y below the active bin, X above it, both in it."""
    amounts = _bin_amounts(base, quote)
    bins = {active_id: meteora_dlmm.Bin(*amounts[0])}
    for distance in range(1, len(amounts)):
        amount_x, amount_y = amounts[distance]
        bins[active_id - distance] = meteora_dlmm.Bin(0, amount_y)
        bins[active_id + distance] = meteora_dlmm.Bin(amount_x, 0)
    return bins


def _quote_rank(token: Token) -> tuple[int, str]:
    if token.symbol in _QUOTE_PRIORITY:
        return _QUOTE_PRIORITY.index(token.symbol), token.symbol
    return len(_QUOTE_PRIORITY), token.symbol


def _pair_depth_usd(base: Token, quote: Token) -> int:
    return min(_DEPTH_USD.get(token.symbol, _DEFAULT_DEPTH_USD) for token in (base, quote))


def _units_worth(usd: int | Fraction, token: Token) -> int:
    return int(usd * 10**token.decimals / Fraction(token.reference_price_usd))


def _bin_step(base: Token, quote: Token) -> int:
    """Return the bin step in basis points: finer, the steadier the pair."""
    symbols = {base.symbol, quote.symbol}
    if symbols <= _STABLECOINS:
        return 1
    return 10 if symbols <= _MAJORS else 20
