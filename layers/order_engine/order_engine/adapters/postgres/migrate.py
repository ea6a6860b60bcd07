"""Bring a database to the current schema."""

import hashlib
from importlib import resources

import psycopg
from psycopg import sql

from order_engine.domain.statuses import TRANSITIONS

LOCK_KEY = 7_305_118_964_021
"""Any fixed number: two deploys at once take turns on it."""


class MigrationEdited(Exception):
    """Report a file whose text differs from what this database was brought to by it."""


def migrate(connection: psycopg.Connection[dict[str, object]]) -> list[str]:
    """Apply the SQL files that the database has not seen, each once, and return their names.

    All of it is one transaction under an advisory lock. The transition table is written anew
    from ``order_engine.domain.statuses`` every time. Raises ``MigrationEdited``.
    """
    with connection.transaction():
        # First: another deploy may hold the lock for longer than the session lets a statement run.
        connection.execute("SET LOCAL statement_timeout = '5min'")
        connection.execute("SELECT pg_advisory_xact_lock(%s)", [LOCK_KEY])
        connection.execute(
            "CREATE TABLE IF NOT EXISTS schema_migrations ("
            "name text PRIMARY KEY, applied_at timestamptz NOT NULL DEFAULT clock_timestamp())"
        )
        connection.execute("ALTER TABLE schema_migrations ADD COLUMN IF NOT EXISTS sha256 text")
        rows = connection.execute("SELECT name, sha256 FROM schema_migrations").fetchall()
        applied = {row["name"]: row["sha256"] for row in rows}
        pending = []
        for name, text in migration_files():
            digest = hashlib.sha256(text.encode()).hexdigest()
            if applied.get(name, digest) not in (None, digest):
                raise MigrationEdited(f"{name} was edited after it was applied; add a new file")
            if name not in applied:
                connection.execute(sql.SQL(text))
                pending.append(name)
            connection.execute(
                "INSERT INTO schema_migrations (name, sha256) VALUES (%s, %s)"
                " ON CONFLICT (name) DO UPDATE SET sha256 = EXCLUDED.sha256"
                " WHERE schema_migrations.sha256 IS NULL",
                [name, digest],
            )
        connection.execute("DELETE FROM order_transitions")
        connection.cursor().executemany(
            "INSERT INTO order_transitions (from_status, to_status) VALUES (%s, %s)",
            [(source, target) for source, targets in TRANSITIONS.items() for target in targets],
        )
    return pending


def migration_files() -> list[tuple[str, str]]:
    """Return the migrations' names and texts in the order of their numbers."""
    folder = resources.files("order_engine.adapters.postgres") / "migrations"
    return sorted(
        (entry.name, entry.read_text(encoding="utf-8"))
        for entry in folder.iterdir()
        if entry.name.endswith(".sql")
    )
