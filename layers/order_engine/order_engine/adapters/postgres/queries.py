"""Look orders up."""

from collections.abc import Collection
from datetime import datetime
from typing import Any

from psycopg import sql

from order_engine.adapters.postgres.connection import Database
from order_engine.adapters.postgres.rows import event_of, order_of
from order_engine.domain.events import OrderEvent, OrderLife
from order_engine.domain.orders import Order, OrderType
from order_engine.domain.statuses import OrderStatus

# One statement sees one snapshot: the order's status is the one of its last event.
_WITH_EVENTS = """
SELECT orders.*, (
    SELECT coalesce(jsonb_agg(to_jsonb(recorded) ORDER BY recorded.seq), '[]')
    FROM order_events AS recorded WHERE recorded.order_id = orders.id
) AS events,
orders_ahead_of(id) AS orders_ahead
FROM orders WHERE {condition}
"""


class PostgresOrderReader:
    """Read orders and their events; implements ``OrderReader``."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def get(self, order_id: str) -> Order | None:
        """Return an order."""
        row = self._database.row("SELECT * FROM orders WHERE id = %s", [order_id])
        return order_of(row) if row else None

    def with_events(self, order_id: str) -> OrderLife | None:
        """Return an order and its events as they were at one moment."""
        return self._with_events(sql.SQL("id = %s"), [order_id])

    def by_client_id(self, user_id: str, client_order_id: str) -> OrderLife | None:
        """Return the user's order of this client order id, and its events, at one moment."""
        return self._with_events(
            sql.SQL("user_id = %s AND client_order_id = %s"), [user_id, client_order_id]
        )

    def events_of(self, order_id: str) -> list[OrderEvent]:
        """Return an order's events in the order of ``seq``."""
        found = self.with_events(order_id)
        return found.events if found else []

    def _with_events(self, condition: sql.SQL, parameters: list[Any]) -> OrderLife | None:
        statement = sql.SQL(_WITH_EVENTS).format(condition=condition)
        row = self._database.row(statement, parameters)
        if row is None:
            return None
        order = order_of(row)
        events = [event_of(order, event) for event in row["events"]]
        return OrderLife(order, events, row["orders_ahead"])

    def page(
        self,
        *,
        user_id: str | None,
        statuses: Collection[OrderStatus] | None,
        order_type: OrderType | None,
        limit: int,
        before: tuple[datetime, str] | None = None,
    ) -> list[Order]:
        """Return orders, newest first; ``before`` is the last one's ``(created_at, id)``."""
        conditions = [sql.SQL("true")]
        parameters: dict[str, Any] = {"limit": limit}
        if user_id is not None:
            conditions.append(sql.SQL("user_id = %(user_id)s"))
            parameters["user_id"] = user_id
        if statuses is not None:
            conditions.append(sql.SQL("status = ANY(%(statuses)s)"))
            parameters["statuses"] = sorted(statuses)
        if order_type is not None:
            conditions.append(sql.SQL("type = %(type)s"))
            parameters["type"] = order_type
        if before is not None:
            conditions.append(sql.SQL("(created_at, id) < (%(created_at)s, %(id)s::uuid)"))
            parameters["created_at"], parameters["id"] = before
        statement = sql.SQL(
            "SELECT * FROM orders WHERE {} ORDER BY created_at DESC, id DESC LIMIT %(limit)s"
        ).format(sql.SQL(" AND ").join(conditions))
        return [order_of(row) for row in self._database.rows(statement, parameters)]

    def ping(self) -> None:
        """Ask the database for nothing; raise ``DatabaseUnavailable`` when it does not answer."""
        self._database.row("SELECT 1 AS answer", [])
