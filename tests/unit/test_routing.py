"""The choice between venues."""

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from order_engine.domain.orders import Quote
from order_engine.domain.routing import NEAR_TIE_BPS, best_quote

amounts = st.decimals("0.000001", "1000000", places=6)


def a_quote(dex: str, amount_out: str | Decimal, liquidity: str | Decimal = "1000") -> Quote:
    return Quote(
        dex=dex,
        price=Decimal(amount_out),
        amount_out=Decimal(amount_out),
        fee_pct=Decimal("0.25"),
        price_impact_pct=Decimal(0),
        liquidity=Decimal(liquidity),
        slot=1,
    )


def test_clearly_better_output_wins_whatever_the_liquidity() -> None:
    quotes = [a_quote("raydium", "101", "1"), a_quote("meteora", "100", "1000000")]
    assert best_quote(quotes).dex == "raydium"


def test_near_tie_goes_to_the_deeper_pool() -> None:
    quotes = [a_quote("raydium", "100.01", "1"), a_quote("meteora", "100", "1000000")]
    assert best_quote(quotes).dex == "meteora"


def test_single_quote_wins() -> None:
    assert best_quote([a_quote("meteora", "1")]).dex == "meteora"


def test_no_quotes_is_an_error() -> None:
    with pytest.raises(ValueError, match="no quotes"):
        best_quote([])


@given(amounts, amounts, amounts, amounts)
def test_winner_pays_no_less_than_the_near_tie_allows(
    raydium_out: Decimal, meteora_out: Decimal, raydium_depth: Decimal, meteora_depth: Decimal
) -> None:
    quotes = [
        a_quote("raydium", raydium_out, raydium_depth),
        a_quote("meteora", meteora_out, meteora_depth),
    ]
    best = best_quote(quotes)
    assert best.amount_out >= max(raydium_out, meteora_out) * (1 - NEAR_TIE_BPS / 10_000)
    assert best == best_quote(list(reversed(quotes)))
