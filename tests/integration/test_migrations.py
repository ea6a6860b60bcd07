"""Bringing a database to the current schema."""

import threading
from typing import Any

import psycopg
import pytest

from order_engine.adapters.postgres.migrate import LOCK_KEY, MigrationEdited, migrate

Database = psycopg.Connection[dict[str, Any]]


def test_migration_behind_another_deploy_waits_longer_than_a_statement_may_run(
    database: Database, database_url: str
) -> None:
    with psycopg.connect(database_url, autocommit=True) as other:
        other.execute("SELECT pg_advisory_lock(%s)", [LOCK_KEY])
        release = threading.Timer(1, other.execute, ["SELECT pg_advisory_unlock_all()"])
        release.start()
        database.execute("SET statement_timeout = '200ms'")

        applied = migrate(database)

        release.join()
    database.execute("RESET statement_timeout")
    assert applied == []


def test_edited_migration_is_refused_by_name(database: Database) -> None:
    name = "0001_orders.sql"
    with database.transaction(force_rollback=True):
        database.execute("UPDATE schema_migrations SET sha256 = 'other' WHERE name = %s", [name])

        with pytest.raises(MigrationEdited, match=name):
            migrate(database)


def test_file_applied_before_digests_were_kept_gets_one(database: Database) -> None:
    with database.transaction(force_rollback=True):
        database.execute("UPDATE schema_migrations SET sha256 = NULL")

        migrate(database)

        row = database.execute(
            "SELECT count(*) AS missing FROM schema_migrations WHERE sha256 IS NULL"
        ).fetchone()
        assert row == {"missing": 0}
