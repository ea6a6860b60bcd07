"""The console shows the engine's tables and repeats nothing of them; its colors can be read."""

import re
from pathlib import Path

import pytest

from order_engine.api.console_tables import console_tables
from order_engine.domain.statuses import MEANINGS, TRANSITIONS, OrderStatus
from order_engine.domain.tokens import TOKENS
from order_engine.domain.types import also as with_type
from order_engine.domain.types import order_types
from order_engine.domain.types.rules import OrderTypeRules
from order_engine.venues.registry import VenueListing, venue_names
from order_engine.venues.registry import also as with_venue

CONSOLE = Path(__file__).parents[2] / "functions" / "api" / "console"
READABLE = 4.5
"""The contrast that WCAG 2.2 asks of text (AA)."""
BADGE_SHARE = 0.11
"""How much of a status's color is in the ground of its badge."""


def test_statuses_are_those_of_the_engine() -> None:
    shown = console_tables()["statuses"]

    assert list(shown) == list(OrderStatus)
    for status in OrderStatus:
        assert set(shown[status]["next"]) == TRANSITIONS[status]
        assert shown[status]["meaning"] == MEANINGS[status]


def test_tokens_are_those_of_the_engine() -> None:
    assert console_tables()["tokenDecimals"] == {
        name: token.decimals for name, token in TOKENS.items()
    }


def test_venue_that_is_added_to_the_registry_is_in_the_tables() -> None:
    with with_venue(VenueListing("orca")):
        assert console_tables()["venues"] == ["raydium", "meteora", "orca"]


def test_order_type_that_is_added_to_the_registry_is_in_the_tables() -> None:
    class Patient(OrderTypeRules):
        name = "patient"
        rests = True
        default_slippage_bps = 7

    with with_type(Patient()):
        shown = console_tables()["orderTypes"]
    assert list(shown) == ["market", "limit", "sniper", "patient"]
    assert shown["patient"] == {"rests": True, "defaultSlippageBps": 7}


@pytest.mark.parametrize("venue", venue_names())
def test_page_names_no_venue(venue: str) -> None:
    for file in sorted(CONSOLE.rglob("*.*")):
        assert venue not in file.read_text(encoding="utf-8").casefold(), file


def test_page_lists_neither_order_types_nor_tokens() -> None:
    markup = (CONSOLE / "index.html").read_text(encoding="utf-8")
    code = "".join(file.read_text(encoding="utf-8") for file in CONSOLE.glob("modules/*.js"))

    for rules in order_types():
        assert f'"{rules.name}"' not in code
        # A type may have a part of the form that is its own.
        assert f'"{rules.name}"' not in markup.replace(f'data-for="{rules.name}"', "")
    for symbol in TOKENS.keys() - {"SOL", "USDC"}:
        assert f'"{symbol}"' not in code + markup


def test_page_repeats_nothing_of_the_statuses() -> None:
    markup = (CONSOLE / "index.html").read_text(encoding="utf-8")
    code = "".join(file.read_text(encoding="utf-8") for file in CONSOLE.glob("modules/*.js"))

    assert '<script type="application/json" id="tables">{}</script>' in markup
    for status, meaning in MEANINGS.items():
        assert meaning not in code + markup
        assert f'"{status}": {{' not in code + markup


@pytest.fixture(scope="module")
def colors() -> dict[str, dict[str, str]]:
    """Return what each variable of the theme is in daylight and in the dark."""
    styles = CONSOLE / "styles"
    palette = dict(re.findall(r"--([\w-]+): (#\w{6});", (styles / "palette.css").read_text()))
    meanings = re.findall(
        r"--([\w-]+): light-dark\(var\(--([\w-]+)\), var\(--([\w-]+)\)\);",
        (styles / "theme.css").read_text(),
    )
    return {name: {"light": palette[day], "dark": palette[dark]} for name, day, dark in meanings}


@pytest.mark.parametrize("status", OrderStatus)
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_status_color_is_readable_on_the_panel_and_on_its_badge(
    colors: dict[str, dict[str, str]], status: OrderStatus, scheme: str
) -> None:
    color = _channels(colors[f"status-{status}"][scheme])
    panel = _channels(colors["panel"][scheme])
    badge = [
        BADGE_SHARE * over + (1 - BADGE_SHARE) * under
        for over, under in zip(color, panel, strict=True)
    ]
    assert _contrast(color, panel) >= READABLE
    assert _contrast(color, badge) >= READABLE


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_status_has_a_color_of_its_own(
    colors: dict[str, dict[str, str]], scheme: str
) -> None:
    shown = [colors[f"status-{status}"][scheme] for status in OrderStatus]
    assert len(set(shown)) == len(shown)


@pytest.mark.parametrize("status", OrderStatus)
def test_status_is_shown_in_its_color(status: OrderStatus) -> None:
    rules = (CONSOLE / "styles" / "statuses.css").read_text(encoding="utf-8")
    rule = f'[data-status="{status}"] {{\n  --status: var(--status-{status});\n}}'
    assert rule in rules


def test_only_the_palette_spells_colors_out() -> None:
    for file in sorted(CONSOLE.glob("styles/*.css")):
        without_images = re.sub(r'url\(".*?"\)', "", file.read_text(encoding="utf-8"))
        spelled = re.findall(r"#[0-9a-f]{3,8}\b(?=[;,)\s])", without_images)
        assert bool(spelled) == (file.name == "palette.css"), file
        if file.name not in ("palette.css", "theme.css"):
            assert "light-dark(" not in without_images, file


def test_page_takes_in_every_stylesheet_and_begins_with_the_colors() -> None:
    markup = (CONSOLE / "index.html").read_text(encoding="utf-8")
    linked = re.findall(r'href="styles/([\w-]+)\.css"', markup)
    assert linked[:2] == ["palette", "theme"]
    assert sorted(linked) == sorted(file.stem for file in CONSOLE.glob("styles/*.css"))


def _channels(color: str) -> list[float]:
    return [int(color[at : at + 2], 16) / 255 for at in (1, 3, 5)]


def _contrast(one: list[float], other: list[float]) -> float:
    """Return the contrast ratio of two sRGB colors (WCAG 2.2)."""
    lighter, darker = sorted((_luminance(one), _luminance(other)), reverse=True)
    return (lighter + 0.05) / (darker + 0.05)


def _luminance(color: list[float]) -> float:
    red, green, blue = (
        channel / 12.92 if channel <= 0.04045 else ((channel + 0.055) / 1.055) ** 2.4
        for channel in color
    )
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue
