"""The engine's Postgres adapter for a database whose URL the test knows."""

from __future__ import annotations

from typing import Any

from order_engine.adapters.postgres.connection import Database
from order_engine.adapters.postgres.reconciling import PostgresReconcilableOrders
from order_engine.adapters.postgres.resting import PostgresRestingOrders
from order_engine.adapters.postgres.waiting import PostgresWaitingOrders
from order_engine.adapters.secrets import DatabaseSecret


class KnownSecret(DatabaseSecret):
    """Stand for the secret of a database whose URL the test knows."""

    def __init__(self, url: str) -> None:
        super().__init__("arn:aws:secretsmanager:us-east-1:000000000000:secret:test")
        self._url = url

    def _read(self) -> dict[str, Any]:
        return {"conninfo": self._url}


class Orders(PostgresWaitingOrders, PostgresRestingOrders, PostgresReconcilableOrders):
    """All that Postgres does for the engine, in one object."""

    def close(self) -> None:
        self._database.close()

    @classmethod
    def at(cls, url: str, slots: int | None = None) -> Orders:
        """Return the orders in the database of this URL."""
        return cls(Database(KnownSecret(url)), slots)
