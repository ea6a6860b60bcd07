"""Orders and their events in Postgres."""

from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, LiteralString, TypeVar

import psycopg
from psycopg import sql
from psycopg.rows import dict_row
from psycopg.types.json import Jsonb

from order_engine.adapters.secrets import DatabaseSecret
from order_engine.domain.events import OrderEvent
from order_engine.domain.failures import Failure
from order_engine.domain.orders import Order, OrderType, Quote, SwapTransaction
from order_engine.domain.statuses import OrderStatus
from order_engine.domain.transitions import (
    FailedAttempt,
    Guard,
    MoveResult,
    NewOrder,
    PairDemand,
    Storage,
    Transition,
    VenuePrice,
    execution_name,
)
from order_engine.errors import DatabaseUnavailable

Result = TypeVar("Result")
Connection = psycopg.Connection[dict[str, Any]]

CONNECT_TIMEOUT_S = 3
STATEMENT_TIMEOUT_MS = 5_000

_INSERT = """
WITH stored AS (
    INSERT INTO orders (id, user_id, client_order_id, idempotency_key, terms_digest, type, side,
        token_in, token_out, amount_in, slippage_bps, max_retries, limit_price, expires_at,
        sniper_trigger, status, execution, milestones, created_at, updated_at)
    SELECT %(id)s, %(user_id)s, %(client_order_id)s, %(idempotency_key)s, %(terms_digest)s,
        %(type)s, %(side)s, %(token_in)s, %(token_out)s, %(amount_in)s, %(slippage_bps)s,
        %(max_retries)s, %(limit_price)s, %(expires_at)s, %(sniper_trigger)s, %(target)s,
        %(execution)s, milestone(%(target)s, instant), instant, instant
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
"""

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

# One statement sees one snapshot: the order's status is the one of its last event.
_WITH_EVENTS = """
SELECT orders.*, (
    SELECT coalesce(jsonb_agg(to_jsonb(recorded) ORDER BY recorded.seq), '[]')
    FROM order_events AS recorded WHERE recorded.order_id = orders.id
) AS events
FROM orders WHERE {condition}
"""

# Release: the next generation's execution gets the order; one statement for many orders, each
# locked and looked at anew, rows that another tick holds passed over.
_RELEASE = """
WITH due AS (
    SELECT id FROM orders
    WHERE status = 'open' AND type = %(type)s
        AND token_in = %(token_in)s AND token_out = %(token_out)s
        AND expires_at > clock_timestamp()
        AND (rests_until IS NULL OR rests_until <= clock_timestamp())
        AND EXISTS (
            SELECT FROM unnest(%(venues)s::text[], %(prices)s::numeric[], %(sizes)s::numeric[],
                               %(impacts)s::numeric[], %(liquidities)s::numeric[])
                AS offer (venue, price, size, impact, liquidity)
            WHERE {condition})
    ORDER BY limit_price, created_at, id
    LIMIT %(limit)s FOR UPDATE SKIP LOCKED
), moved AS (
    UPDATE orders SET
        previous_status = status, status = %(target)s, seq = seq + 1,
        generation = generation + 1, execution = orders.id || '-' || (generation + 1),
        retries = 0, restarts = 0, (updated_at, milestones) = (
            SELECT instant, milestones || milestone(%(target)s, instant)
            FROM (SELECT now_in_milliseconds() AS instant) AS clock)
    FROM due WHERE orders.id = due.id AND status = 'open'
    RETURNING orders.*
), recorded AS (
    INSERT INTO order_events
        (order_id, seq, event, previous_status, attempt, execution, created_at)
    SELECT id, seq, status, previous_status, attempt, execution, updated_at FROM moved
    RETURNING *
)
SELECT moved.*, to_jsonb(recorded) AS event
FROM moved JOIN recorded ON recorded.order_id = moved.id
ORDER BY moved.limit_price, moved.created_at, moved.id
"""

