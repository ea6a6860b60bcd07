"""What the documents say of the code."""

from pathlib import Path

from order_engine.api.problems import PROBLEMS
from order_engine.domain.statuses import MEANINGS, TRANSITIONS, OrderStatus

ROOT = Path(__file__).parents[2]


def test_architecture_shows_the_transition_table_as_it_is() -> None:
    rows = [
        f"| `{status}` | {MEANINGS[status]} | "
        + (", ".join(f"`{s}`" for s in OrderStatus if s in TRANSITIONS[status]) or "nothing")
        + " |"
        for status in OrderStatus
    ]

    assert "\n".join(rows) in (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")


def test_http_api_shows_the_table_of_problems_as_it_is() -> None:
    rows = [f"| {kind.status} | `{code}` | {kind.meaning} |" for code, kind in PROBLEMS.items()]

    assert "\n".join(rows) in (ROOT / "docs" / "http-api.md").read_text(encoding="utf-8")
