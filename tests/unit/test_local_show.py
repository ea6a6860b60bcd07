from datetime import UTC, datetime, timedelta

import pytest
from rich.console import Console
from rich.text import Text

from local import show
from local.stack import Stack

STARTED = datetime(2026, 11, 21, 2, 40, tzinfo=UTC)


def plain(markup: str) -> str:
    return Text.from_markup(markup).plain


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ("150.018195333333333333", "150.018195"),
        ("0.0000004", "0.0000004"),
        ("0.0000123456789", "0.0000123457"),
        ("226.5", "226.5"),
        ("5KJ1.23456789abc", "5KJ1.23456789abc"),
        (7, "7"),
    ],
)
def test_short_rounds_long_decimals_and_nothing_else(value: object, shown: str) -> None:
    assert show.short(value) == shown


def test_event_line_tells_the_time_since_the_first_event() -> None:
    moment = (STARTED + timedelta(seconds=1.234)).isoformat()

    line = show.event_line(
        {
            "status": "confirmed",
            "timestamp": moment,
            "attempt": 2,
            "chosenDex": "meteora",
            "executedPrice": "150.5",
            "error": "[red]not markup[/red]",
        },
        STARTED,
    )

    assert plain(line).split() == [
        *("+1.23", "s", "confirmed", "attempt", "2", "meteora", "price", "150.5"),
        *("[red]not", "markup[/red]"),
    ]


def test_order_summary_marks_the_venue_that_won() -> None:
    quote = {"price": "150", "amountOut": "225", "feePct": "0.1", "priceImpactPct": "0"}
    order = {
        "tokenOut": "USDC",
        "chosenDex": "meteora",
        "quotes": [{"dex": "raydium", **quote}, {"dex": "meteora", **quote}],
    }

    lines = show.order_summary(order)

    assert [line.startswith("  * ") for line in lines] == [False, True]


def test_log_line_leaves_out_what_every_line_repeats() -> None:
    fields = {
        "level": "WARNING",
        "message": "venue away",
        "service": "order-engine-venue",
        "timestamp": "2026-11-21T02:40:00Z",
        "order_id": "o1",
        "empty": None,
    }

    line = show.log_line(STARTED, "Raydium", "", fields)

    assert plain(line).split() == [
        "02:40:00.000",
        "Raydium",
        "WARNING",
        "venue",
        "away",
        "order_id=o1",
    ]


@pytest.mark.parametrize(
    ("outputs", "told"),
    [
        (
            {"Access": "OPEN - anyone who reaches the API"},
            "Access      OPEN - anyone who reaches the API (see JwtIssuer)",
        ),
        (
            {"Access": "https://issuer.example.com/[a]"},
            "Access      with a token of https://issuer.example.com/[a]",
        ),
    ],
)
def test_addresses_tell_who_may_place_orders(outputs: dict[str, str], told: str) -> None:
    console = Console(width=200)
    stack = Stack(
        http_url="http://localhost:4566/orders",
        web_socket_url="ws://localhost:4566/stream",
        database_url="postgresql://localhost/orders",
        emulator_url="http://localhost:4566",
        stack_name="order-engine",
        region="us-east-1",
        outputs=outputs,
    )

    with console.capture() as captured:
        show.addresses(console, stack)

    assert told in captured.get()
    assert "postgresql" not in captured.get()
