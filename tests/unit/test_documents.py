"""What the documents say of the code."""

from pathlib import Path

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
