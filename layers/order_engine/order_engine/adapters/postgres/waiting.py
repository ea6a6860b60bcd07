"""Give free slots to the orders whose turn it is."""

from datetime import timedelta

from psycopg import sql

from order_engine.adapters.postgres.orders import NOTED, PostgresOrders
from order_engine.adapters.postgres.rows import claimed
from order_engine.domain.transitions import Claimed

_CLAIM = sql.SQL("WITH {} SELECT id, execution FROM claim_next_order_alone(%(slots)s)").format(
    sql.SQL(NOTED)
)


class PostgresWaitingOrders(PostgresOrders):
    """Hand out slots; implements ``WaitingOrders``."""

    def claim_next(self) -> Claimed | None:
        """Give a free slot, if there is one, to the order whose turn it is, if one waits."""
        if self._slots is None:
            self.write_notes()
            return None
        parameters = {"slots": self._slots, **self._notes()}
        row = self._database.row(_CLAIM, parameters)
        self._forget_notes(parameters)
        return claimed(row["id"], row["execution"]) if row else None

    def claim_unstarted(self, older_than: timedelta, limit: int) -> list[Claimed]:
        """Return orders that were given a slot so long ago and have not moved since.

        Nobody is given the same one again for the same length of time.
        """
        rows = self._database.rows(
            "UPDATE orders SET started_at = now_in_milliseconds() WHERE id IN ("
            " SELECT id FROM orders"
            " WHERE status IN ('pending', 'triggered') AND started_at IS NOT NULL"
            " AND started_at <= clock_timestamp() - %s"
            " ORDER BY is_urgent, turn LIMIT %s FOR UPDATE SKIP LOCKED)"
            " RETURNING id, execution",
            [older_than, limit],
        )
        return [found for row in rows if (found := claimed(row["id"], row["execution"]))]
