"""Find and take over orders that nobody works on."""

from datetime import timedelta

from order_engine.adapters.postgres.orders import PostgresOrders
from order_engine.adapters.postgres.rows import event_of, order_of
from order_engine.domain.events import OrderEvent
from order_engine.domain.orders import Order
from order_engine.domain.transitions import execution_name


class PostgresReconcilableOrders(PostgresOrders):
    """Take orders over; implements ``ReconcilableOrders``."""

    def take_stale(
        self, older_than: timedelta, limit: int, order_id: str | None = None
    ) -> list[Order]:
        """Take up to ``limit`` orders in execution that have not moved for so long."""
        rows = self._database.rows(
            "UPDATE orders SET reconciled_at = clock_timestamp() WHERE id IN ("
            " SELECT id FROM orders"
            " WHERE status IN ('pending', 'triggered', 'routing', 'building', 'submitted')"
            " AND (started_at IS NOT NULL OR status NOT IN ('pending', 'triggered'))"
            " AND updated_at <= clock_timestamp() - %(older_than)s"
            " AND coalesce(reconciled_at, '-infinity') <= clock_timestamp() - %(older_than)s"
            " AND (%(order_id)s::uuid IS NULL OR id = %(order_id)s::uuid)"
            " ORDER BY coalesce(reconciled_at, updated_at)"
            " LIMIT %(limit)s FOR UPDATE SKIP LOCKED)"
            " RETURNING *",
            {"older_than": older_than, "limit": limit, "order_id": order_id},
        )
        return [order_of(row) for row in rows]

    def restart(self, order_id: str, generation: int) -> Order | None:
        """Hand the order to its next execution; None when it is final or was restarted already."""
        row = self._database.row(
            "UPDATE orders SET generation = generation + 1, restarts = restarts + 1,"
            " execution = %(execution)s, updated_at = now_in_milliseconds()"
            " WHERE id = %(id)s AND generation = %(generation)s"
            " AND EXISTS (SELECT FROM order_transitions WHERE from_status = status)"
            " RETURNING *",
            {
                "id": order_id,
                "generation": generation,
                "execution": execution_name(order_id, generation + 1),
            },
        )
        return order_of(row) if row else None

    def outbox(self, older_than: timedelta, limit: int) -> list[list[OrderEvent]]:
        """Return committed events that the stream has not seen for so long, grouped by order."""
        rows = self._database.rows(
            "SELECT orders.*, to_jsonb(waiting) AS waiting"
            " FROM order_events AS waiting JOIN orders ON orders.id = waiting.order_id"
            " WHERE streamed_at IS NULL"
            " AND waiting.created_at <= clock_timestamp() - %(older_than)s"
            " ORDER BY waiting.created_at, waiting.seq LIMIT %(limit)s",
            {"older_than": older_than, "limit": limit},
        )
        grouped: dict[str, list[OrderEvent]] = {}
        for row in rows:
            order = order_of(row)
            grouped.setdefault(order.order_id, []).append(event_of(order, row["waiting"]))
        return list(grouped.values())
