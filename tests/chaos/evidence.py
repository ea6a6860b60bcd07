"""What a run leaves behind: what clients were told, and what Postgres and the chain have."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any


@dataclass(frozen=True)
class Acceptance:
    """An answer 202 that a client got for an order."""

    client_order_id: str
    order_id: str


@dataclass(frozen=True)
class StoredOrder:
    """An order's row. Amounts are in units of its tokenOut."""

    order_id: str
    client_order_id: str
    status: str
    seq: int
    tx_hash: str | None = None
    amount_out: Decimal | None = None
    min_amount_out: Decimal | None = None
    failure: str | None = None
    restarts: int = 0


@dataclass(frozen=True)
class StoredEvent:
    """A row of `order_events`."""

    order_id: str
    seq: int
    status: str
    previous_status: str | None
    attempt: int
    timestamp: str
    is_streamed: bool = True


@dataclass(frozen=True)
class ChainRow:
    """A transaction on the mock chain."""

    signature: str
    order_id: str
    fate: str


@dataclass(frozen=True)
class Arrival:
    """An event as it came in on a socket."""

    order_id: str
    seq: int
    status: str
    previous_status: str | None
    attempt: int
    timestamp: str

    @classmethod
    def of(cls, message: Mapping[str, Any]) -> Arrival:
        """Read a message of the WebSocket API."""
        return cls(
            order_id=message["orderId"],
            seq=message["seq"],
            status=message["status"],
            previous_status=message.get("previousStatus"),
            attempt=message["attempt"],
            timestamp=message["timestamp"],
        )


@dataclass
class Subscriber:
    """Somebody who listens: the orders of which every event is due, and what came, in order."""

    name: str
    order_ids: set[str] = field(default_factory=set)
    arrivals: list[Arrival] = field(default_factory=list)
    reconnects: int = 0


@dataclass(frozen=True)
class Evidence:
    """Everything that the invariants are checked against.

    `unfinished` are the orders that were not final when the time for it was up.
    """

    accepted: Sequence[Acceptance]
    orders: Sequence[StoredOrder]
    events: Sequence[StoredEvent]
    chain: Sequence[ChainRow]
    subscribers: Sequence[Subscriber] = ()
    unfinished: Mapping[str, str] = field(default_factory=dict)
