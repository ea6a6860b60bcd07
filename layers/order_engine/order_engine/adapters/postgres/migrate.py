"""Bring a database to the current schema."""

from importlib import resources

import psycopg
from psycopg import sql

from order_engine.domain.statuses import TRANSITIONS

LOCK_KEY = 7_305_118_964_021
"""Any fixed number: two deploys at once take turns on it."""


def migrate(connection: psycopg.Connection[dict[str, object]]) -> list[str]:
    """Apply the SQL files that the database has not seen, each once, and return their names.

    All of it is one transaction under an advisory lock. The transition table is written anew
    from ``order_engine.domain.statuses`` every time.
    """
    with connection.transaction():
        connection.execute("SELECT pg_advisory_xact_lock(%s)", [LOCK_KEY])
        connection.execute("SET LOCAL statement_timeout = '5min'")
        connection.execute(
            "CREATE TABLE IF NOT EXISTS schema_migrations ("
            "name text PRIMARY KEY, applied_at timestamptz NOT NULL DEFAULT clock_timestamp())"
        )
        rows = connection.execute("SELECT name FROM schema_migrations").fetchall()
        applied = {row["name"] for row in rows}
        pending = [(name, text) for name, text in migration_files() if name not in applied]
        for name, text in pending:
            connection.execute(sql.SQL(text))
            connection.execute("INSERT INTO schema_migrations (name) VALUES (%s)", [name])
        connection.execute("DELETE FROM order_transitions")
        connection.cursor().executemany(
            "INSERT INTO order_transitions (from_status, to_status) VALUES (%s, %s)",
            [(source, target) for source, targets in TRANSITIONS.items() for target in targets],
        )
    return [name for name, _ in pending]


def migration_files() -> list[tuple[str, str]]:
    """Return the migrations' names and texts in the order of their numbers."""
    folder = resources.files("order_engine.adapters.postgres") / "migrations"
    return sorted(
        (entry.name, entry.read_text(encoding="utf-8"))
        for entry in folder.iterdir()
        if entry.name.endswith(".sql")
    )
