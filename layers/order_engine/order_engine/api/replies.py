"""What the HTTP API answers, besides problems."""

from collections.abc import Mapping
from typing import Annotated, Literal
from urllib.parse import urlencode

from pydantic import Field, PlainSerializer

from order_engine.domain.events import OrderEvent, OrderLife
from order_engine.domain.failures import FailureCode
from order_engine.domain.orders import Amount, DomainModel, Quote, Timestamp, VenueName
from order_engine.domain.orders import Order as Order

# Without the details that are absent, as everywhere else that an event is shown.
_Event = Annotated[OrderEvent, PlainSerializer(lambda event: event.to_json_dict())]


class OrderAccepted(Order, defer_build=True):
    """Confirm that an order was taken, and say where to watch it."""

    message: str
    ws_url: str = Field(description="WebSocket URL that replays and streams the order's events")
    warnings: tuple[str, ...] = Field(
        default=(), description="what may surprise, for instance a limit that is marketable already"
    )

    @classmethod
    def of(
        cls, order: Order, *, websocket_url: str, ticket: str | None, warnings: tuple[str, ...] = ()
    ) -> "OrderAccepted":
        """Show a stored order; ``websocket_url`` is the API's, without the order."""
        return cls(
            **dict(order),
            message="Order accepted. Connect to wsUrl for its events.",
            ws_url=stream_url(websocket_url, {"orderId": order.order_id, "ticket": ticket}),
            warnings=warnings,
        )


def stream_url(websocket_url: str, parameters: Mapping[str, str | None]) -> str:
    """Return the URL to connect to, with the parameters that have a value."""
    given = {name: value for name, value in parameters.items() if value is not None}
    return f"{websocket_url}?{urlencode(given)}"


class StreamTicket(DomainModel):
    """Let one connection stream all of the caller's orders."""

    ticket: str
    ws_url: str = Field(description="WebSocket URL that carries the ticket; it works once")
    expires_at: Timestamp


class PlaceInQueue(DomainModel):
    """Tell how many orders go before one that waits for its turn."""

    ahead: int = Field(description="an estimate, counted up to 1,000")


class OrderWithEvents(Order, defer_build=True):
    """Show an order and everything that happened to it."""

    queue: PlaceInQueue | None = Field(
        default=None, description="while the order waits for its turn to be executed"
    )
    events: tuple[_Event, ...]

    @classmethod
    def of(cls, life: OrderLife) -> "OrderWithEvents":
        """Show an order, its place in the queue and its events."""
        ahead = life.orders_ahead
        return cls(
            **dict(life.order),
            queue=None if ahead is None else PlaceInQueue(ahead=ahead),
            events=tuple(life.events),
        )


class OrderPage(DomainModel, defer_build=True):
    """Show orders, newest first."""

    orders: tuple[Order, ...]
    next_cursor: str | None = Field(
        default=None, description="`cursor` of the next page; null on the last one"
    )


class MissingQuote(DomainModel):
    """Say why a venue has no quote."""

    dex: VenueName
    code: FailureCode
    detail: str


class QuoteComparison(DomainModel):
    """Show the venues' quotes side by side."""

    token_in: str
    token_out: str
    amount_in: Amount
    quotes: tuple[Quote, ...]
    best_dex: VenueName | None = Field(description="where an order would be executed now")
    missing: tuple[MissingQuote, ...] = Field(description="venues without a quote")
    timestamp: Timestamp


class DatabaseHealth(DomainModel):
    """Tell that the database answers."""

    status: Literal["ok"] = "ok"


class Health(DomainModel):
    """Tell that the engine can take orders."""

    status: Literal["ok"] = "ok"
    version: str
    access: Literal["open", "authenticated"] = Field(
        description="'open': anyone may place orders for any userId"
    )
    database: DatabaseHealth
