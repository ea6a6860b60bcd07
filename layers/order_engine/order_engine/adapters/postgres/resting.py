"""Find, release and expire orders at rest."""

from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import LiteralString

from psycopg import sql

from order_engine.adapters.postgres.orders import PostgresOrders
from order_engine.adapters.postgres.rows import moved
from order_engine.domain.orders import OrderType
from order_engine.domain.statuses import OrderStatus
from order_engine.domain.transitions import MoveResult, PairDemand, VenuePrice

# Release: the next generation's execution gets the order; one statement for many orders, each
# locked and looked at anew, rows that another tick holds passed over.
_RELEASE = """
WITH due AS (
    SELECT id FROM orders
    WHERE status = 'open' AND type = %(type)s
        AND token_in = %(token_in)s AND token_out = %(token_out)s
        AND {range} AND expires_at > clock_timestamp()
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
        retries = 0, restarts = 0,
        started_at = CASE WHEN %(starts_at_once)s THEN now_in_milliseconds() END,
        (updated_at, milestones) = (
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

ESTIMATED_PRICE: LiteralString = (
    "offer.price * (1 - least(0.99, offer.impact * orders.amount_in / offer.size))"
    " / (1 - offer.impact)"
)
"""What the order would get: an offer's price, made worse or better by the order's own size."""

CONDITIONS: dict[OrderType, LiteralString] = {
    "limit": "orders.limit_price <= " + ESTIMATED_PRICE,
    "sniper": (
        "sniper_trigger ->> 'venue' IN ('any', offer.venue)"
        " AND offer.liquidity >= (sniper_trigger ->> 'minLiquidity')::numeric * offer.price"
        " AND coalesce((sniper_trigger ->> 'maxPrice')::numeric * "
        + ESTIMATED_PRICE
        + " >= 1, true)"
    ),
}
"""When an ``offer`` releases an order of the type: ``is_met`` of its rules, in SQL."""


RANGES: Mapping[OrderType, LiteralString] = {"limit": "limit_price <= %(best_price)s"}
"""What an index can tell of a type's condition: without it, orders far from it are looked at."""


class PostgresRestingOrders(PostgresOrders):
    """Look after orders at rest; implements ``RestingOrders``."""

    def pairs_at_rest(self, order_type: OrderType) -> list[PairDemand]:
        """Return the pairs that orders of the type wait for, always in the same order."""
        rows = self._database.rows(
            "SELECT token_in, token_out, min(amount_in) AS smallest_amount_in FROM orders"
            " WHERE status = 'open' AND type = %s GROUP BY token_in, token_out"
            " ORDER BY token_in, token_out",
            [order_type],
        )
        return [PairDemand(**row) for row in rows]

    def release(
        self,
        order_type: OrderType,
        pair: PairDemand,
        prices: Sequence[VenuePrice],
        limit: int | None = None,
    ) -> list[MoveResult]:
        """Release orders that a price meets, up to ``limit``: best limit first, then oldest."""
        statement = sql.SQL(_RELEASE).format(
            condition=sql.SQL(CONDITIONS[order_type]),
            range=sql.SQL(RANGES.get(order_type, "true")),
        )
        parameters = {
            "type": order_type,
            "target": OrderStatus.TRIGGERED,
            "token_in": pair.token_in,
            "token_out": pair.token_out,
            "venues": [offer.venue for offer in prices],
            "prices": [offer.price for offer in prices],
            "sizes": [offer.amount_in for offer in prices],
            "impacts": [offer.impact for offer in prices],
            "liquidities": [offer.liquidity for offer in prices],
            "best_price": _best_price(prices),
            "limit": limit,
            "starts_at_once": self._slots is None,
        }
        return [moved(row) for row in self._database.rows(statement, parameters)]

    def expire_due(self, limit: int) -> list[MoveResult]:
        """Expire up to ``limit`` orders at rest whose time has passed."""
        parameters = {"limit": limit, "target": OrderStatus.EXPIRED}
        return [moved(row) for row in self._database.rows(_EXPIRE, parameters)]


def _best_price(prices: Sequence[VenuePrice]) -> Decimal:
    """Return what no order gets more than, as the smallest has next to no impact of its own.

    A bound for the index: a little too high looks at a few orders in vain.
    """
    return max(offer.price / (1 - offer.impact) for offer in prices) * Decimal("1.000001")
