"""Store new orders, each once, within the limits of the intake."""

from typing import Any

from psycopg import sql

from order_engine.adapters.postgres.connection import Connection, Database
from order_engine.adapters.postgres.queries import PostgresOrderReader
from order_engine.adapters.postgres.rows import TERMS, event_of, order_of, term_values
from order_engine.domain.orders import Order
from order_engine.domain.transitions import (
    IntakeLimit,
    IntakeLimits,
    NewOrder,
    Refusal,
    Storage,
    execution_name,
)
from order_engine.domain.types import rules_of
from order_engine.errors import DatabaseUnavailable

# An order that rests has begun as `pending`, too. Requests that arrive at once may exceed a limit
# by as many as they are: each counts what was there before it.
_INSERT = sql.SQL("""
WITH moment AS (
    SELECT now_in_milliseconds() AS instant
), own AS (
    SELECT count(*) AS number FROM (
        SELECT FROM orders
        WHERE %(rests)s AND user_id = %(user_id)s AND status = 'open'
            AND %(most_of_user)s::integer IS NOT NULL
        UNION ALL
        SELECT FROM waiting_orders
        WHERE NOT %(rests)s AND user_id = %(user_id)s AND %(most_of_user)s IS NOT NULL
        LIMIT %(most_of_user)s) AS counted
), burst AS (
    SELECT extract(epoch FROM created_at + %(burst_seconds)s * interval '1 second' - instant)
        AS seconds_left
    FROM moment, LATERAL (
        SELECT created_at FROM orders
        WHERE %(burst)s::integer IS NOT NULL
            AND created_at > instant - %(burst_seconds)s * interval '1 second'
        ORDER BY created_at DESC OFFSET %(burst)s - 1 LIMIT 1) AS first_of_burst
), refusal AS (
    SELECT own.number >= %(most_of_user)s AS has_too_many,
        (SELECT seconds_left FROM burst) AS seconds_left
    FROM own
), stored AS (
    INSERT INTO orders ({terms}, id, idempotency_key, terms_digest, is_urgent, status,
        previous_status, seq, execution, started_at, milestones, created_at, updated_at)
    SELECT {values}, %(id)s, %(idempotency_key)s, %(terms_digest)s, %(is_urgent)s, %(status)s,
        %(previous_status)s, %(seq)s, %(execution)s,
        CASE WHEN %(starts_at_once)s THEN instant END,
        milestone('pending', instant) || milestone(%(status)s, instant), instant, instant
    FROM moment, refusal
    WHERE has_too_many IS NOT TRUE AND seconds_left IS NULL
    ON CONFLICT DO NOTHING
    RETURNING *
), recorded AS (
    INSERT INTO order_events
        (order_id, seq, event, previous_status, attempt, execution, created_at)
    SELECT id, 1, 'pending', NULL, attempt, execution, created_at FROM stored
    UNION ALL
    SELECT id, seq, status, previous_status, attempt, execution, created_at FROM stored
    WHERE seq > 1
    RETURNING *
)
SELECT stored.*, refusal.has_too_many, refusal.seconds_left, (
    SELECT jsonb_agg(to_jsonb(recorded) ORDER BY seq) FROM recorded
) AS unstreamed
FROM refusal LEFT JOIN stored ON true
""").format(
    terms=sql.SQL(", ").join(sql.Identifier(column.name) for column in TERMS),
    values=sql.SQL(", ").join(sql.Placeholder(column.name) for column in TERMS),
)

_FIND_STORED = """
SELECT * FROM orders
WHERE id = %(id)s
   OR (user_id = %(user_id)s AND idempotency_key = %(idempotency_key)s)
   OR (user_id = %(user_id)s AND client_order_id = %(client_order_id)s)
ORDER BY (id = %(id)s) DESC, (idempotency_key = %(idempotency_key)s) DESC NULLS LAST
LIMIT 1
"""

UNSTREAMED = """
SELECT seq, event, previous_status, attempt, meta, created_at FROM order_events
WHERE order_id = %(id)s AND streamed_at IS NULL ORDER BY seq
"""


class PostgresIntake(PostgresOrderReader):
    """Take orders in.

    ``slots`` is how many orders may keep the venues busy at once. Without it nobody waits for a
    turn: an order is stored as one that has its slot.
    """

    def __init__(self, database: Database, slots: int | None = None) -> None:
        super().__init__(database)
        self._slots = slots

    def insert(self, order: NewOrder, limits: IntakeLimits = IntakeLimits()) -> Storage | Refusal:
        """Store a new order with its first events, or return the one stored under the same key.

        An order that was stored before is found whatever the limits say now.
        """
        parameters = self._parameters(order, limits)

        def store(connection: Connection) -> Storage | Refusal:
            row = connection.execute(_INSERT, parameters).fetchone()
            if row is not None and row["id"] is not None:
                stored = order_of(row)
                events = tuple(event_of(stored, event) for event in row["unstreamed"])
                return _storage(stored, row, created=True, unstreamed=events)
            found = connection.execute(_FIND_STORED, parameters).fetchone()
            if found is not None:
                before = order_of(found)
                if before.order_id != order.order_id:
                    return _storage(before, found, created=False)
                # A repeated insert after a lost answer finds its own row by id: it did create it.
                unstreamed = connection.execute(UNSTREAMED, {"id": before.order_id}).fetchall()
                events = tuple(event_of(before, event) for event in unstreamed)
                return _storage(before, found, created=True, unstreamed=events)
            if row is not None and row["has_too_many"]:
                return Refusal(
                    IntakeLimit.OPEN_PER_USER if order.rests else IntakeLimit.WAITING_PER_USER
                )
            if row is not None and row["seconds_left"] is not None:
                return Refusal(IntakeLimit.ORDERS_PER_SECOND, float(row["seconds_left"]))
            raise DatabaseUnavailable("a conflicting order vanished")

        return self._database.run(store)

    def _parameters(self, order: NewOrder, limits: IntakeLimits) -> dict[str, Any]:
        return {
            **term_values(order.terms),
            "id": order.order_id,
            "idempotency_key": order.idempotency_key,
            "terms_digest": order.terms_digest,
            "is_urgent": rules_of(order.terms.type).is_urgent,
            "rests": order.rests,
            "status": "open" if order.rests else "pending",
            "previous_status": "pending" if order.rests else None,
            "seq": 2 if order.rests else 1,
            "execution": execution_name(order.order_id, 0),
            "starts_at_once": self._slots is None and not order.rests,
            "most_of_user": limits.open_per_user if order.rests else limits.waiting_per_user,
            "burst": limits.burst,
            "burst_seconds": limits.burst_seconds,
        }

    def is_stored(self, user_id: str, idempotency_key: str) -> bool:
        """Tell whether the user has an order under this key."""
        row = self._database.row(
            "SELECT id FROM orders WHERE user_id = %s AND idempotency_key = %s",
            [user_id, idempotency_key],
        )
        return row is not None


def _storage(
    order: Order, row: dict[str, Any], *, created: bool, unstreamed: tuple[Any, ...] = ()
) -> Storage:
    return Storage(
        order=order,
        created=created,
        idempotency_key=row["idempotency_key"],
        terms_digest=row["terms_digest"],
        unstreamed=unstreamed,
    )
