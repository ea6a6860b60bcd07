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
from fractions import Fraction
from functools import lru_cache
from hashlib import blake2b
from importlib import import_module
from typing import Protocol

from order_engine.domain.orders import VenueName
from order_engine.domain.tokens import TOKENS, Token
from order_engine.venues import registry
from order_engine.venues.mock.pools import STABLECOINS, PoolSwap, PoolView, Swap
from order_engine.venues.mock.settings import MockSettings, VolatilityName

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND = timedelta(milliseconds=1)
_UNIT = 10**9
"""Noise and price factors are integers in parts of a billion."""
_UNITS_PER_BPS = _UNIT // 10_000

_STABLECOIN_DAMPING = 100
"""Stablecoins move this many times less than other tokens."""
_STABLE_PAIR_BASIS_DAMPING = 10
_QUOTE_PRIORITY = ("USDC", "USDT", "SOL", "BTC", "ETH")
"""Which token of a pair is the quote (Y); of two others, the one later in the alphabet."""


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


class NoPool(Exception):
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

        Raises ``NoPool`` like ``swap``. The bin pool trades at the bin nearest to this price.
        """
        base, quote = self._route(token_in, token_out, venue, slot)
        price = self._pair_price(base, quote, venue, slot)
        return price if base.symbol == token_in else 1 / price

    def swap(
        self, token_in: str, token_out: str, amount_in: int, venue: VenueName, slot: int
    ) -> PoolSwap:
        """Compute a swap of ``amount_in`` base units at the pool's state of ``slot``.

        Raises ``NoPool`` for an unknown token, a pair of one token with itself and a pool that is
        not open at ``slot``; ``SwapImpossible`` when the pool cannot fill it.
        """
        return _simulation(venue)(self.view(token_in, token_out, venue, slot), amount_in)

    def view(self, token_in: str, token_out: str, venue: VenueName, slot: int) -> PoolView:
        """Return what the venue's simulation sees of the pair; raises ``NoPool`` like ``swap``."""
        base, quote = self._route(token_in, token_out, venue, slot)
        return PoolView(
            base=base,
            quote=quote,
            sells_base=base.symbol == token_in,
            slot=slot,
            slot_ms=self._slot_ms,
            unit_price=lambda at: self._unit_price(base, quote, venue, at),
        )

    def _route(
        self, token_in: str, token_out: str, venue: VenueName, slot: int
    ) -> tuple[Token, Token]:
        """Return (base, quote) of the pool that swaps the two tokens."""
        first, second = self._tokens.get(token_in), self._tokens.get(token_out)
        if first is None or second is None or first is second:
            raise NoPool(f"{venue} has no pool for {token_in}/{token_out}")
        base, quote = sorted((first, second), key=_quote_rank, reverse=True)
        if (base.launchable or quote.launchable) and not self._is_open(base, quote, venue, slot):
            raise NoPool(f"{venue}'s pool for {base.symbol}/{quote.symbol} is not open")
        return base, quote

    def _is_open(self, base: Token, quote: Token, venue: VenueName, slot: int) -> bool:
        opens_at = self._calendar.pool_opens_at(base.symbol, quote.symbol, venue)
        return opens_at is not None and slot >= self.slot_at(opens_at)

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
        if token.symbol in STABLECOINS:
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
        if base.symbol in STABLECOINS and quote.symbol in STABLECOINS:
            basis //= _STABLE_PAIR_BASIS_DAMPING
        return basis


@lru_cache(maxsize=64)
def _simulation(venue: VenueName) -> Swap:
    """Return the swap function of the venue's module; raises ``KeyError`` for an unknown venue."""
    listing = next(listing for listing in registry.venues() if listing.name == venue)
    swap: Swap = import_module(listing.simulation_module).swap
    return swap


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


def _quote_rank(token: Token) -> tuple[int, str]:
    if token.symbol in _QUOTE_PRIORITY:
        return _QUOTE_PRIORITY.index(token.symbol), token.symbol
    return len(_QUOTE_PRIORITY), token.symbol
