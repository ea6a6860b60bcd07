"""Compare what clients were told with what Postgres and the mock chain have."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import psycopg
from pydantic import BaseModel, ConfigDict
from pydantic.alias_generators import to_camel

from local import aws
from local.stack import Stack


class StoredFigures(BaseModel):
    """What is stored of some users' orders."""

    model_config = ConfigDict(frozen=True, alias_generator=to_camel, populate_by_name=True)

    orders_by_status: dict[str, int]
    events: int
    unstreamed_events: int
    below_minimum: int
    landed_twice: int
    confirmed_without_landing: int

    @property
    def is_sound(self) -> bool:
        """Tell whether every swap happened exactly once and within its bounds."""
        return not (self.below_minimum or self.landed_twice or self.confirmed_without_landing)


def stored_figures(stack: Stack, user_ids: Sequence[str]) -> StoredFigures:
    """Read Postgres and the ledger."""
    with psycopg.connect(stack.database_url, autocommit=True) as connection:
        rows = connection.execute(
            "SELECT id::text, status, coalesce(amount_out < min_amount_out, false)"
            " FROM orders WHERE user_id = ANY(%s)",
            (list(user_ids),),
        ).fetchall()
        counts = connection.execute(
            "SELECT count(*), count(*) FILTER (WHERE streamed_at IS NULL)"
            " FROM order_events JOIN orders ON orders.id = order_id WHERE user_id = ANY(%s)",
            (list(user_ids),),
        ).fetchone()
    events, unstreamed = counts or (0, 0)
    landed = landed_by_order(stack)
    return StoredFigures(
        orders_by_status=dict(Counter(status for _, status, _ in rows)),
        events=events,
        unstreamed_events=unstreamed,
        below_minimum=sum(below for _, status, below in rows if status == "confirmed"),
        landed_twice=sum(landed[order_id] > 1 for order_id, _, _ in rows),
        confirmed_without_landing=sum(
            landed[order_id] == 0 for order_id, status, _ in rows if status == "confirmed"
        ),
    )


def landed_by_order(stack: Stack) -> Counter[str]:
    """Count the transactions that landed successfully, by order id."""
    table = stack.outputs["LedgerTableName"]
    pages = aws.client("dynamodb", stack.emulator_url).get_paginator("scan")
    return Counter(
        item["orderId"]["S"]
        for page in pages.paginate(TableName=table, ConsistentRead=True)
        for item in page["Items"]
        if item["fate"]["S"] == "landed"
    )
