"""What comes of an order's fields, and what is refused."""

import json
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from order_engine.api.bodies import parse_json_object
from order_engine.api.digests import terms_digest
from order_engine.api.fields import IdempotencyKey, UserId
from order_engine.api.problems import PROBLEMS
from order_engine.api.requests import (
    MAX_BASE_UNITS,
    amendment_of,
    check_swap,
    checked_text,
    order_terms,
    own_user,
)
from order_engine.domain.changes import Amendment
from order_engine.domain.orders import OrderTerms
from order_engine.domain.tokens import TOKENS
from order_engine.errors import Rejected

REFERENCE_REQUESTS = {
    "amount and side": '{"tokenIn":"SOL","tokenOut":"USDC","amount":1.5,"side":"buy"}',
    "user id as uuid": '{"userId": "00000000-0000-0000-0000-000000000006", "type": "market",'
    '"tokenIn": "SOL", "tokenOut": "USDC", "amountIn": "1", "slippageTolerance": "0.01"}',
    "slippage": '{ "tokenIn": "SOL", "tokenOut": "USDC", "amount": 0.5, "slippage": 0.01 }',
    "orderType": '{"orderType": "market", "tokenIn": "SOL", "tokenOut": "USDC", "amountIn": 2}',
    "amountIn as number": '{"type": "market", "tokenIn": "USDC", "tokenOut": "ETH", '
    '"amountIn": 1000, "userId": "user123"}',
}


def terms_of(body: str, **options: Any) -> OrderTerms:
    return order_terms(parse_json_object(body), **options)


def terms_with(**fields: Any) -> OrderTerms:
    return order_terms(as_sent(fields))


def as_sent(fields: dict[str, Any]) -> dict[str, Any]:
    defaults = {"tokenIn": "SOL", "tokenOut": "USDC", "amountIn": "1"}
    if "amount" in fields:
        del defaults["amountIn"]
    return parse_json_object(json.dumps({**defaults, **fields}))


def refusal_of(body: str, **options: Any) -> Rejected:
    with pytest.raises(Rejected) as refusal:
        terms_of(body, **options)
    return refusal.value


def outcome_of(fields: dict[str, Any]) -> OrderTerms | Rejected:
    try:
        return order_terms(fields)
    except Rejected as refusal:
        return refusal


@pytest.mark.parametrize("body", REFERENCE_REQUESTS.values(), ids=REFERENCE_REQUESTS)
def test_requests_of_similar_systems_are_accepted_unchanged(body: str) -> None:
    terms = terms_of(body)

    assert terms.type == "market"
    assert terms.amount_in > 0


def test_fields_left_out_get_their_defaults() -> None:
    terms = terms_of('{"tokenIn": "SOL", "tokenOut": "USDC", "amount": 0.1}')

    assert terms == OrderTerms(
        user_id="anonymous",
        token_in="SOL",
        token_out="USDC",
        amount_in=Decimal("0.1"),
        slippage_bps=50,
        max_retries=3,
    )


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"amountIn": 1.5}, Decimal("1.5")),
        ({"amount": "1.50"}, Decimal("1.5")),
        ({"amount": 1e-9}, Decimal("0.000000001")),
        ({"amount": "15e-1"}, Decimal("1.5")),
        ({"amount": "001.0"}, Decimal(1)),
        ({"amount": 1, "amountIn": "1.0"}, Decimal(1)),
        ({"amount": "18446744073.709551615"}, Decimal("18446744073.709551615")),
    ],
)
def test_amounts_are_taken_exactly_under_either_name(
    fields: dict[str, Any], expected: Decimal
) -> None:
    amount_in = terms_with(**fields).amount_in

    assert amount_in == expected


@pytest.mark.parametrize(
    ("fields", "slippage_bps"),
    [
        ({"slippage": 0.01}, 100),
        ({"slippage": "0.0001"}, 1),
        ({"slippageTolerance": "0"}, 0),
        ({"slippageTolerance": 1}, 10_000),
        ({"slippageTolerance": "0.005", "slippage": 0.005}, 50),
        ({"slippageBps": 25}, 25),
        ({"slippageBps": 25.0}, 25),
        ({"slippage": None, "slippageBps": 7}, 7),
    ],
)
def test_slippage_is_taken_in_each_form(fields: dict[str, Any], slippage_bps: int) -> None:
    assert terms_with(**fields).slippage_bps == slippage_bps


