"""The SQL that the runbook tells an operator to run."""

import re
import uuid
from pathlib import Path
from typing import Any

import psycopg
import pytest

RUNBOOK = Path(__file__).parents[2] / "docs" / "runbook.md"


def sql_statements() -> list[str]:
    """Return every statement of every SQL block, with an order's id in the place of ``...``."""
    blocks = re.findall(r"```sql\n(.*?)```", RUNBOOK.read_text(encoding="utf-8"), re.DOTALL)
    text = re.sub(r"--[^\n]*", "", "\n".join(blocks)).replace("'...'", f"'{uuid.UUID(int=1)}'")
    return [statement.strip() for statement in text.split(";") if statement.strip()]


@pytest.mark.parametrize("statement", sql_statements())
def test_statement_of_the_runbook_runs(
    database: psycopg.Connection[dict[str, Any]], statement: str
) -> None:
    with database.transaction(force_rollback=True):
        database.execute(statement)


def test_runbook_has_statements_to_run() -> None:
    assert len(sql_statements()) >= 4
