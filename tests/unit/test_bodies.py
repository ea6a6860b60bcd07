"""Reading a request's body, whatever it holds."""

from contextlib import suppress
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from order_engine.api.bodies import MAX_BODY_BYTES, parse_json_object
from order_engine.api.problems import PROBLEMS
from order_engine.errors import Rejected


def test_numbers_are_read_exactly() -> None:
    body = parse_json_object('{"a": 0.1, "b": 1e-7, "c": 12345678901234567890.123456789}')

    assert body == {
        "a": Decimal("0.1"),
        "b": Decimal("0.0000001"),
        "c": Decimal("12345678901234567890.123456789"),
    }


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity", "1e99999999999999999999999"])
def test_numbers_that_are_none_come_out_not_finite(number: str) -> None:
    value = parse_json_object(f'{{"amount": {number}}}')["amount"]

    assert not value.is_finite()


@pytest.mark.parametrize(
    "body",
    [
        None,
        "",
        "   ",
        "null",
        "[]",
        '[{"tokenIn": "SOL"}]',
        '"text"',
        "1",
        "true",
        "{",
        '{"tokenIn": "SOL",}',
        "{'tokenIn': 'SOL'}",
        "tokenIn=SOL&tokenOut=USDC",
        "\ufeff{}",
        b"\xff\xfe{}",
        b'{"userId": "\xff"}',
        # What the gateway makes of bytes that are no UTF-8.
        '{"userId": "\ufffd"}',
        '{"userId": "a\nb"}',
        '{"amount": 1, "amount": 2}',
        '{"trigger": {"venue": "any", "venue": "raydium"}}',
        "[" * 30_000,
        '{"a":' * 10_000,
    ],
)
def test_a_body_that_is_no_object_is_malformed(body: str | bytes | None) -> None:
    with pytest.raises(Rejected) as refusal:
        parse_json_object(body)

    assert (PROBLEMS[refusal.value.code].status, refusal.value.code) == (400, "MALFORMED_BODY")


@pytest.mark.parametrize(
    "body",
    [
        '{"note": "' + "x" * MAX_BODY_BYTES + '"}',
        ('{"note": "' + "x" * MAX_BODY_BYTES + '"}').encode(),
        '{"note": "' + "\u00e4" * (MAX_BODY_BYTES // 2) + '"}',
        "\ud800" * (MAX_BODY_BYTES + 1),
        "9" * 5_000_000,
    ],
)
def test_an_oversized_body_is_too_large(body: str | bytes) -> None:
    with pytest.raises(Rejected) as refusal:
        parse_json_object(body)

    assert (PROBLEMS[refusal.value.code].status, refusal.value.code) == (413, "BODY_TOO_LARGE")


def test_a_body_of_the_greatest_size_is_read() -> None:
    filling = "x" * (MAX_BODY_BYTES - len('{"note": ""}'))

    assert parse_json_object(f'{{"note": "{filling}"}}') == {"note": filling}


def test_a_number_of_many_digits_is_read() -> None:
    assert parse_json_object('{"amount": ' + "9" * 60_000 + "}")["amount"] > 0


@given(st.binary(max_size=300) | st.text(max_size=300))
def test_any_body_is_read_or_refused(body: bytes | str) -> None:
    with suppress(Rejected):
        assert isinstance(parse_json_object(body), dict)