def test_unknown_fields_and_nulls_are_ignored() -> None:
    terms = terms_with(side=None, trigger=None, limitPrice=None, price="1", nonsense={"a": [1]})

    assert terms == terms_with()


@pytest.mark.parametrize("token", ["SOL", "USDC", "USDT", "ETH", "BTC", "BONK", "JUP", "RAY"])
def test_tokens_can_be_given_and_wanted(token: str) -> None:
    other = "USDC" if token != "USDC" else "SOL"

    assert terms_with(tokenIn=token, tokenOut=other).token_in == token
    assert terms_with(tokenIn=other, tokenOut=token).token_out == token


BAD_FIELDS: list[tuple[dict[str, Any] | str, str, str]] = [
    # amounts
    ({"amountIn": -1}, "amountIn", "greater_than"),
    ({"amountIn": "-0.5"}, "amountIn", "greater_than"),
    ({"amount": 0}, "amount", "greater_than"),
    ({"amount": "0.000"}, "amount", "greater_than"),
    ({"amount": -0.0}, "amount", "greater_than"),
    ({"amount": "NaN"}, "amount", "number"),
    ({"amount": "nan"}, "amount", "number"),
    ({"amount": "Infinity"}, "amount", "number"),
    ({"amount": float("nan")}, "amount", "finite_number"),
    ({"amount": float("inf")}, "amount", "finite_number"),
    ({"amount": float("-inf")}, "amount", "finite_number"),
    ('{"tokenIn":"SOL","tokenOut":"USDC","amount":1e400}', "amount", "out_of_range"),
    ({"amount": "1e400"}, "amount", "out_of_range"),
    ('{"tokenIn":"SOL","tokenOut":"USDC","amount":1e-400}', "amount", "too_many_decimals"),
    ({"amount": 1e300}, "amount", "out_of_range"),
    ({"amount": "1e99999"}, "amount", "number"),
    ({"amount": 1e-12}, "amount", "too_many_decimals"),
    ({"amount": "0.0000000001"}, "amount", "too_many_decimals"),
    ({"amount": "1.0000000000000000001"}, "amount", "too_many_decimals"),
    ({"amount": "9" * 60}, "amount", "too_many_digits"),
    ({"amount": "1." + "0" * 59}, "amount", "too_many_digits"),
    ({"amount": "0." + "1" * 60}, "amount", "too_many_digits"),
    ({"amount": "9" * 61}, "amount", "number"),
    ({"amount": "18446744073.709551616"}, "amount", "out_of_range"),
    ({"amount": "1_000"}, "amount", "number"),
    ({"amount": " 1"}, "amount", "number"),
    ({"amount": "1\n"}, "amount", "number"),
    ({"amount": "1,5"}, "amount", "number"),
    ({"amount": "\u0661"}, "amount", "number"),
    ({"amount": "0x10"}, "amount", "number"),
    ({"amount": ""}, "amount", "number"),
    ({"amount": "1\u0000"}, "amount", "number"),
    ({"amount": True}, "amount", "number"),
    ({"amount": [1]}, "amount", "number"),
    ({"amount": {"value": 1}}, "amount", "number"),
    ({"amount": 1, "amountIn": 2}, "amount", "conflict"),
    ({"amountIn": None}, "amountIn", "missing"),
    ('{"tokenIn":"SOL","tokenOut":"USDC"}', "amountIn", "missing"),
    # tokens
    ({"tokenIn": "DOGE"}, "tokenIn", "unknown_token"),
    ({"tokenIn": "sol"}, "tokenIn", "unknown_token"),
    ({"tokenOut": "X" * 300}, "tokenOut", "unknown_token"),
    ({"tokenOut": "SOL\u0000"}, "tokenOut", "unknown_token"),
    ({"tokenOut": ""}, "tokenOut", "unknown_token"),
    ({"tokenOut": "SOL"}, "tokenOut", "same_token"),
    ({"tokenIn": 5}, "tokenIn", "string_type"),
    ({"tokenIn": ["SOL"]}, "tokenIn", "string_type"),
    ({"tokenIn": None}, "tokenIn", "missing"),
    ('{"tokenOut":"USDC","amount":1}', "tokenIn", "missing"),
    ('{"tokenIn":"SOL","amount":1}', "tokenOut", "missing"),
    # the other fields
    ({"type": "stop"}, "type", "enum"),
    ({"orderType": "MARKET"}, "orderType", "enum"),
    ({"type": 1}, "type", "enum"),
    ({"type": ["market"]}, "type", "enum"),
    ({"type": "market", "orderType": "limit"}, "orderType", "conflict"),
    ({"side": "hold"}, "side", "literal_error"),
    ({"slippage": -0.01}, "slippage", "out_of_range"),
    ({"slippage": 1.01}, "slippage", "out_of_range"),
    ({"slippage": "five"}, "slippage", "number"),
    ({"slippageTolerance": "0.00001"}, "slippageTolerance", "whole_basis_points"),
    ({"slippage": 0.01, "slippageTolerance": 0.02}, "slippage", "conflict"),
    ({"slippage": 0.01, "slippageBps": 100}, "slippageBps", "conflict"),
    ({"slippageTolerance": 0.01, "slippageBps": 100}, "slippageBps", "conflict"),
    ({"slippageBps": -1}, "slippageBps", "out_of_range"),
    ({"slippageBps": 10_001}, "slippageBps", "out_of_range"),
    ({"slippageBps": 1.5}, "slippageBps", "whole_number"),
    ({"slippageBps": "50"}, "slippageBps", "whole_number"),
    ('{"tokenIn":"SOL","tokenOut":"USDC","amount":1,"slippageBps":1e999999}', "slippageBps",
     "out_of_range"),
    ({"maxRetries": 11}, "maxRetries", "out_of_range"),
    ({"maxRetries": -1}, "maxRetries", "out_of_range"),
    ({"maxRetries": True}, "maxRetries", "whole_number"),
    ({"maxRetries": float("nan")}, "maxRetries", "whole_number"),
    ({"userId": ""}, "userId", "string_pattern_mismatch"),
    ({"userId": "x" * 256}, "userId", "string_pattern_mismatch"),
    ({"userId": "a\u0000b"}, "userId", "string_pattern_mismatch"),
    ({"userId": "a\nb"}, "userId", "string_pattern_mismatch"),
    ({"userId": "\ud800"}, "userId", "string_unicode"),
    ({"userId": 7}, "userId", "string_type"),
    ({"clientOrderId": ""}, "clientOrderId", "string_pattern_mismatch"),
    ({"clientOrderId": "a/b"}, "clientOrderId", "string_pattern_mismatch"),
    ({"clientOrderId": "a b"}, "clientOrderId", "string_pattern_mismatch"),
    ({"clientOrderId": "a\n"}, "clientOrderId", "string_pattern_mismatch"),
    ({"clientOrderId": "x" * 129}, "clientOrderId", "string_pattern_mismatch"),
    ({"clientOrderId": "\udfff"}, "clientOrderId", "string_unicode"),
    # what belongs to other types of orders
    ({"limitPrice": "155"}, "limitPrice", "not_applicable"),
    ({"targetPrice": "155"}, "targetPrice", "not_applicable"),
    ({"expiresAt": "2099-01-01T00:00:00Z"}, "expiresAt", "not_applicable"),
    ({"trigger": {}}, "trigger", "not_applicable"),
    ({"limitPrice": "0"}, "limitPrice", "greater_than"),
    ({"limitPrice": "1e-19"}, "limitPrice", "too_many_decimals"),
    ({"expiresAt": 1}, "expiresAt", "string_type"),
    ({"expiresAt": "tomorrow"}, "expiresAt", "datetime_from_date_parsing"),
    ({"expiresAt": "2099-01-01T00:00:00"}, "expiresAt", "timezone_aware"),
    ({"trigger": {"venue": "orca"}}, "trigger.venue", "literal_error"),
    ({"trigger": {"minLiquidity": -1}}, "trigger.minLiquidity", "greater_than_equal"),
    ({"trigger": "poolCreated"}, "trigger", "model_type"),
]  # fmt: skip


