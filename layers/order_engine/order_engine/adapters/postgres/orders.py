"""Store orders and move them: the statements that change an order, and its events with it."""

from collections.abc import Mapping, Sequence

from psycopg import sql
from psycopg.types.json import Jsonb

from order_engine.adapters.postgres.connection import Connection, Row
from order_engine.adapters.postgres.queries import PostgresOrderReader
from order_engine.adapters.postgres.rows import (
    TERMS,
    amended_values,
    assignments,
    changed_values,
    event_of,
    failure_json,
    order_of,
    term_values,
)
from order_engine.domain.changes import Amendment
from order_engine.domain.events import OrderEvent
from order_engine.domain.orders import Order
from order_engine.domain.transitions import (
    FailedAttempt,
    Guard,
    MoveResult,
    NewOrder,
    Storage,
    Transition,
    execution_name,
)
from order_engine.errors import DatabaseUnavailable

_INSERT = sql.SQL("""
WITH stored AS (
    INSERT INTO orders ({terms}, id, idempotency_key, terms_digest, status, execution, milestones,
        created_at, updated_at)
    SELECT {values}, %(id)s, %(idempotency_key)s, %(terms_digest)s, %(target)s, %(execution)s,
        milestone(%(target)s, instant), instant, instant
    FROM (SELECT now_in_milliseconds() AS instant) AS clock
    WHERE %(admission_limit)s::integer IS NULL OR %(admission_limit)s > (
        SELECT count(*) FROM orders
        WHERE status IN ('pending', 'routing', 'building') AND generation = 0
          AND updated_at > instant - interval '15 seconds'
          AND (status <> 'pending' OR updated_at > instant - interval '2 seconds'))
    ON CONFLICT DO NOTHING
    RETURNING *
), recorded AS (
    INSERT INTO order_events (order_id, seq, event, attempt, execution, created_at)
    SELECT id, seq, status, attempt, execution, created_at FROM stored
)
SELECT * FROM stored
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

_MOVE = """
WITH moved AS (
    UPDATE orders SET
        previous_status = status, status = %(target)s, seq = seq + 1,
        attempt = attempt + %(attempt_step)s, (updated_at, milestones) = (
            SELECT instant, milestones || milestone(%(target)s, instant)
            FROM (SELECT now_in_milliseconds() AS instant) AS clock){changes}
    WHERE id = %(id)s AND status = ANY(%(sources)s)
        AND (status <> 'submitted' OR %(target)s = 'confirmed'
             OR tx_resolution IN ('reverted', 'expired'))
        AND {guard}
    RETURNING *
), recorded AS (
    INSERT INTO order_events
        (order_id, seq, event, previous_status, attempt, execution, meta, created_at)
    SELECT id, seq, status, previous_status, attempt, %(execution)s, %(meta)s, updated_at
    FROM moved
    RETURNING *
)
SELECT moved.*, (
    SELECT jsonb_agg(waiting ORDER BY waiting.seq) FROM (
        SELECT seq, event, previous_status, attempt, meta, created_at FROM recorded
        UNION ALL
        SELECT seq, event, previous_status, attempt, meta, created_at FROM order_events
        WHERE order_id = %(id)s AND streamed_at IS NULL
    ) AS waiting
) AS unstreamed
FROM moved
"""

_GUARDS: Mapping[Guard, sql.SQL] = {
    Guard.CLAIM: sql.SQL("execution = %(execution)s AND claimed_by IS DISTINCT FROM execution"),
    Guard.ATTEMPT: sql.SQL("execution = %(execution)s AND attempt = %(attempt)s"),
    Guard.ANYONE: sql.SQL("true"),
}

_UNSTREAMED = """
SELECT seq, event, previous_status, attempt, meta, created_at FROM order_events
WHERE order_id = %(id)s AND streamed_at IS NULL ORDER BY seq
"""


class PostgresOrders(PostgresOrderReader):
    """Keep orders in Postgres; implements ``OrderRepository`` and ``AmendableOrders``.

    Every statement may be repeated: inserts find what they stored before, transitions recognize
    themselves.
    """

    def insert(self, order: NewOrder) -> Storage:
        """Store a new order with its first event, or return the one stored under the same key."""
        storage = self._insert(order, None)
        if storage is None:
            raise DatabaseUnavailable("a conflicting order vanished")
        return storage

    def insert_if_room(self, order: NewOrder, admission_limit: int) -> Storage | None:
        """Insert unless ``admission_limit`` orders are on their way to a venue: then return None.

        Requests that arrive at once may exceed the limit by as many as they are. An order that
        stands still is not counted: its start failed, or it waits for a venue that is down.
        """
        return self._insert(order, admission_limit)

    def _insert(self, order: NewOrder, admission_limit: int | None) -> Storage | None:
        parameters = {
            **term_values(order.terms),
            "id": order.order_id,
            "idempotency_key": order.idempotency_key,
            "terms_digest": order.terms_digest,
            "target": order.status,
            "execution": execution_name(order.order_id, 0),
            "admission_limit": admission_limit,
        }

        def store(connection: Connection) -> Storage | None:
            row = connection.execute(_INSERT, parameters).fetchone()
            created = row is not None
            if row is None:
                row = connection.execute(_FIND_STORED, parameters).fetchone()
            if row is None:
                return None
            stored = order_of(row)
            # A repeated insert after a lost answer finds its own row by id: it did create it.
            return Storage(
                order=stored,
                created=created or stored.order_id == order.order_id,
                idempotency_key=row["idempotency_key"],
                terms_digest=row["terms_digest"],
            )

        return self._database.run(store)

    def is_stored(self, user_id: str, idempotency_key: str) -> bool:
        """Tell whether the user has an order under this key."""
        row = self._database.row(
            "SELECT id FROM orders WHERE user_id = %s AND idempotency_key = %s",
            [user_id, idempotency_key],
        )
        return row is not None

    def move(self, transition: Transition) -> MoveResult:
        """Carry out one guarded transition in one round trip.

        Only when it affects no row is the order read, to tell a repeated call from a refusal.
        """
        values = changed_values(transition.change)
        if transition.guard is Guard.CLAIM:
            values["claimed_by"] = transition.execution
        statement = sql.SQL(_MOVE).format(
            changes=sql.SQL(", ") + assignments(list(values)) if values else sql.SQL(""),
            guard=_GUARDS[transition.guard],
        )
        parameters = {
            **values,
            "id": transition.order_id,
            "target": transition.target,
            "sources": sorted(transition.allowed_sources),
            "attempt_step": int(transition.change.begins_attempt),
            "attempt": transition.attempt,
            "execution": transition.execution,
            "meta": Jsonb(transition.change.details.to_json_dict()),
        }

        def carry_out(connection: Connection) -> MoveResult:
            row = connection.execute(statement, parameters).fetchone()
            if row is None:
                return self._explain_refusal(connection, transition)
            order = order_of(row)
            return MoveResult(
                order=order,
                moved=True,
                unstreamed=tuple(event_of(order, event) for event in row["unstreamed"]),
            )

        return self._database.run(carry_out)

    def _explain_refusal(self, connection: Connection, transition: Transition) -> MoveResult:
        row = connection.execute(
            "SELECT * FROM orders WHERE id = %s", [transition.order_id]
        ).fetchone()
        if row is None:
            return MoveResult(order=None)
        order = order_of(row)
        match transition.guard:
            case Guard.CLAIM:
                replayed = (
                    order.execution == order.claimed_by == transition.execution
                    and order.status is transition.target
                )
            case Guard.ATTEMPT:
                replayed = (
                    connection.execute(
                        "SELECT FROM order_events WHERE order_id = %s AND execution = %s"
                        " AND attempt = %s AND event = %s",
                        [
                            transition.order_id,
                            transition.execution,
                            (transition.attempt or 0) + int(transition.change.begins_attempt),
                            transition.target,
                        ],
                    ).fetchone()
                    is not None
                )
            case Guard.ANYONE:
                replayed = order.status is transition.target
        unstreamed = connection.execute(_UNSTREAMED, {"id": transition.order_id}).fetchall()
        return MoveResult(
            order=order,
            replayed=replayed,
            unstreamed=tuple(event_of(order, event) for event in unstreamed),
        )

    def resume_routing(
        self, order_id: str, execution: str, after_attempt: int | None
    ) -> Order | None:
        """Begin the next attempt of an order that is at ``routing`` already; no event.

        For a restarted execution (``after_attempt`` is None), once, or for the execution whose
        attempt failed before a venue was chosen. Return None when neither applies.
        """
        row = self._database.row(
            "UPDATE orders SET attempt = attempt + 1, claimed_by = %(execution)s,"
            " updated_at = now_in_milliseconds()"
            " WHERE id = %(id)s AND execution = %(execution)s AND status = 'routing'"
            " AND (attempt = %(after_attempt)s OR (%(after_attempt)s::int IS NULL"
            "      AND claimed_by IS DISTINCT FROM execution))"
            " RETURNING *",
            {"id": order_id, "execution": execution, "after_attempt": after_attempt},
        )
        return order_of(row) if row else None

    def record_failed_attempt(self, failed: FailedAttempt) -> Order | None:
        """Note the failure of the current attempt, once; the status stays.

        Return the order as it then stands, or None when the execution or attempt is not the
        order's current one.
        """
        parameters = {
            "id": failed.order_id,
            "execution": failed.execution,
            "attempt": failed.attempt,
            "failure": failure_json(failed.failure),
            "resolution": failed.resolution,
            "counted": int(failed.counts),
        }

        def record(connection: Connection) -> Row | None:
            return (
                connection.execute(
                    "UPDATE orders SET retries = retries + %(counted)s, failure = %(failure)s,"
                    " tx_resolution = COALESCE(%(resolution)s, tx_resolution),"
                    " updated_at = now_in_milliseconds()"
                    " WHERE id = %(id)s AND execution = %(execution)s AND attempt = %(attempt)s"
                    " AND status IN ('routing', 'building', 'submitted')"
                    " AND (failure ->> 'attempt')::int IS DISTINCT FROM attempt"
                    " RETURNING *",
                    parameters,
                ).fetchone()
                or connection.execute(
                    "SELECT * FROM orders WHERE id = %(id)s AND execution = %(execution)s"
                    " AND attempt = %(attempt)s AND (failure ->> 'attempt')::int = attempt",
                    parameters,
                ).fetchone()
            )

        row = self._database.run(record)
        return order_of(row) if row else None

    def mark_streamed(self, events: Sequence[OrderEvent]) -> None:
        """Note that these events have reached the order stream."""
        if not events:
            return
        self._database.execute(
            "UPDATE order_events SET streamed_at = clock_timestamp()"
            " FROM unnest(%s::uuid[], %s::int[]) AS streamed (order_id, seq)"
            " WHERE order_events.order_id = streamed.order_id"
            " AND order_events.seq = streamed.seq AND streamed_at IS NULL",
            [[event.order_id for event in events], [event.seq for event in events]],
        )

    def amend(self, order_id: str, amendment: Amendment) -> tuple[Order | None, bool]:
        """Change the terms of an order at rest.

        Return the order as it then stands (None: there is none), and whether it was changed.
        Raises ``ValueError`` for an amendment that names no term.
        """
        values = amended_values(amendment)
        if not values:
            raise ValueError("an amendment names at least one term")
        statement = sql.SQL(
            "UPDATE orders SET {changes}, updated_at = now_in_milliseconds()"
            " WHERE id = %(id)s AND status = 'open' RETURNING *"
        ).format(changes=assignments(list(values)))
        row = self._database.row(statement, {**values, "id": order_id})
        return (order_of(row), True) if row else (self.get(order_id), False)
