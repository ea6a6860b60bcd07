"""The routes of orders that are stored: parse, one call, answer."""

from typing import Annotated
from uuid import UUID

import api_telemetry
from aws_lambda_powertools.event_handler import Response
from aws_lambda_powertools.event_handler.openapi.params import Path, Query
from http_api import JSON, new_router
from request_parts import UserFilter, body_of, caller_of
from route_documents import replies

from order_engine import bootstrap
from order_engine.api.bodies import parse_json_object
from order_engine.api.fields import ClientOrderId, OrderTypeName
from order_engine.api.queries import StatusFilter
from order_engine.api.replies import Order, OrderPage, OrderWithEvents, StreamTicket
from order_engine.api.requests import DEFAULT_USER_ID, amendment_of, own_user

router = new_router()


@router.get(
    "/api/orders/<orderId>",
    summary="Look an order up",
    tags=["Orders"],
    responses=replies(200, "The order with its events.", 404, 422),
)
def get_order(orderId: Annotated[UUID, Path()]) -> Response[OrderWithEvents]:  # noqa: N803
    """Return one order and everything that happened to it."""
    order_id = str(orderId)
    api_telemetry.name_order(order_id)
    return Response(200, JSON, bootstrap.queries().one(order_id, caller=caller_of(router)))


@router.delete(
    "/api/orders/<orderId>",
    summary="Cancel an order",
    description="Possible until the order is submitted: what was sent cannot be called back.",
    tags=["Orders"],
    responses=replies(200, "The order is canceled, by this request or before.", 404, 409, 422),
)
def cancel_order(orderId: Annotated[UUID, Path()]) -> Response[Order]:  # noqa: N803
    """Call an order off."""
    order = _own_order(orderId)
    canceled = bootstrap.cancellation().cancel(order.order_id)
    return Response(200, JSON, canceled or order)


@router.patch(
    "/api/orders/<orderId>",
    summary="Amend an order that rests or waits",
    description="Changes `limitPrice`, `expiresAt`, `slippageTolerance` or `priority` while the "
    "order is `open`, or waits for its turn.",
    tags=["Orders"],
    responses=replies(200, "The order as amended.", 400, 404, 409, 413, 422),
)
def amend_order(orderId: Annotated[UUID, Path()]) -> Response[Order]:  # noqa: N803
    """Change the terms of an order that rests or waits for its turn."""
    amendment = amendment_of(parse_json_object(body_of(router)))
    order = _own_order(orderId)
    return Response(200, JSON, bootstrap.amendments().amend(order, amendment))


@router.post(
    "/api/stream-tickets",
    summary="Get a ticket for a stream of all your orders",
    description="For clients whose WebSocket cannot carry a token. A ticket works once, for 60 s.",
    tags=["Orders"],
    status_code=201,
    responses=replies(201, "The ticket.", 422),
)
def issue_stream_ticket(user_id: UserFilter = None) -> Response[StreamTicket]:
    """Issue a ticket for one connection that streams all of the user's orders."""
    user = own_user(user_id, caller_of(router)) or DEFAULT_USER_ID
    return Response(201, JSON, bootstrap.tickets().of_user(user))


@router.get(
    "/api/orders/by-client-id/<clientOrderId>",
    summary="Look an order up by the client's own id",
    tags=["Orders"],
    responses=replies(200, "The order with its events.", 404, 422),
)
def get_order_by_client_id(
    clientOrderId: Annotated[ClientOrderId, Path()],  # noqa: N803
    user_id: UserFilter = None,
) -> Response[OrderWithEvents]:
    """Return the user's order of this client order id."""
    user = own_user(user_id, caller_of(router)) or DEFAULT_USER_ID
    order = bootstrap.queries().by_client_id(user, clientOrderId)
    api_telemetry.name_order(order.order_id)
    return Response(200, JSON, order)


@router.get(
    "/api/orders",
    summary="List orders, newest first",
    tags=["Orders"],
    responses=replies(200, "A page of orders.", 422),
)
def list_orders(
    status: Annotated[
        StatusFilter, Query(description="A status, or `open` (not final), `closed`, `all`.")
    ] = "all",
    order_type: Annotated[OrderTypeName | None, Query(alias="orderType")] = None,
    user_id: UserFilter = None,
    limit: Annotated[int, Query(ge=1, le=200)] = 50,
    cursor: Annotated[
        str | None, Query(description="`nextCursor` of the page before.", max_length=100)
    ] = None,
) -> Response[OrderPage]:
    """Return a page of orders."""
    page = bootstrap.queries().page(
        user_id=own_user(user_id, caller_of(router)),
        status=status,
        order_type=order_type,
        limit=limit,
        cursor=cursor,
    )
    return Response(200, JSON, page)


def _own_order(order_id: UUID) -> Order:
    """Return the order; raise ``Rejected`` (404) when there is none or it is someone else's."""
    api_telemetry.name_order(str(order_id))
    return bootstrap.queries().order(str(order_id), caller=caller_of(router))
