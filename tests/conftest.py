"""Fixtures shared by every kind of test; nothing starts before a test asks for it."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from tests.support.postgres import KnownSecret, Orders

from local.postgres import embedded_postgres
from order_engine.adapters.postgres.connection import connect
from order_engine.adapters.postgres.migrate import migrate
from order_engine.domain.statuses import FINAL_STATUSES

LEFT_BY_A_TEST = json.dumps(
    {"code": "INTERNAL", "detail": "left by a test", "retryable": False, "attempt": 0}
)


@pytest.fixture(scope="session")
def database_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A migrated Postgres of the test run's own."""
    with embedded_postgres(Path(tmp_path_factory.mktemp("postgres"))) as server:
        with connect(KnownSecret(server.url)) as connection:
            migrate(connection)
        yield server.url


@pytest.fixture
def orders_factory(database_url: str) -> Callable[[], Orders]:
    return lambda: Orders.at(database_url)


@pytest.fixture
def orders(orders_factory: Callable[[], Orders]) -> Iterator[Orders]:
    repository = orders_factory()
    yield repository
    repository.close()


@pytest.fixture
def database(database_url: str) -> Iterator[psycopg.Connection[dict[str, Any]]]:
    """A connection for looking behind the repository's back."""
    with connect(KnownSecret(database_url)) as connection:
        yield connection


@pytest.fixture
def nobody_at_rest(database: psycopg.Connection[dict[str, Any]]) -> None:
    """End what earlier tests left at rest or in flight; the schema itself would not allow it."""
    with database.transaction():
        database.execute("ALTER TABLE orders DISABLE TRIGGER guard_order_update")
        database.execute(
            "UPDATE orders SET status = 'failed', failure = %s::jsonb WHERE type <> 'market'"
            " AND status <> ALL(%s)",
            [LEFT_BY_A_TEST, sorted(FINAL_STATUSES)],
        )
        database.execute("ALTER TABLE orders ENABLE TRIGGER guard_order_update")
