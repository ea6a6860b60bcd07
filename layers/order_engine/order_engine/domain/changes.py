"""The changes of an order, one class per event of its life, each with the values it brings.

What the fields are called here, they are called in ``Order`` and in the Postgres adapter's table of
columns; a field of another name is for the event alone.
"""

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import ClassVar

from order_engine.domain.events import EventDetails
from order_engine.domain.failures import Failure
from order_engine.domain.orders import Quote, Resolution, SwapTransaction, VenueName
from order_engine.domain.statuses import OrderStatus


@dataclass(frozen=True, kw_only=True)
class Change:
    """Base of the changes.

    ``target``: the status that the order enters. ``sources``: from which it may, where that is
    fewer than the table of transitions allows. ``begins_attempt``: the attempt is counted up.
    """

    target: ClassVar[OrderStatus]
    sources: ClassVar[frozenset[OrderStatus] | None] = None
    begins_attempt: ClassVar[bool] = False

    @property
    def details(self) -> EventDetails:
        """Return what the event tells of the change."""
        return EventDetails()


@dataclass(frozen=True, kw_only=True)
class Routed(Change):
    """Venues are asked for quotes; ``after`` is the failure of the attempt before."""

    target = OrderStatus.ROUTING
    begins_attempt = True
    after: Failure | None = None

    @property
    def details(self) -> EventDetails:
        """Return why another attempt is made."""
        return EventDetails(failure=self.after)


@dataclass(frozen=True, kw_only=True)
class Decided(Change):
    """A venue is chosen; at least ``min_amount_out`` (tokenOut) must come out."""

    target = OrderStatus.BUILDING
    quotes: tuple[Quote, ...]
    chosen_dex: VenueName
    quoted_price: Decimal
    min_amount_out: Decimal

    @property
    def details(self) -> EventDetails:
        """Return the quotes and the choice."""
        return EventDetails(
            quotes=self.quotes,
            chosen_dex=self.chosen_dex,
            quoted_price=self.quoted_price,
            min_amount_out=self.min_amount_out,
        )


@dataclass(frozen=True, kw_only=True)
class Submitted(Change):
    """A signed transaction is written down, and will be sent."""

    target = OrderStatus.SUBMITTED
    transaction: SwapTransaction
    transaction_resolution: None = None

    @property
    def details(self) -> EventDetails:
        """Return the venue and the signature."""
        return EventDetails(chosen_dex=self.transaction.venue, tx_hash=self.transaction.signature)


@dataclass(frozen=True, kw_only=True)
class Confirmed(Change):
    """The swap landed and paid ``amount_out`` (tokenOut)."""

    target = OrderStatus.CONFIRMED
    landed: SwapTransaction
    executed_price: Decimal
    amount_out: Decimal
    realized_slippage_bps: Decimal
    transaction_resolution: Resolution = "landed"
    failure: None = None

    @property
    def details(self) -> EventDetails:
        """Return what was paid, and by which transaction."""
        return EventDetails(
            chosen_dex=self.landed.venue,
            tx_hash=self.landed.signature,
            executed_price=self.executed_price,
            amount_out=self.amount_out,
            realized_slippage_bps=self.realized_slippage_bps,
        )


@dataclass(frozen=True, kw_only=True)
class Failed(Change):
    """The order is given up; ``at_venue`` and ``signature`` are those of its last attempt."""

    target = OrderStatus.FAILED
    failure: Failure
    at_venue: VenueName | None = None
    signature: str | None = None

    @property
    def details(self) -> EventDetails:
        """Return why, and where it was last."""
        return EventDetails(failure=self.failure, chosen_dex=self.at_venue, tx_hash=self.signature)


@dataclass(frozen=True, kw_only=True)
class Rested(Change):
    """A released order waits again, until ``rests_until`` at least; ``because`` tells why."""

    target = OrderStatus.OPEN
    sources = frozenset({OrderStatus.ROUTING})
    rests_until: datetime
    because: Failure

    @property
    def details(self) -> EventDetails:
        """Return why it was not executed."""
        return EventDetails(failure=self.because)


@dataclass(frozen=True, kw_only=True)
class Expired(Change):
    """Its time has passed."""

    target = OrderStatus.EXPIRED


@dataclass(frozen=True, kw_only=True)
class Canceled(Change):
    """Its owner called it off."""

    target = OrderStatus.CANCELED
    reason: str

    @property
    def details(self) -> EventDetails:
        """Return who called it off."""
        return EventDetails(reason=self.reason)


@dataclass(frozen=True, kw_only=True)
class Amendment:
    """Change terms of an order at rest or waiting, no status; None leaves a term as it is."""

    priority: int | None = None
    limit_price: Decimal | None = None
    expires_at: datetime | None = None
    slippage_bps: int | None = None
