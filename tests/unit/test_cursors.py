"""The cursor of a page."""

import base64
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from order_engine.api.cursors import Cursor, decode_cursor, encode_cursor
from order_engine.api.problems import PROBLEMS
from order_engine.errors import Rejected

TIMES = st.timedeltas(min_value=timedelta(0), max_value=timedelta(days=1_000_000)).map(
    lambda age: datetime(1970, 1, 1, tzinfo=UTC) + age
)


@given(TIMES, st.uuids())
def test_a_cursor_survives_the_round_trip(created_at: datetime, order_id: UUID) -> None:
    cursor = Cursor(created_at, str(order_id))

    assert decode_cursor(encode_cursor(cursor)) == cursor


def encoded(content: str) -> str:
    return base64.urlsafe_b64encode(content.encode()).decode().rstrip("=")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "x",
        "not a cursor",
        "\u00fc",
        "\x00",
        "AAAA====",
        "é" * 50,
        encoded("1.00000000000000000000000000000000") + "!",
        encoded("1"),
        encoded("-1.00000000000000000000000000000000"),
        encoded("1.0000000000000000000000000000000g"),
        encoded("1.00000000-0000-0000-0000-000000000000"),
        encoded("1" * 18 + ".00000000000000000000000000000000"),
        encoded("\u0661.00000000000000000000000000000000"),
        encoded("1.00000000000000000000000000000000\n"),
    ],
)
def test_any_other_text_is_refused_naming_the_cursor(text: str) -> None:
    with pytest.raises(Rejected) as refusal:
        decode_cursor(text)

    assert PROBLEMS[refusal.value.code].status == 422
    assert [error.field for error in refusal.value.errors] == ["cursor"]


@given(st.text(max_size=60))
def test_no_text_breaks_the_reading_of_cursors(text: str) -> None:
    with suppress(Rejected):
        assert encode_cursor(decode_cursor(text))