_ESTIMATED_PRICE = (
    "offer.price * (1 - least(0.99, offer.impact * orders.amount_in / offer.size))"
    " / (1 - offer.impact)"
)
_RELEASE_CONDITIONS: Mapping[OrderType, sql.SQL] = {
    OrderType.LIMIT: sql.SQL("orders.limit_price <= " + _ESTIMATED_PRICE),
    OrderType.SNIPER: sql.SQL(
        "sniper_trigger ->> 'venue' IN ('any', offer.venue)"
        " AND offer.liquidity >= (sniper_trigger ->> 'minLiquidity')::numeric"
        " AND coalesce(1 / nullif((sniper_trigger ->> 'maxPrice')::numeric, 0), 0) <= "
        + _ESTIMATED_PRICE
    ),
}

_EXPIRE = """
WITH due AS (
    SELECT id FROM orders WHERE status = 'open' AND expires_at <= clock_timestamp()
    ORDER BY expires_at LIMIT %(limit)s FOR UPDATE SKIP LOCKED
), moved AS (
    UPDATE orders SET
        previous_status = status, status = %(target)s, seq = seq + 1,
        (updated_at, milestones) = (
            SELECT instant, milestones || milestone(%(target)s, instant)
            FROM (SELECT now_in_milliseconds() AS instant) AS clock)
    FROM due WHERE orders.id = due.id AND status = 'open'
    RETURNING orders.*
), recorded AS (
    INSERT INTO order_events (order_id, seq, event, previous_status, attempt, created_at)
    SELECT id, seq, status, previous_status, attempt, updated_at FROM moved
    RETURNING *
)
SELECT moved.*, to_jsonb(recorded) AS event
FROM moved JOIN recorded ON recorded.order_id = moved.id
"""

_CHANGEABLE_COLUMNS = frozenset(
    {
        "claimed_by", "execution", "generation", "route_meta", "chosen_dex", "quoted_price",
        "min_amount_out", "amount_out", "executed_price", "realized_slippage_bps", "tx_hash",
        "tx_payload", "tx_last_valid_block_height", "tx_venue", "tx_resolution", "failure",
        "retries", "rests_until",
    }
)  # fmt: skip


_AMENDABLE_COLUMNS = frozenset({"limit_price", "expires_at", "slippage_bps"})


