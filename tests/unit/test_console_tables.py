"""The console repeats some of the engine's tables; they must not drift apart."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from order_engine.api.requests import DEFAULT_USER_ID
from order_engine.domain.statuses import MEANINGS, TRANSITIONS, OrderStatus
from order_engine.domain.tokens import TOKENS
from order_engine.domain.types import order_types
from order_engine.venues.registry import venue_names

CONSOLE = Path(__file__).parents[2] / "functions" / "api" / "console"
PANEL = {"light": "#ffffff", "dark": "#111821"}
READABLE = 4.5
"""The contrast that WCAG 2.2 asks of text (AA)."""


@pytest.fixture(scope="module")
def tables() -> dict[str, Any]:
    page = (CONSOLE / "index.html").read_text(encoding="utf-8")
    found = re.search(r'<script type="application/json" id="tables">(.*?)</script>', page, re.S)
    assert found
    tables: dict[str, Any] = json.loads(found[1])
    return tables


def test_statuses_are_those_of_the_engine(tables: dict[str, Any]) -> None:
    assert list(tables["statuses"]) == list(OrderStatus)
    for status in OrderStatus:
        shown = tables["statuses"][status]
        assert set(shown["next"]) == TRANSITIONS[status]
        assert shown["meaning"] == MEANINGS[status]


def test_names_are_those_of_the_engine(tables: dict[str, Any]) -> None:
    assert tables["tokenDecimals"] == {name: token.decimals for name, token in TOKENS.items()}
    assert set(tables["venues"]) == set(venue_names())
    assert tables["anonymousUser"] == DEFAULT_USER_ID


def test_order_types_of_the_form_are_those_of_the_engine() -> None:
    page = (CONSOLE / "index.html").read_text(encoding="utf-8")
    assert re.findall(r'type="radio" name="type" value="(\w+)"', page) == [
        rules.name for rules in order_types()
    ]


@pytest.mark.parametrize("status", OrderStatus)
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_status_color_is_readable_on_the_panel_and_on_its_badge(
    tables: dict[str, Any], status: OrderStatus, scheme: str
) -> None:
    color = _channels(tables["statuses"][status][scheme])
    panel = _channels(PANEL[scheme])
    badge = [0.11 * over + 0.89 * under for over, under in zip(color, panel, strict=True)]
    assert _contrast(color, panel) >= READABLE
    assert _contrast(color, badge) >= READABLE


def test_every_status_has_colors_of_its_own(tables: dict[str, Any]) -> None:
    for scheme in ("light", "dark"):
        colors = [status[scheme] for status in tables["statuses"].values()]
        assert len(set(colors)) == len(colors)


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
