"""Look orders and quotes up."""

from collections.abc import Collection, Mapping
from datetime import datetime
from decimal import Decimal
from typing import Annotated, Protocol

from pydantic import AfterValidator, WithJsonSchema
from pydantic_core import PydanticCustomError

from order_engine.api.cursors import Cursor, decode_cursor, encode_cursor
from order_engine.api.replies import MissingQuote, OrderPage, OrderWithEvents, QuoteComparison
from order_engine.clock import Clock
from order_engine.domain.events import OrderLife
from order_engine.domain.failures import FailureCode
from order_engine.domain.orders import Order, OrderType, Quote, VenueName
from order_engine.domain.routing import best_quote
from order_engine.domain.statuses import ACTIVE_STATUSES, FINAL_STATUSES, OrderStatus
from order_engine.errors import ProblemCode, Rejected, VenueTimeout, VenueUnavailable
from order_engine.venues.contract import Quoted, QuoteRequest, Venue

STATUS_FILTERS: Mapping[str, frozenset[OrderStatus] | None] = {
    **{status.value: frozenset({status}) for status in OrderStatus},
    "open": ACTIVE_STATUSES,
    "closed": FINAL_STATUSES,
    "all": None,
}
"""What a list may be narrowed to. ``open`` means every order that is not final, as on any
exchange, so it takes in the orders at rest, whose status has the same name."""


def _known_filter(value: str) -> str:
    if value not in STATUS_FILTERS:
        raise PydanticCustomError(
            "unknown_status", "must be one of {filters}", {"filters": ", ".join(STATUS_FILTERS)}
        )
    return value


StatusFilter = Annotated[
    str,
    AfterValidator(_known_filter),
    WithJsonSchema({"type": "string", "enum": list(STATUS_FILTERS)}),
]


class OrderReader(Protocol):
    """Read orders; every method raises ``DatabaseUnavailable`` when the database cannot serve."""

    def get(self, order_id: str) -> Order | None:
        """Return an order."""
        ...

    def with_events(self, order_id: str) -> OrderLife | None:
        """Return an order and its events, in order, as they were at one moment."""
        ...

    def by_client_id(self, user_id: str, client_order_id: str) -> OrderLife | None:
        """Return the user's order of this client order id, and its events, at one moment."""
        ...

    def page(
        self,
        *,
        user_id: str | None,
        statuses: Collection[OrderStatus] | None,
        order_type: OrderType | None,
        limit: int,
        before: tuple[datetime, str] | None = None,
    ) -> list[Order]:
        """Return orders, newest first, from behind ``(created_at, id)`` on."""
        ...


class OrderQueries:
    """Answer questions about orders.

    ``caller`` is the authenticated user, None in an open stack. To a caller the orders of others
    do not exist.
    """

    def __init__(self, orders: OrderReader) -> None:
        self._orders = orders

    def order(self, order_id: str, *, caller: str | None) -> Order:
        """Return an order; raise ``Rejected`` (404) when there is none."""
        order = self._orders.get(order_id)
        if order is None or not _is_visible(order, caller):
            raise order_not_found()
        return order

    def one(self, order_id: str, *, caller: str | None) -> OrderWithEvents:
        """Return an order with its events; raise ``Rejected`` (404) when there is none."""
        found = self._orders.with_events(order_id)
        if found is None or not _is_visible(found.order, caller):
            raise order_not_found()
        return OrderWithEvents.of(found)

    def by_client_id(self, user_id: str, client_order_id: str) -> OrderWithEvents:
        """Return the user's order with its events; raise ``Rejected`` (404) without one."""
        found = self._orders.by_client_id(user_id, client_order_id)
        if found is None:
            raise order_not_found()
        return OrderWithEvents.of(found)

    def page(
        self,
        *,
        user_id: str | None,
        status: str,
        order_type: OrderType | None,
        limit: int,
        cursor: str | None,
    ) -> OrderPage:
        """Return a page of orders; raise ``Rejected`` for a cursor that is none.

        ``status`` is a key of ``STATUS_FILTERS``; ``user_id`` None means everyone's.
        """
        before = None if cursor is None else decode_cursor(cursor)
        # One more than asked for tells whether another page follows.
        orders = self._orders.page(
            user_id=user_id,
            statuses=STATUS_FILTERS[status],
            order_type=order_type,
            limit=limit + 1,
            before=(before.created_at, before.order_id) if before else None,
        )
        shown = orders[:limit]
        last = shown[-1] if len(orders) > limit else None
        return OrderPage(
            orders=tuple(shown),
            next_cursor=encode_cursor(Cursor(last.created_at, last.order_id)) if last else None,
        )


def _is_visible(order: Order, caller: str | None) -> bool:
    """Tell whether the order exists for the caller; in an open stack every order does."""
    return caller in (None, order.user_id)


def order_not_found() -> Rejected:
    """Return the answer for an order that is not there, or not the caller's."""
    return Rejected(ProblemCode.ORDER_NOT_FOUND, "There is no order of this id.")


def compare_quotes(
    venues: Mapping[VenueName, Venue],
    clock: Clock,
    *,
    token_in: str,
    token_out: str,
    amount_in: Decimal,
) -> QuoteComparison:
    """Ask every venue for a quote and tell which would win."""
    request = QuoteRequest(token_in=token_in, token_out=token_out, amount_in=amount_in)
    answers = [_quote_of(name, venue, request) for name, venue in venues.items()]
    quotes = [answer for answer in answers if isinstance(answer, Quote)]
    return QuoteComparison(
        token_in=token_in,
        token_out=token_out,
        amount_in=amount_in,
        quotes=tuple(quotes),
        best_dex=best_quote(quotes).dex if quotes else None,
        missing=tuple(answer for answer in answers if isinstance(answer, MissingQuote)),
        timestamp=clock.now(),
    )


def _quote_of(name: VenueName, venue: Venue, request: QuoteRequest) -> Quote | MissingQuote:
    try:
        answer = venue.quote(request)
    except (VenueUnavailable, VenueTimeout) as trouble:
        return MissingQuote(dex=name, code=FailureCode.VENUE_UNAVAILABLE, detail=str(trouble))
    if isinstance(answer, Quoted):
        return answer.quote.public
    return MissingQuote(dex=name, code=FailureCode(answer.outcome.upper()), detail=answer.detail)