@pytest.mark.parametrize(("fields", "field", "code"), BAD_FIELDS)
def test_a_field_at_fault_is_named_as_the_client_did(
    fields: dict[str, Any] | str, field: str, code: str
) -> None:
    body = fields if isinstance(fields, str) else None

    with pytest.raises(Rejected) as refusal:
        order_terms(parse_json_object(body) if body else as_sent(dict(fields)))  # type: ignore[arg-type]

    assert (PROBLEMS[refusal.value.code].status, refusal.value.code) == (422, "VALIDATION_FAILED")
    assert [(error.field, error.code) for error in refusal.value.errors] == [(field, code)]
    assert refusal.value.detail.startswith(field)


def test_every_field_at_fault_is_named_at_once() -> None:
    refusal = refusal_of('{"tokenIn": "DOGE", "slippage": 2, "maxRetries": 99}')

    assert {error.field for error in refusal.errors} == {
        "amountIn", "tokenIn", "tokenOut", "slippage", "maxRetries"
    }  # fmt: skip


LIMIT_ORDER = (
    '{"tokenIn": "SOL", "tokenOut": "USDC", "amount": 1, "orderType": "limit",'
    ' "expiresAt": "2026-12-01T00:00:00+01:00"%s}'
)
SNIPER_ORDER = (
    '{"tokenIn": "SOL", "tokenOut": "MOON", "amount": 1, "type": "sniper",'
    ' "expiresAt": "2026-12-01T00:00:00Z", "trigger": {"maxPrice": 0.1}%s}'
)