class PostgresOrders:
    """Keep orders in Postgres through one connection per execution environment.

    Every statement is its own transaction and may be repeated: inserts find what they stored
    before, transitions recognize themselves. So a lost connection is answered with one
    reconnect and one repetition; after that ``DatabaseUnavailable`` is raised.
    """

    def __init__(self, secret: DatabaseSecret) -> None:
        self._secret = secret
        self._connection: Connection | None = None

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
        terms = order.terms
        parameters = {
            "id": order.order_id,
            "user_id": terms.user_id,
            "client_order_id": terms.client_order_id,
            "idempotency_key": order.idempotency_key,
            "terms_digest": order.terms_digest,
            "type": terms.type,
            "side": terms.side,
            "token_in": terms.token_in,
            "token_out": terms.token_out,
            "amount_in": terms.amount_in,
            "slippage_bps": terms.slippage_bps,
            "max_retries": terms.max_retries,
            "limit_price": terms.limit_price,
            "expires_at": terms.expires_at,
            "sniper_trigger": Jsonb(terms.trigger.to_json_dict()) if terms.trigger else None,
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
            stored = _order_of(row)
            # A repeated insert after a lost answer finds its own row by id: it did create it.
            return Storage(
                order=stored,
                created=created or stored.order_id == order.order_id,
                idempotency_key=row["idempotency_key"],
                terms_digest=row["terms_digest"],
            )

        return self._run(store)

    def is_stored(self, user_id: str, idempotency_key: str) -> bool:
        """Tell whether the user has an order under this key."""
        return (
            self._one(
                "SELECT * FROM orders WHERE user_id = %s AND idempotency_key = %s",
                [user_id, idempotency_key],
            )
            is not None
        )

    def move(self, transition: Transition) -> MoveResult:
        """Carry out one guarded transition in one round trip.

        Only when it affects no row is the order read, to tell a repeated call from a refusal.
        """
        unknown = set(transition.changes) - _CHANGEABLE_COLUMNS
        if unknown:
            raise ValueError(f"not columns that a transition may change: {sorted(unknown)}")
        changes = dict(transition.changes)
        if transition.guard is Guard.CLAIM:
            changes["claimed_by"] = transition.execution
        statement = sql.SQL(_MOVE).format(
            changes=sql.SQL("").join(
                sql.SQL(", {} = {}").format(sql.Identifier(name), sql.Placeholder(name))
                for name in changes
            ),
            guard=_GUARDS[transition.guard],
        )
        parameters = {
            **{name: _parameter(value) for name, value in changes.items()},
            "id": transition.order_id,
            "target": transition.target,
            "sources": sorted(transition.allowed_sources),
            "attempt_step": int(transition.next_attempt),
            "attempt": transition.attempt,
            "execution": transition.execution,
            "meta": Jsonb(transition.details.to_json_dict()),
        }

        def carry_out(connection: Connection) -> MoveResult:
            row = connection.execute(statement, parameters).fetchone()
            if row is None:
                return self._explain_refusal(connection, transition)
            order = _order_of(row)
            return MoveResult(
                order=order,
                moved=True,
                unstreamed=tuple(_event_of(order, event) for event in row["unstreamed"]),
            )

        return self._run(carry_out)

    def _explain_refusal(self, connection: Connection, transition: Transition) -> MoveResult:
        row = connection.execute(
            "SELECT * FROM orders WHERE id = %s", [transition.order_id]
        ).fetchone()
        if row is None:
            return MoveResult(order=None)
        order = _order_of(row)
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
                            (transition.attempt or 0) + int(transition.next_attempt),
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
            unstreamed=tuple(_event_of(order, event) for event in unstreamed),
        )

    def resume_routing(
        self, order_id: str, execution: str, after_attempt: int | None
    ) -> Order | None:
        """Begin the next attempt of an order that is at ``routing`` already; no event.

        For a restarted execution (``after_attempt`` is None), once, or for the execution whose
        attempt failed before a venue was chosen. Return None when neither applies.
        """
        row = self._run(
            lambda connection: connection.execute(
                "UPDATE orders SET attempt = attempt + 1, claimed_by = %(execution)s,"
                " updated_at = now_in_milliseconds()"
                " WHERE id = %(id)s AND execution = %(execution)s AND status = 'routing'"
                " AND (attempt = %(after_attempt)s OR (%(after_attempt)s::int IS NULL"
                "      AND claimed_by IS DISTINCT FROM execution))"
                " RETURNING *",
                {"id": order_id, "execution": execution, "after_attempt": after_attempt},
            ).fetchone()
        )
        return _order_of(row) if row else None

    def record_failed_attempt(self, failed: FailedAttempt) -> Order | None:
        """Note the failure of the current attempt, once; the status stays.

        Return the order as it then stands, or None when the execution or attempt is not the
        order's current one.
        """
        parameters = {
            "id": failed.order_id,
            "execution": failed.execution,
            "attempt": failed.attempt,
            "failure": Jsonb(failed.failure.model_dump(mode="json", by_alias=True)),
            "resolution": failed.resolution,
            "counted": int(failed.counts),
        }

        def record(connection: Connection) -> dict[str, Any] | None:
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

        row = self._run(record)
        return _order_of(row) if row else None

    def get(self, order_id: str) -> Order | None:
        """Return an order."""
        return self._one("SELECT * FROM orders WHERE id = %s", [order_id])

    def with_events(self, order_id: str) -> tuple[Order, list[OrderEvent]] | None:
        """Return an order and its events as they were at one moment."""
        return self._with_events(sql.SQL("id = %s"), [order_id])

    def by_client_id(
        self, user_id: str, client_order_id: str
    ) -> tuple[Order, list[OrderEvent]] | None:
        """Return the user's order of this client order id, and its events, at one moment."""
        return self._with_events(
            sql.SQL("user_id = %s AND client_order_id = %s"), [user_id, client_order_id]
        )

    def events_of(self, order_id: str) -> list[OrderEvent]:
        """Return an order's events in the order of ``seq``."""
        found = self.with_events(order_id)
        return found[1] if found else []

    def _with_events(
        self, condition: sql.SQL, parameters: Sequence[Any]
    ) -> tuple[Order, list[OrderEvent]] | None:
        statement = sql.SQL(_WITH_EVENTS).format(condition=condition)
        row = self._run(lambda connection: connection.execute(statement, parameters).fetchone())
        if row is None:
            return None
        order = _order_of(row)
        return order, [_event_of(order, event) for event in row["events"]]

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
        rows = self._run(lambda connection: connection.execute(statement, parameters).fetchall())
        return [_order_of(row) for row in rows]

    def mark_streamed(self, events: Sequence[OrderEvent]) -> None:
        """Note that these events have reached the order stream."""
        if not events:
            return
        self._run(
            lambda connection: connection.execute(
                "UPDATE order_events SET streamed_at = clock_timestamp()"
                " FROM unnest(%s::uuid[], %s::int[]) AS streamed (order_id, seq)"
                " WHERE order_events.order_id = streamed.order_id"
                " AND order_events.seq = streamed.seq AND streamed_at IS NULL",
                [[event.order_id for event in events], [event.seq for event in events]],
            )
        )

    def take_stale(
        self, older_than: timedelta, limit: int, order_id: str | None = None
    ) -> list[Order]:
        """Take up to ``limit`` orders in execution that have not moved for so long."""
        rows = self._run(
            lambda connection: connection.execute(
                "UPDATE orders SET reconciled_at = clock_timestamp() WHERE id IN ("
                " SELECT id FROM orders"
                " WHERE status IN ('pending', 'triggered', 'routing', 'building', 'submitted')"
                " AND updated_at <= clock_timestamp() - %(older_than)s"
                " AND coalesce(reconciled_at, '-infinity') <= clock_timestamp() - %(older_than)s"
                " AND (%(order_id)s::uuid IS NULL OR id = %(order_id)s::uuid)"
                " ORDER BY coalesce(reconciled_at, updated_at)"
                " LIMIT %(limit)s FOR UPDATE SKIP LOCKED)"
                " RETURNING *",
                {"older_than": older_than, "limit": limit, "order_id": order_id},
            ).fetchall()
        )
        return [_order_of(row) for row in rows]

    def restart(self, order_id: str, generation: int) -> Order | None:
        """Hand the order to its next execution; None when it is final or was restarted already."""
        row = self._run(
            lambda connection: connection.execute(
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
            ).fetchone()
        )
        return _order_of(row) if row else None

    def outbox(self, older_than: timedelta, limit: int) -> list[list[OrderEvent]]:
        """Return committed events that the stream has not seen for so long, grouped by order."""
        rows = self._run(
            lambda connection: connection.execute(
                "SELECT orders.*, to_jsonb(waiting) AS waiting"
                " FROM order_events AS waiting JOIN orders ON orders.id = waiting.order_id"
                " WHERE streamed_at IS NULL"
                " AND waiting.created_at <= clock_timestamp() - %(older_than)s"
                " ORDER BY waiting.created_at, waiting.seq LIMIT %(limit)s",
                {"older_than": older_than, "limit": limit},
            ).fetchall()
        )
        grouped: dict[str, list[OrderEvent]] = {}
        for row in rows:
            order = _order_of(row)
            grouped.setdefault(order.order_id, []).append(_event_of(order, row["waiting"]))
        return list(grouped.values())

    def resting_pairs(self) -> list[PairDemand]:
        """Return the pairs that limit orders wait for, always in the same order."""
        return self._pairs(OrderType.LIMIT)

    def sniped_pairs(self) -> list[PairDemand]:
        """Return the pairs that sniper orders wait for."""
        return self._pairs(OrderType.SNIPER)

    def _pairs(self, order_type: OrderType) -> list[PairDemand]:
        rows = self._run(
            lambda connection: connection.execute(
                "SELECT token_in, token_out, min(amount_in) AS smallest_amount_in FROM orders"
                " WHERE status = 'open' AND type = %s GROUP BY token_in, token_out"
                " ORDER BY token_in, token_out",
                [order_type],
            ).fetchall()
        )
        return [PairDemand(**row) for row in rows]

    def in_flight(self) -> int:
        """Return how many released limit orders are in execution."""
        row = self._run(
            lambda connection: connection.execute(
                "SELECT count(*) AS in_flight FROM orders WHERE type = 'limit'"
                " AND status IN ('triggered', 'routing', 'building', 'submitted')"
            ).fetchone()
        )
        return int(row["in_flight"]) if row else 0

    def release_limits(
        self, pair: PairDemand, prices: Sequence[VenuePrice], limit: int
    ) -> list[MoveResult]:
        """Release up to ``limit`` orders that a price meets: best limit first, then oldest."""
        return self._release(OrderType.LIMIT, pair, prices, limit)

    def release_snipers(self, pair: PairDemand, prices: Sequence[VenuePrice]) -> list[MoveResult]:
        """Release the sniper orders whose venue, liquidity and price bounds are met."""
        return self._release(OrderType.SNIPER, pair, prices, limit=None)

    def _release(
        self,
        order_type: OrderType,
        pair: PairDemand,
        prices: Sequence[VenuePrice],
        limit: int | None,
    ) -> list[MoveResult]:
        statement = sql.SQL(_RELEASE).format(condition=_RELEASE_CONDITIONS[order_type])
        parameters = {
            "type": order_type,
            "target": OrderStatus.TRIGGERED,
            "token_in": pair.token_in,
            "token_out": pair.token_out,
            "venues": [offer.venue for offer in prices],
            "prices": [offer.price for offer in prices],
            "sizes": [offer.amount_in for offer in prices],
            "impacts": [offer.impact for offer in prices],
            "liquidities": [offer.liquidity_in for offer in prices],
            "limit": limit,
        }
        rows = self._run(lambda connection: connection.execute(statement, parameters).fetchall())
        return [_moved(row) for row in rows]

    def expire_due(self, limit: int) -> list[MoveResult]:
        """Expire up to ``limit`` orders at rest whose time has passed."""
        parameters = {"limit": limit, "target": OrderStatus.EXPIRED}
        rows = self._run(lambda connection: connection.execute(_EXPIRE, parameters).fetchall())
        return [_moved(row) for row in rows]

    def amend(self, order_id: str, changes: Mapping[str, Any]) -> tuple[Order | None, bool]:
        """Change the terms of an order at rest.

        Return the order as it then stands (None: there is none), and whether it was changed.
        """
        unknown = set(changes) - _AMENDABLE_COLUMNS
        if unknown or not changes:
            raise ValueError(f"not columns that an amend may change: {sorted(unknown)}")
        statement = sql.SQL(
            "UPDATE orders SET {changes}, updated_at = now_in_milliseconds()"
            " WHERE id = %(id)s AND status = 'open' RETURNING *"
        ).format(
            changes=sql.SQL(", ").join(
                sql.SQL("{} = {}").format(sql.Identifier(name), sql.Placeholder(name))
                for name in changes
            )
        )
        order = self._one(statement, {**changes, "id": order_id})
        return (order, True) if order else (self.get(order_id), False)

    def ping(self) -> str:
        """Return the server's version."""
        row = self._run(
            lambda connection: connection.execute(
                "SELECT current_setting('server_version') AS version"
            ).fetchone()
        )
        return str(row["version"]) if row else ""

    def _one(
        self, statement: LiteralString | sql.Composed, parameters: Sequence[Any] | Mapping[str, Any]
    ) -> Order | None:
        row = self._run(lambda connection: connection.execute(statement, parameters).fetchone())
        return _order_of(row) if row else None

    def _run(self, work: Callable[[Connection], Result]) -> Result:
        try:
            return work(self._connected())
        except (psycopg.OperationalError, psycopg.InterfaceError):
            self.close()
        try:
            return work(self._connected())
        except (psycopg.OperationalError, psycopg.InterfaceError) as error:
            self.close()
            raise DatabaseUnavailable("the database does not answer") from error

    def _connected(self) -> Connection:
        if self._connection is None or self._connection.closed:
            self._connection = connect(self._secret)
        return self._connection

    def close(self) -> None:
        """Close the connection; the next call opens another."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None


def connect(secret: DatabaseSecret) -> Connection:
    """Open a connection; a refused login is tried once more with the secret read anew.

    Prepared statements are off because proxies and poolers do not carry them.
    Raises ``psycopg.OperationalError`` or ``DatabaseUnavailable``.
    """
    options: dict[str, Any] = {
        "autocommit": True,
        "prepare_threshold": None,
        "row_factory": dict_row,
        "connect_timeout": CONNECT_TIMEOUT_S,
        "options": f"-c statement_timeout={STATEMENT_TIMEOUT_MS} -c timezone=UTC",
        "keepalives_idle": 30,
    }
    try:
        return psycopg.connect(**secret.connection_parameters(), **options)
    except psycopg.OperationalError:
        return psycopg.connect(**secret.connection_parameters(refresh=True), **options)


def _moved(row: Mapping[str, Any]) -> MoveResult:
    order = _order_of(row)
    return MoveResult(order=order, moved=True, unstreamed=(_event_of(order, row["event"]),))


def _parameter(value: Any) -> Any:
    return Jsonb(value) if isinstance(value, dict | list) else value


def _order_of(row: Mapping[str, Any]) -> Order:
    transaction = (
        SwapTransaction(
            signature=row["tx_hash"],
            payload=row["tx_payload"],
            last_valid_block_height=row["tx_last_valid_block_height"],
            venue=row["tx_venue"],
        )
        if row["tx_hash"]
        else None
    )
    return Order(
        order_id=str(row["id"]),
        user_id=row["user_id"],
        client_order_id=row["client_order_id"],
        type=row["type"],
        side=row["side"],
        token_in=row["token_in"],
        token_out=row["token_out"],
        amount_in=row["amount_in"],
        slippage_bps=row["slippage_bps"],
        max_retries=row["max_retries"],
        limit_price=row["limit_price"],
        expires_at=row["expires_at"],
        trigger=row["sniper_trigger"],
        status=row["status"],
        seq=row["seq"],
        attempt=row["attempt"],
        retries=row["retries"],
        quotes=tuple(Quote.model_validate(quote) for quote in row["route_meta"]),
        chosen_dex=row["chosen_dex"],
        quoted_price=row["quoted_price"],
        min_amount_out=row["min_amount_out"],
        amount_out=row["amount_out"],
        executed_price=row["executed_price"],
        realized_slippage_bps=row["realized_slippage_bps"],
        tx_hash=row["tx_hash"],
        failure=Failure.model_validate(row["failure"]) if row["failure"] else None,
        created_at=row["created_at"],
        updated_at=row["updated_at"],
        milestones=row["milestones"],
        execution=row["execution"],
        generation=row["generation"],
        claimed_by=row["claimed_by"],
        restarts=row["restarts"],
        transaction=transaction,
        transaction_resolution=row["tx_resolution"],
    )


def _event_of(order: Order, row: Mapping[str, Any]) -> OrderEvent:
    return OrderEvent(
        **row["meta"],
        order_id=order.order_id,
        client_order_id=order.client_order_id,
        user_id=order.user_id,
        seq=row["seq"],
        status=row["event"],
        previous_status=row["previous_status"],
        attempt=row["attempt"],
        timestamp=row["created_at"],
    )
