"""Which column holds which value of an order: one table, for writing and for reading.

To add a term: its field in ``OrderTerms``, its migration, and its line in ``COLUMNS``.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any
from uuid import UUID

from psycopg import sql
from psycopg.types.json import Jsonb

from order_engine.domain.changes import Amendment, Change
from order_engine.domain.events import OrderEvent
from order_engine.domain.failures import Failure
from order_engine.domain.orders import DomainModel, Order, OrderTerms, Quote, SwapTransaction
from order_engine.domain.transitions import Claimed, MoveResult


def _same(value: Any) -> Any:
    return value


def _json(value: DomainModel | None) -> Jsonb | None:
    return None if value is None else Jsonb(value.to_json_dict())


def _json_list(values: Sequence[DomainModel]) -> Jsonb:
    return Jsonb([value.to_json_dict() for value in values])


def _quotes(value: Sequence[Mapping[str, Any]]) -> tuple[Quote, ...]:
    return tuple(Quote.model_validate(quote) for quote in value)


def failure_json(failure: Failure | None) -> Jsonb | None:
    """Return a failure as its column holds it."""
    return None if failure is None else Jsonb(failure.model_dump(mode="json", by_alias=True))


def _failure(value: Mapping[str, Any] | None) -> Failure | None:
    return None if value is None else Failure.model_validate(value)


@dataclass(frozen=True, slots=True)
class Column:
    """Say which field of an order, or of a change of one, a column of ``orders`` holds.

    ``is_read`` is false for what only the adapter's own statements look at, and for the parts of a
    field that several columns hold.
    """

    name: str
    field: str
    write: Callable[[Any], Any] = _same
    read: Callable[[Any], Any] = _same
    is_read: bool = True


COLUMNS: tuple[Column, ...] = (
    Column("id", "order_id", read=str),
    Column("user_id", "user_id"),
    Column("client_order_id", "client_order_id"),
    Column("type", "type"),
    Column("side", "side"),
    Column("token_in", "token_in"),
    Column("token_out", "token_out"),
    Column("amount_in", "amount_in"),
    Column("slippage_bps", "slippage_bps"),
    Column("max_retries", "max_retries"),
    Column("priority", "priority"),
    Column("limit_price", "limit_price"),
    Column("expires_at", "expires_at"),
    Column("sniper_trigger", "trigger", write=_json),
    Column("status", "status"),
    Column("seq", "seq"),
    Column("attempt", "attempt"),
    Column("retries", "retries"),
    Column("restarts", "restarts"),
    Column("execution", "execution"),
    Column("generation", "generation"),
    Column("claimed_by", "claimed_by"),
    Column("started_at", "started_at"),
    Column("rests_until", "rests_until", is_read=False),
    Column("route_meta", "quotes", write=_json_list, read=_quotes),
    Column("chosen_dex", "chosen_dex"),
    Column("quoted_price", "quoted_price"),
    Column("min_amount_out", "min_amount_out"),
    Column("amount_out", "amount_out"),
    Column("executed_price", "executed_price"),
    Column("realized_slippage_bps", "realized_slippage_bps"),
    Column("tx_hash", "tx_hash"),
    Column("tx_hash", "transaction", write=lambda swap: swap.signature, is_read=False),
    Column("tx_payload", "transaction", write=lambda swap: swap.payload, is_read=False),
    Column(
        "tx_last_valid_block_height",
        "transaction",
        write=lambda swap: swap.last_valid_block_height,
        is_read=False,
    ),
    Column("tx_venue", "transaction", write=lambda swap: swap.venue, is_read=False),
    Column("tx_resolution", "transaction_resolution"),
    Column("failure", "failure", write=failure_json, read=_failure),
    Column("milestones", "milestones"),
    Column("created_at", "created_at"),
    Column("updated_at", "updated_at"),
)

_READ = tuple(column for column in COLUMNS if column.is_read)
_OF_FIELD: Mapping[str, tuple[Column, ...]] = {
    field: tuple(column for column in COLUMNS if column.field == field)
    for field in {column.field for column in COLUMNS}
}
TERMS: tuple[Column, ...] = tuple(
    column for column in COLUMNS if column.field in OrderTerms.model_fields
)
"""The columns of what the caller asked for."""


def term_values(terms: OrderTerms) -> dict[str, Any]:
    """Return an order's terms by column."""
    return {column.name: column.write(getattr(terms, column.field)) for column in TERMS}


def changed_values(change: Change) -> dict[str, Any]:
    """Return what a change writes, by column; fields without a column are the event's alone."""
    return {
        column.name: column.write(getattr(change, field.name))
        for field in fields(change)
        for column in _OF_FIELD.get(field.name, ())
    }


def amended_values(amendment: Amendment) -> dict[str, Any]:
    """Return the terms that an amendment changes, by column."""
    return {
        column.name: column.write(value)
        for field in fields(amendment)
        if (value := getattr(amendment, field.name)) is not None
        for column in _OF_FIELD[field.name]
    }


def assignments(names: Sequence[str]) -> sql.Composed:
    """Return ``name = %(name)s`` for each column, with commas between them."""
    return sql.SQL(", ").join(
        sql.SQL("{} = {}").format(sql.Identifier(name), sql.Placeholder(name)) for name in names
    )


def order_of(row: Mapping[str, Any]) -> Order:
    """Return the order that a row of ``orders`` holds."""
    return Order(
        **{column.field: column.read(row[column.name]) for column in _READ},
        transaction=_transaction(row),
    )


def _transaction(row: Mapping[str, Any]) -> SwapTransaction | None:
    if not row["tx_hash"]:
        return None
    return SwapTransaction(
        signature=row["tx_hash"],
        payload=row["tx_payload"],
        last_valid_block_height=row["tx_last_valid_block_height"],
        venue=row["tx_venue"],
    )


def event_of(order: Order, row: Mapping[str, Any]) -> OrderEvent:
    """Return the event that a row of ``order_events`` holds."""
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


def claimed(order_id: UUID | None, execution: str | None) -> Claimed | None:
    """Return the order that a statement gave a slot, if it gave one."""
    return Claimed(str(order_id), execution) if order_id and execution else None


def moved(row: Mapping[str, Any]) -> MoveResult:
    """Return what a statement that moves many orders did to this one."""
    order = order_of(row)
    return MoveResult(order=order, moved=True, unstreamed=(event_of(order, row["event"]),))