@pytest.mark.parametrize("name", ["limitPrice", "targetPrice"])
def test_limit_order_takes_its_price_under_either_name(name: str) -> None:
    terms = terms_of(LIMIT_ORDER % f', "{name}": "155.50"')

    assert terms.limit_price == Decimal("155.5")
    assert terms.expires_at == datetime(2026, 11, 30, 23, tzinfo=UTC)


def test_sniper_order_takes_its_trigger_and_a_wide_tolerance() -> None:
    terms = terms_of(SNIPER_ORDER % "")

    assert terms.trigger is not None
    assert (terms.trigger.venue, terms.trigger.max_price) == ("any", Decimal("0.1"))
    assert terms.slippage_bps == 1000


@pytest.mark.parametrize(
    ("body", "fields"),
    [
        ('{"limitPrice": 0}', {"limitPrice"}),
        ('{"targetPrice": "x"}', {"targetPrice"}),
        ('{"limitPrice": 1, "targetPrice": 2}', {"targetPrice"}),
        ('{"slippage": 2}', {"slippage"}),
        ('{"slippage": 0.1, "slippageBps": 10}', {"slippageBps"}),
        ('{"expiresAt": "tomorrow"}', {"expiresAt"}),
        ('{"amountIn": 5}', {"limitPrice"}),
        ("{}", {"limitPrice"}),
    ],
)
def test_bad_amendment_is_refused_naming_the_field(body: str, fields: set[str]) -> None:
    with pytest.raises(Rejected) as refusal:
        amendment_of(parse_json_object(body))

    assert {error.field for error in refusal.value.errors} == fields


def test_amendment_names_only_what_changes() -> None:
    amendment = amendment_of(parse_json_object('{"targetPrice": "160", "slippage": "0.01"}'))

    assert amendment == Amendment(limit_price=Decimal(160), slippage_bps=100)


def test_an_authenticated_caller_owns_the_order() -> None:
    body = '{"tokenIn": "SOL", "tokenOut": "USDC", "amount": 1%s}'

    assert terms_of(body % "", caller="alice").user_id == "alice"
    assert terms_of(body % ', "userId": "alice"', caller="alice").user_id == "alice"
    refusal = refusal_of(body % ', "userId": "bob"', caller="alice")
    assert [error.field for error in refusal.errors] == ["userId"]


