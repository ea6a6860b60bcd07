from datetime import UTC, datetime, timedelta
from fractions import Fraction
from itertools import pairwise, permutations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from order_engine.domain.orders import VenueName
from order_engine.domain.tokens import TOKENS
from order_engine.venues.mock import meteora, raydium
from order_engine.venues.mock.market import PROFILES, Market, NoPool
from order_engine.venues.mock.pools import InsufficientLiquidity
from order_engine.venues.mock.settings import MockSettings, VolatilityName
from order_engine.venues.registry import venue_names

VENUES = venue_names()
NOON = datetime(2026, 11, 21, 12, tzinfo=UTC)
MARKET = Market(seed=42)
SLOT = MARKET.slot_at(NOON)
LISTED = [symbol for symbol, token in TOKENS.items() if not token.launchable]

slots = st.integers(min_value=SLOT - 10**7, max_value=SLOT + 10**7)
profiles = st.sampled_from(sorted(PROFILES))
seeds = st.integers(min_value=0, max_value=2**32)
pairs = st.sampled_from(list(permutations(LISTED, 2)))


class OneLaunch:
    """Open every pool of a launchable token at one venue and time."""

    def __init__(self, venue: VenueName, opens_at: datetime) -> None:
        self.venue = venue
        self.opens_at = opens_at

    def pool_opens_at(self, base: str, quote: str, venue: VenueName) -> datetime | None:
        return self.opens_at if venue == self.venue else None


def dollars(usd: int, symbol: str) -> int:
    """Return base units of a token worth ``usd`` at its reference price."""
    token = TOKENS[symbol]
    return int(usd * 10**token.decimals / Fraction(token.reference_price_usd))


def largest_basis(volatility: VolatilityName) -> Fraction:
    return Fraction(PROFILES[volatility].basis_amplitude, 10**9)


def test_slot_counts_whole_slots_since_the_epoch() -> None:
    assert Market(seed=1, slot_ms=400).slot_at(datetime(1970, 1, 1, 0, 0, 1, tzinfo=UTC)) == 2
    assert MARKET.slot_at(NOON + timedelta(milliseconds=399)) == SLOT
    assert MARKET.slot_at(NOON + timedelta(milliseconds=400)) == SLOT + 1


def test_world_of_a_seed_is_the_same_everywhere() -> None:
    # Pinned: a change of these numbers is a change of every quote that was ever stored.
    raydium = MARKET.swap("SOL", "USDC", 10**9, "raydium", 4_400_000_000)
    meteora = MARKET.swap("SOL", "USDC", 10**9, "meteora", 4_400_000_000)
    bonk = MARKET.swap("BONK", "JUP", 10**12, "meteora", 4_400_000_001)

    assert raydium.amount_out == 149_977_331
    assert meteora.amount_out == 151_214_392
    assert bonk.amount_out == 251_578_593


def test_still_market_has_one_price_for_all_time() -> None:
    still = Market(seed=7, volatility="still")

    prices = {still.price("SOL", "USDC", "raydium", slot) for slot in range(0, 10**7, 99_991)}

    assert len(prices) == 1


def test_settings_choose_the_market() -> None:
    chosen = Market.of(MockSettings(seed=5, volatility="wild", slot_ms=100))

    assert chosen.slot_at(NOON) == SLOT * 4
    assert chosen.price("SOL", "USDC", "raydium", SLOT) == Market(seed=5, volatility="wild").price(
        "SOL", "USDC", "raydium", SLOT
    )


def test_other_seed_is_another_world() -> None:
    prices = {Market(seed=seed).price("SOL", "USDC", "raydium", SLOT) for seed in range(20)}

    assert len(prices) == 20


def test_profiles_differ_in_how_far_a_price_moves_in_two_seconds() -> None:
    def mean_move(volatility: VolatilityName) -> float:
        market = Market(seed=3, volatility=volatility)
        prices = [market.price("SOL", "USDC", "raydium", SLOT + 5 * i) for i in range(400)]
        moves = [abs(float(b / a) - 1) for a, b in pairwise(prices)]
        return sum(moves) / len(moves)

    still, calm, normal, wild = (mean_move(name) for name in ("still", "calm", "normal", "wild"))

    assert still == 0
    assert calm < normal < wild
    assert calm < 0.0002
    assert 0.001 < wild < 0.01


@pytest.mark.parametrize(("token_in", "token_out"), list(permutations(LISTED, 2)))
def test_every_pair_of_listed_tokens_routes_at_a_fair_price(token_in: str, token_out: str) -> None:
    for venue in VENUES:
        swap = MARKET.swap(token_in, token_out, dollars(500, token_in), venue, SLOT)

        worth = Fraction(swap.amount_out, dollars(500, token_out))
        assert Fraction(88, 100) < worth < Fraction(112, 100)
        assert swap.liquidity > swap.amount_out


def test_large_order_gets_a_worse_price_than_a_small_one_at_both_venues() -> None:
    for venue in VENUES:
        small = MARKET.swap("SOL", "USDC", 10**9, venue, SLOT)
        large = MARKET.swap("SOL", "USDC", 2_000 * 10**9, venue, SLOT)

        assert large.amount_out < 2_000 * small.amount_out
        assert large.price_impact > small.price_impact


def test_either_venue_wins_some_slots() -> None:
    winners = set()
    for slot in range(SLOT, SLOT + 400_000, 4_001):
        raydium, meteora = (
            MARKET.swap("SOL", "USDC", 10**9, venue, slot).amount_out
            for venue in ("raydium", "meteora")
        )
        winners.add(raydium > meteora)

    assert winners == {True, False}


