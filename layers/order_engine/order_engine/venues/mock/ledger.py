"""The mock chain's ledger: one row per signature, written once and never changed."""

from dataclasses import dataclass
from enum import StrEnum
from threading import Lock
from typing import Protocol


class Fate(StrEnum):
    """Name what becomes of a transaction; settled when its row is written."""

    LANDED = "landed"
    REVERTED = "reverted"
    EXPIRED = "expired"
    LOST_ONCE = "lost_once"
    """Not a fate of the transaction but a marker, under a key of its own, that one send of it
    was lost on purpose."""


@dataclass(frozen=True, slots=True)
class LedgerRow:
    """Record one transaction; amounts are decimal strings in token units.

    ``landing_slot`` is set when the transaction lands or reverts, ``amount_out`` when it lands,
    ``error`` (a failure code) and ``detail`` when it reverts. ``sent_slot`` is not set when the
    chain settled the transaction as expired without ever having seen it.
    """

    signature: str
    order_id: str
    attempt: int
    venue: str
    min_amount_out: str
    last_valid_block_height: int
    fate: Fate
    sent_slot: int | None = None
    landing_slot: int | None = None
    amount_out: str | None = None
    error: str | None = None
    detail: str | None = None


class Ledger(Protocol):
    """Keep rows by signature.

    Both methods raise ``VenueUnavailable`` or ``VenueTimeout`` on technical trouble.
    """

    def put_if_absent(self, row: LedgerRow) -> LedgerRow | None:
        """Write a row unless its signature has one; return the row that stood there already."""
        ...

    def get(self, signature: str) -> LedgerRow | None:
        """Return the row of a signature, with every write before this call in it."""
        ...


class InMemoryLedger:
    """Keep the rows of one process, for tests and simulations."""

    def __init__(self) -> None:
        self._rows: dict[str, LedgerRow] = {}
        self._lock = Lock()

    def put_if_absent(self, row: LedgerRow) -> LedgerRow | None:
        """Write a row unless its signature has one; return the row that stood there already."""
        with self._lock:
            existing = self._rows.get(row.signature)
            if existing is None:
                self._rows[row.signature] = row
            return existing

    def get(self, signature: str) -> LedgerRow | None:
        """Return the row of a signature."""
        return self._rows.get(signature)

    def rows(self) -> list[LedgerRow]:
        """Return all rows."""
        with self._lock:
            return list(self._rows.values())