def test_a_caller_may_ask_for_nobody_elses_orders() -> None:
    assert own_user(None, None) is None
    assert own_user("bob", None) == "bob"
    assert own_user(None, "alice") == "alice"
    with pytest.raises(Rejected):
        own_user("bob", "alice")


def test_equal_orders_have_equal_digests_however_they_are_spelled() -> None:
    spellings = [
        '{"tokenIn":"SOL","tokenOut":"USDC","amount":1.50,"slippage":0.005}',
        '{"slippageBps":50,"amountIn":"1.5","tokenOut":"USDC","tokenIn":"SOL","type":"market"}',
        '{"tokenIn":"SOL","tokenOut":"USDC","amountIn":15e-1,"maxRetries":3,"userId":"anonymous"}',
    ]

    assert len({terms_digest(terms_of(body)) for body in spellings}) == 1


@pytest.mark.parametrize(
    "change",
    [
        {"tokenOut": "USDT"},
        {"amountIn": "1.000000001"},
        {"slippageBps": 51},
        {"maxRetries": 2},
        {"side": "buy"},
        {"clientOrderId": "a"},
        {"userId": "somebody"},
    ],
)
def test_different_orders_have_different_digests(change: dict[str, Any]) -> None:
    assert terms_digest(terms_with(**change)) != terms_digest(terms_with())


def test_digests_never_change() -> None:
    # Stored with each order: another digest for the same terms would refuse their repetition.
    assert terms_digest(terms_with(clientOrderId="my-42")) == (
        "0d12bcfe57a43723fcb07c0b847d533bd4b043c54b6b3b19a27d335fe709a5e2"
    )


@pytest.mark.parametrize("key", ["", "a b", "a\n", "\x00", "x" * 256, 5, None, "\ud800", "ü"])
def test_texts_of_the_wrong_kind_are_refused(key: object) -> None:
    with pytest.raises(Rejected) as refusal:
        checked_text(key, IdempotencyKey, "idempotencyKey")

    assert [error.field for error in refusal.value.errors] == ["idempotencyKey"]


def test_user_ids_may_hold_any_printable_text() -> None:
    assert checked_text("Jürgen | 山田", UserId, "userId") == "Jürgen | 山田"


def test_quotes_ask_for_what_an_order_may() -> None:
    check_swap("SOL", "USDC", Decimal("0.000000001"))
    with pytest.raises(Rejected):
        check_swap("SOL", "SOL", Decimal(1))
    with pytest.raises(Rejected):
        check_swap("USDC", "SOL", Decimal("0.0000001"))


AMOUNTS = st.decimals(allow_nan=True, allow_infinity=True) | st.decimals(
    min_value=0, max_value=10**13, places=9
)


@given(AMOUNTS, st.sampled_from(sorted(TOKENS)))
def test_accepted_amounts_fit_the_token_the_column_and_a_u64(amount: Decimal, token: str) -> None:
    fields = {"tokenIn": token, "tokenOut": "SOL" if token != "SOL" else "USDC", "amount": amount}

    outcome = outcome_of(fields)

    if isinstance(outcome, Rejected):
        assert [error.field for error in outcome.errors] == ["amount"]
    else:
        units = outcome.amount_in.scaleb(TOKENS[token].decimals)
        assert outcome.amount_in == amount
        assert units == units.to_integral_value()
        assert 0 < units <= MAX_BASE_UNITS


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda children: st.lists(children) | st.dictionaries(st.text(), children),
    max_leaves=6,
)
FIELDS = st.sampled_from(
    [
        "clientOrderId", "userId", "type", "orderType", "side", "tokenIn", "tokenOut", "amountIn",
        "amount", "slippage", "slippageTolerance", "slippageBps", "maxRetries", "limitPrice",
        "targetPrice", "expiresAt", "trigger",
    ]
)  # fmt: skip


@given(st.dictionaries(FIELDS, JSON_VALUES))
def test_nothing_that_a_client_sends_breaks_the_reading(fields: dict[str, Any]) -> None:
    outcome = outcome_of(as_sent(fields))

    if isinstance(outcome, Rejected):
        assert PROBLEMS[outcome.code].status == 422
        assert outcome.errors
