"""Fixtures shared by every kind of test; nothing starts before a test asks for it."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from tests.support.postgres import KnownSecret, Orders

from local.postgres import embedded_postgres
from order_engine.adapters.postgres.connection import connect
from order_engine.adapters.postgres.migrate import migrate


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
    """Forget the orders of earlier tests, of which some rest, wait or are in flight."""
    database.execute("TRUNCATE orders, order_events")