def test_order_beyond_the_bins_has_insufficient_liquidity_at_meteora_only() -> None:
    amount = dollars(5_000_000, "SOL")

    assert MARKET.swap("SOL", "USDC", amount, "raydium", SLOT).amount_out > 0
    with pytest.raises(InsufficientLiquidity):
        MARKET.swap("SOL", "USDC", amount, "meteora", SLOT)


@pytest.mark.parametrize(
    ("token_in", "token_out"), [("SOL", "SOL"), ("SOL", "NOPE"), ("NOPE", "SOL"), ("", "SOL")]
)
def test_pair_without_a_pool_has_no_route(token_in: str, token_out: str) -> None:
    with pytest.raises(NoPool):
        MARKET.swap(token_in, token_out, 10**9, "raydium", SLOT)


def test_launchable_token_has_no_route_without_a_launch() -> None:
    with pytest.raises(NoPool, match="not open"):
        MARKET.swap("SOL", "MOON", 10**9, "raydium", SLOT)


def test_launchable_token_routes_from_the_slot_of_its_launch_at_its_venue() -> None:
    market = Market(seed=42, calendar=OneLaunch("meteora", NOON))

    with pytest.raises(NoPool):
        market.swap("SOL", "MOON", 10**9, "meteora", SLOT - 1)
    assert market.swap("SOL", "MOON", 10**9, "meteora", SLOT).amount_out > 0
    assert market.swap("MOON", "SOL", 10**9, "meteora", SLOT).amount_out > 0
    with pytest.raises(NoPool):
        market.swap("SOL", "MOON", 10**9, "raydium", SLOT)


def test_raydium_pool_keeps_its_product_while_the_price_moves() -> None:
    market = Market(seed=42, volatility="wild")

    product = Fraction(10_000 * 10**9 * 1_500_000 * 10**6)
    for slot in range(SLOT, SLOT + 10**6, 50_021):
        pool = raydium.pool_of(market.view("SOL", "USDC", "raydium", slot))
        assert abs(pool.reserve_in * pool.reserve_out / product - 1) < Fraction(1, 10**9)


@given(seed=seeds, volatility=profiles, pair=pairs, slot=slots)
@settings(max_examples=60)
def test_venues_are_never_further_apart_than_their_two_bases(
    seed: int, volatility: VolatilityName, pair: tuple[str, str], slot: int
) -> None:
    market = Market(seed=seed, volatility=volatility)
    prices = [market.price(*pair, venue, slot) for venue in VENUES]

    basis = largest_basis(volatility)
    assert max(prices) / min(prices) <= (1 + basis) / (1 - basis)
    assert (1 + basis) / (1 - basis) < Fraction(105, 100)


@given(
    seed=seeds,
    volatility=profiles,
    pair=st.sampled_from([("SOL", "USDC"), ("BONK", "SOL"), ("USDT", "USDC"), ("RAY", "BTC")]),
    slot=slots,
)
@settings(max_examples=60)
def test_meteora_trades_at_the_bin_nearest_to_its_price(
    seed: int, volatility: VolatilityName, pair: tuple[str, str], slot: int
) -> None:
    market = Market(seed=seed, volatility=volatility)
    base, quote = TOKENS[pair[0]], TOKENS[pair[1]]

    pool = meteora.pool_of(market.view(*pair, "meteora", slot))
    price = market.price(*pair, "meteora", slot)
    bin_price = pool.spot_price * Fraction(10**base.decimals, 10**quote.decimals)

    half_a_bin = 1 + Fraction(pool.bin_step, 20_000)
    rounding = 1 + Fraction(1, 10**6)
    assert max(bin_price / price, price / bin_price) <= half_a_bin * rounding


@given(seed=seeds, volatility=profiles, pair=pairs, venue=st.sampled_from(VENUES), slot=slots)
@settings(max_examples=60)
def test_price_is_deterministic_bounded_and_continuous(
    seed: int, volatility: VolatilityName, pair: tuple[str, str], venue: VenueName, slot: int
) -> None:
    price = Market(seed=seed, volatility=volatility).price(*pair, venue, slot)

    again = Market(seed=seed, volatility=volatility)
    assert again.price(*pair, venue, slot) == price
    assert again.price(pair[1], pair[0], venue, slot) == 1 / price
    reference = Fraction(TOKENS[pair[0]].reference_price_usd) / Fraction(
        TOKENS[pair[1]].reference_price_usd
    )
    assert Fraction(7, 10) < price / reference < Fraction(14, 10)
    following = again.price(*pair, venue, slot + 1)
    assert abs(following / price - 1) < Fraction(2, 100)


@given(
    pair=pairs,
    venue=st.sampled_from(VENUES),
    slot=slots,
    usd=st.integers(min_value=1, max_value=10**6),
    more_usd=st.integers(min_value=0, max_value=10**6),
)
@settings(max_examples=60)
def test_larger_order_never_gives_less(
    pair: tuple[str, str], venue: VenueName, slot: int, usd: int, more_usd: int
) -> None:
    def output(dollars_in: int) -> int | None:
        amount_in = max(dollars(dollars_in, pair[0]), 10**4)
        try:
            return MARKET.swap(*pair, amount_in, venue, slot).amount_out
        except InsufficientLiquidity:
            return None

    smaller, larger = output(usd), output(usd + more_usd)
    assert (larger is None) or (smaller is not None and larger >= smaller)
