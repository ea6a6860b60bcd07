"""What every order type must do, and that Postgres releases its orders by the same rule."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import psycopg
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from psycopg import sql
from psycopg.types.json import Jsonb
from tests.support import if_touched

from order_engine.adapters.postgres.resting import CONDITIONS
from order_engine.domain.failures import FailureCode
from order_engine.domain.money import from_base_units
from order_engine.domain.orders import (
    ExecutionTerms,
    OrderTerms,
    Quote,
    SniperTrigger,
    execution_terms_of,
)
from order_engine.domain.tokens import TOKENS
from order_engine.domain.types import order_types
from order_engine.domain.types.rules import OrderTypeRules
from order_engine.execution.resting.offers import venue_price

TYPES: list[OrderTypeRules] = [*order_types(), if_touched.IfTouched()]
RESTING = [rules for rules in TYPES if rules.rests]
ALL_CONDITIONS = {**CONDITIONS, if_touched.IfTouched.name: if_touched.CONDITION}

amounts = st.decimals("0.000001", "1000000", places=6)
prices = st.decimals("0.0001", "10000", places=18)
each_type = pytest.mark.parametrize("rules", TYPES, ids=lambda rules: rules.name)
each_resting_type = pytest.mark.parametrize("rules", RESTING, ids=lambda rules: rules.name)


def terms_of(rules: OrderTypeRules, amount_in: Decimal, **given_terms: Any) -> OrderTerms:
    """Return an order's terms with those of its type, and no others."""
    own = {name: value for name, value in given_terms.items() if name in rules.terms}
    return OrderTerms(
        user_id="someone",
        type=rules.name,
        token_in="SOL",
        token_out="USDC",
        amount_in=amount_in,
        slippage_bps=50,
        **own,
    )


def quote_of(price: Decimal, amount_in: Decimal, liquidity: Decimal = Decimal(10)) -> Quote:
    return Quote(
        dex="raydium",
        price=price,
        amount_out=price * amount_in,
        fee_pct=Decimal("0.25"),
        price_impact_pct=Decimal(0),
        liquidity=liquidity,
        slot=1,
    )


def execution_of(terms: OrderTerms) -> ExecutionTerms:
    return execution_terms_of("7b3c0d6e-52a1-4f0e-9a5e-0c2f8d1b4a77", terms)


@each_type
def test_name_is_one_that_an_order_may_carry(rules: OrderTypeRules) -> None:
    assert terms_of(rules, Decimal(1)).type == rules.name


@each_type
def test_type_that_rests_has_an_end_and_a_condition_in_sql(rules: OrderTypeRules) -> None:
    assert ("expires_at" in rules.terms) == rules.rests
    assert (rules.name in ALL_CONDITIONS) == rules.rests


@each_type
def test_terms_are_terms_of_an_order(rules: OrderTypeRules) -> None:
    assert rules.terms <= set(OrderTerms.model_fields)


@each_type
def test_lost_transaction_counts_against_the_retries(rules: OrderTypeRules) -> None:
    assert rules.counts(FailureCode.TX_EXPIRED)


@each_type
@given(price=prices, limit=prices, amount_in=amounts)
@settings(max_examples=50)
def test_quote_that_meets_the_bound_pays_the_least_amount(
    rules: OrderTypeRules, price: Decimal, limit: Decimal, amount_in: Decimal
) -> None:
    trigger = SniperTrigger(max_price=limit)
    terms = execution_of(terms_of(rules, amount_in, limit_price=limit, trigger=trigger))
    quote = quote_of(price, amount_in)

    least = from_base_units(rules.least_amount_out(terms), TOKENS["USDC"].decimals)

    one_base_unit = Decimal(1).scaleb(-TOKENS["USDC"].decimals)
    if rules.is_met(terms, quote):
        assert quote.amount_out > least - one_base_unit
    elif rules.least_amount_out(terms):
        assert quote.amount_out < least


@each_resting_type
@given(
    price=prices,
    limit=prices,
    amount_in=amounts,
    liquidity=amounts,
    least_liquidity=amounts,
    venue=st.sampled_from(["any", "raydium", "meteora"]),
)
@example(
    price=Decimal("3.3333333333333333"),
    limit=Decimal("0.3"),
    amount_in=Decimal(1),
    liquidity=Decimal(1_000_000),
    least_liquidity=Decimal("0.000001"),
    venue="any",
)
@example(
    price=Decimal("1.000000000000000001"),
    limit=Decimal("0.999999999999999999"),
    amount_in=Decimal(1),
    liquidity=Decimal(1_000_000),
    least_liquidity=Decimal("0.000001"),
    venue="any",
)
@settings(
    max_examples=150,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
def test_postgres_releases_exactly_what_the_rule_says_is_met(
    database: psycopg.Connection[Any],
    rules: OrderTypeRules,
    price: Decimal,
    limit: Decimal,
    amount_in: Decimal,
    liquidity: Decimal,
    least_liquidity: Decimal,
    venue: str,
) -> None:
    trigger = SniperTrigger(venue=venue, min_liquidity=least_liquidity, max_price=limit)
    terms = terms_of(rules, amount_in, limit_price=limit, trigger=trigger)
    quote = quote_of(price, amount_in, liquidity)
    offer = venue_price("raydium", quote, amount_in)

    row = database.execute(
        sql.SQL(
            "SELECT {condition} AS is_met FROM"
            " (SELECT %(limit)s::numeric AS limit_price, %(amount_in)s::numeric AS amount_in,"
            "  %(trigger)s::jsonb AS sniper_trigger) AS orders,"
            " (SELECT %(venue)s::text AS venue, %(price)s::numeric AS price,"
            "  %(size)s::numeric AS size, %(impact)s::numeric AS impact,"
            "  %(liquidity)s::numeric AS liquidity) AS offer"
        ).format(condition=sql.SQL(ALL_CONDITIONS[rules.name])),
        {
            "limit": terms.limit_price,
            "amount_in": terms.amount_in,
            "trigger": Jsonb(terms.trigger.to_json_dict()) if terms.trigger else None,
            "venue": offer.venue,
            "price": offer.price,
            "size": offer.amount_in,
            "impact": offer.impact,
            "liquidity": offer.liquidity,
        },
    ).fetchone()

    assert row is not None
    assert row["is_met"] == rules.is_met(execution_of(terms), quote)
