"""Store orders and move them: the statements that change an order, and its events with it."""

from collections.abc import Mapping
from typing import Any

from psycopg import sql
from psycopg.types.json import Jsonb

from order_engine.adapters.postgres.connection import Connection, Database, Row
from order_engine.adapters.postgres.intake import UNSTREAMED, PostgresIntake
from order_engine.adapters.postgres.rows import (
    amended_values,
    assignments,
    changed_values,
    claimed,
    event_of,
    failure_json,
    order_of,
)
from order_engine.domain.changes import Amendment
from order_engine.domain.orders import Order
from order_engine.domain.statuses import BUSY_STATUSES, WAITING_STATUSES
from order_engine.domain.transitions import FailedAttempt, Guard, MoveResult, Transition

MOST_NOTES = 200

# What is known to be streamed is noted with the next statement, whatever order it is about: an own
# one would cost a round trip. Rows that another worker notes are passed over.
NOTED = """
noted AS (
    UPDATE order_events SET streamed_at = clock_timestamp() WHERE (order_id, seq) IN (
        SELECT order_events.order_id, order_events.seq FROM order_events
        JOIN unnest(%(noted_orders)s::uuid[], %(noted_seqs)s::integer[]) AS streamed (order_id, seq)
            ON order_events.order_id = streamed.order_id AND order_events.seq <= streamed.seq
        WHERE streamed_at IS NULL
        FOR UPDATE OF order_events SKIP LOCKED)
)"""

_MOVE = """
WITH {noted}, moved AS (
    UPDATE orders SET
        previous_status = status, status = %(target)s, seq = seq + 1,
        attempt = attempt + %(attempt_step)s, (updated_at, milestones) = (
            SELECT instant, milestones || milestone(%(target)s, instant)
            FROM (SELECT now_in_milliseconds() AS instant) AS clock),
        started_at = CASE WHEN %(target)s = 'open' THEN NULL ELSE started_at END{changes}
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
), freed AS (
    SELECT id FROM moved
    WHERE NOT status = ANY(%(busy)s)
        AND (previous_status = ANY(%(busy)s)
             OR (previous_status = ANY(%(waiting)s) AND started_at IS NOT NULL))
), given AS (
    SELECT claimed.id, claimed.execution
    FROM freed, LATERAL claim_next_order(%(slots)s) AS claimed
    WHERE %(slots)s IS NOT NULL
)
SELECT moved.*, EXISTS (SELECT FROM freed) AS freed_slot,
    (SELECT id FROM given) AS next_id, (SELECT execution FROM given) AS next_execution, (
    SELECT jsonb_agg(waiting ORDER BY waiting.seq) FROM (
        SELECT seq, event, previous_status, attempt, meta, created_at FROM recorded
        UNION ALL
        SELECT seq, event, previous_status, attempt, meta, created_at FROM order_events
        WHERE order_id = %(id)s AND streamed_at IS NULL AND seq > %(streamed_seq)s
    ) AS waiting
) AS unstreamed
FROM moved
"""

_GUARDS: Mapping[Guard, sql.SQL] = {
    Guard.CLAIM: sql.SQL("execution = %(execution)s AND claimed_by IS DISTINCT FROM execution"),
    Guard.ATTEMPT: sql.SQL("execution = %(execution)s AND attempt = %(attempt)s"),
    Guard.ANYONE: sql.SQL("true"),
}


class PostgresOrders(PostgresIntake):
    """Keep orders in Postgres; implements ``OrderRepository`` and ``AmendableOrders``.

    Every statement may be repeated: inserts find what they stored before, transitions recognize
    themselves.
    """

    def __init__(self, database: Database, slots: int | None = None) -> None:
        super().__init__(database, slots)
        self._streamed: dict[str, int] = {}

    def move(self, transition: Transition) -> MoveResult:
        """Carry out one guarded transition in one round trip.

        Only when it affects no row is the order read, to tell a repeated call from a refusal.
        """
        values = changed_values(transition.change)
        if transition.guard is Guard.CLAIM:
            values["claimed_by"] = transition.execution
        statement = sql.SQL(_MOVE).format(
            noted=sql.SQL(NOTED),
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
            "streamed_seq": self._streamed.get(transition.order_id, 0),
            "busy": sorted(BUSY_STATUSES),
            "waiting": sorted(WAITING_STATUSES),
            "slots": self._slots,
            **self._notes(),
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
                freed_slot=row["freed_slot"],
                next_in_slot=claimed(row["next_id"], row["next_execution"]),
            )

        result = self._database.run(carry_out)
        self._forget_notes(parameters)
        return result

    def _notes(self) -> dict[str, list[Any]]:
        return {
            "noted_orders": list(self._streamed),
            "noted_seqs": list(self._streamed.values()),
        }

    def _forget_notes(self, noted: Mapping[str, Any]) -> None:
        for order_id, seq in zip(noted["noted_orders"], noted["noted_seqs"], strict=True):
            if self._streamed.get(order_id) == seq:
                del self._streamed[order_id]

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
        unstreamed = connection.execute(UNSTREAMED, {"id": transition.order_id}).fetchall()
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

    def note_streamed(self, order_id: str, seq: int) -> None:
        """Remember that the order's events up to ``seq`` have reached the order stream.

        It is written down with the next transition, or when ``MOST_NOTES`` have come together.
        What is lost with this process, the reconciler streams once more, which changes nothing.
        """
        if seq > self._streamed.get(order_id, 0):
            self._streamed[order_id] = seq
        if len(self._streamed) >= MOST_NOTES:
            self.write_notes()

    def write_notes(self) -> None:
        """Write down what is remembered of streamed events."""
        if not self._streamed:
            return
        notes = self._notes()
        self._database.execute(sql.SQL("WITH {} SELECT").format(sql.SQL(NOTED)), notes)
        self._forget_notes(notes)

    def amend(self, order_id: str, amendment: Amendment) -> tuple[Order | None, bool]:
        """Change the terms of an order that rests or waits for its turn.

        Return the order as it then stands (None: there is none), and whether it was changed.
        Raises ``ValueError`` for an amendment that names no term.
        """
        values = amended_values(amendment)
        if not values:
            raise ValueError("an amendment names at least one term")
        statement = sql.SQL(
            "UPDATE orders SET {changes}, updated_at = now_in_milliseconds()"
            " WHERE id = %(id)s AND (status = 'open' OR (status IN ('pending', 'triggered')"
            " AND started_at IS NULL)) RETURNING *"
        ).format(changes=assignments(list(values)))
        row = self._database.row(statement, {**values, "id": order_id})
        return (order_of(row), True) if row else (self.get(order_id), False)
