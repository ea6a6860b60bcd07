"""The console shows the engine's lists, and gives each status a color that can be read."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from order_engine.api.console_tables import console_tables
from order_engine.domain.statuses import OrderStatus
from order_engine.venues.registry import venue_names

CONSOLE = Path(__file__).parents[2] / "functions" / "api" / "console"
PANEL = {"light": "#ffffff", "dark": "#111821"}
READABLE = 4.5
"""The contrast that WCAG 2.2 asks of text (AA)."""


@pytest.fixture(scope="module")
def tables() -> dict[str, Any]:
    """The engine's lists and the console's colors, as the page gets them."""
    tables = console_tables()
    colors = json.loads((CONSOLE / "status-colors.json").read_text(encoding="utf-8"))
    for status, shown in tables["statuses"].items():
        shown |= colors[status]
    return tables


def test_every_status_of_the_engine_has_colors_and_no_other() -> None:
    colors = json.loads((CONSOLE / "status-colors.json").read_text(encoding="utf-8"))

    assert list(colors) == list(OrderStatus)


def test_no_venue_and_no_choice_of_order_types_is_written_out_in_the_console() -> None:
    sources = "".join(
        path.read_text(encoding="utf-8").lower()
        for path in CONSOLE.iterdir()
        if path.suffix in {".html", ".js", ".css"}
    )

    assert [name for name in venue_names() if name in sources] == []
    assert re.findall(r'<option value="(market|limit|sniper)"', sources) == []
    assert 'type="radio" name="type"' not in sources


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
