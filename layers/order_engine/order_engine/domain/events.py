"""The event of a transition: one shape in Postgres, DynamoDB, WebSocket and HTTP."""

from typing import Any, NamedTuple

from pydantic import Field, computed_field

from order_engine.domain.failures import Failure
from order_engine.domain.orders import Amount, DomainModel, Order, Quote, Timestamp, VenueName
from order_engine.domain.statuses import OrderStatus


class EventDetails(DomainModel):
    """Carry what a transition adds to the order; absent where it adds nothing."""

    chosen_dex: VenueName | None = None
    quotes: tuple[Quote, ...] | None = None
    quoted_price: Amount | None = None
    min_amount_out: Amount | None = None
    tx_hash: str | None = None
    executed_price: Amount | None = None
    amount_out: Amount | None = None
    realized_slippage_bps: Amount | None = None
    failure: Failure | None = None
    reason: str | None = Field(default=None, description="why, where the status does not tell")

    def to_json_dict(self) -> dict[str, Any]:
        """Return the details that are present, JSON-ready."""
        return self.model_dump(mode="json", by_alias=True, exclude_none=True)


class OrderEvent(EventDetails):
    """Tell that an order has entered a status; ``seq`` counts an order's events from 1."""

    order_id: str
    client_order_id: str | None = None
    user_id: str
    seq: int
    status: OrderStatus
    previous_status: OrderStatus | None = None
    attempt: int
    timestamp: Timestamp

    @computed_field(alias="type")  # type: ignore[prop-decorator]
    @property
    def type(self) -> str:
        """Name the message for clients that multiplex."""
        return f"order.{self.status}"

    @computed_field(alias="event")  # type: ignore[prop-decorator]
    @property
    def event(self) -> OrderStatus:
        """Repeat ``status`` for clients of older systems."""
        return self.status

    @computed_field(alias="final")  # type: ignore[prop-decorator]
    @property
    def final(self) -> bool:
        """Tell whether no event follows."""
        return self.status.is_final

    @computed_field(alias="routedDex")  # type: ignore[prop-decorator]
    @property
    def routed_dex(self) -> VenueName | None:
        """Repeat ``chosenDex`` for clients of older systems."""
        return self.chosen_dex

    @computed_field(alias="error")  # type: ignore[prop-decorator]
    @property
    def error(self) -> str | None:
        """Give the failure as one line of text."""
        return f"{self.failure.code}: {self.failure.detail}" if self.failure else None


class OrderLife(NamedTuple):
    """Hold an order and all its events as they were at one moment.

    ``orders_ahead`` (up to 1,000) go before it while it waits for its turn; else it is None.
    """

    order: Order
    events: list[OrderEvent]
    orders_ahead: int | None = None
