"""The routes of the HTTP API: parse, one call, answer."""

import base64
from functools import cache
from typing import TYPE_CHECKING, Annotated, Any
from uuid import UUID

import api_services as services
import api_telemetry
import pages
from aws_lambda_powertools.event_handler import CORSConfig, Response
from aws_lambda_powertools.event_handler.openapi.params import Header, Path, Query
from callers import subject_of
from http_errors import HttpApi, answer_with_problems
from openapi_document import API_VERSION, ORDER_PATHS, document_of, replies

from order_engine.api.bodies import parse_json_object
from order_engine.api.queries import StatusFilter, compare_quotes
from order_engine.api.replies import (
    DatabaseHealth,
    Health,
    OrderAccepted,
    OrderPage,
    OrderWithEvents,
    QuoteComparison,
    StreamTicket,
    stream_url,
)
from order_engine.api.requests import (
    DEFAULT_USER_ID,
    AmountIn,
    ClientOrderId,
    IdempotencyKey,
    OrderTypeName,
    TokenSymbol,
    UserId,
    amendment_of,
    check_swap,
    order_terms,
    own_user,
    terms_digest,
)
from order_engine.domain.orders import Order
from order_engine.errors import StreamUnavailable
from order_engine.streaming.rows import TICKET_LIFETIME

if TYPE_CHECKING:
    from aws_lambda_powertools.utilities.typing import LambdaContext

JSON = "application/json"
ORDERS = ["Orders"]
MARKET = ["Market"]
OPERATIONS = ["Operations"]

app = HttpApi(
    # For where no gateway answers for CORS; one that does replaces these headers.
    cors=CORSConfig(
        allow_headers=["Idempotency-Key"],
        expose_headers=["Location", "Idempotency-Replayed", "Retry-After"],
        max_age=86400,
    ),
    enable_validation=True,
    response_validation_error_http_code=500,
)
answer_with_problems(app)
pages.serve(app)

UserFilter = Annotated[
    UserId | None,
    Query(alias="userId", description="Whose orders; your own where callers are authenticated."),
]


def handle(event: dict[str, Any], context: "LambdaContext") -> dict[str, Any]:
    """Answer a request of the HTTP API."""
    answer = app.resolve(event, context)
    headers = answer.setdefault("headers", {})
    headers.setdefault("Cache-Control", "no-store")
    headers["X-Content-Type-Options"] = "nosniff"
    return answer


def submit_order(
    idempotency_key: Annotated[
        IdempotencyKey | None,
        Header(
            alias="Idempotency-Key",
            description="Makes the request repeatable: the same key with the same order answers "
            "with the order of the first request. Without it `clientOrderId` does.",
        ),
    ] = None,
) -> Response[OrderAccepted]:
    """Take an order in and start its execution."""
    terms = order_terms(parse_json_object(_body()), caller=_caller())
    accepted = services.acceptance().accept(terms, terms_digest(terms), idempotency_key)
    order_id = accepted.order.order_id
    api_telemetry.name_order(order_id)
    api_telemetry.count_accepted(replayed=accepted.replayed)
    headers: dict[str, str | list[str]] = {"Location": f"/api/orders/{order_id}"}
    if accepted.replayed:
        headers["Idempotency-Replayed"] = "true"
    reply = OrderAccepted.of(
        accepted.order,
        websocket_url=services.settings().websocket_url,
        ticket=_ticket(accepted.order.user_id, order_id),
        warnings=accepted.warnings,
    )
    return Response(202, JSON, reply, headers)


for _path in ORDER_PATHS:
    app.post(
        _path,
        summary="Submit an order",
        description="The three paths that take an order do the same.",
        tags=ORDERS,
        status_code=202,
        responses=replies(
            202,
            "The order was accepted, by this request or by an earlier equal one.",
            400,
            413,
            422,
            headers={
                "Location": "Path of the order.",
                "Idempotency-Replayed": "`true` when an earlier request had placed the order.",
            },
        ),
    )(submit_order)


@app.get(
    "/api/orders/<orderId>",
    summary="Look an order up",
    tags=ORDERS,
    responses=replies(200, "The order with its events.", 404, 422),
)
def get_order(orderId: Annotated[UUID, Path()]) -> Response[OrderWithEvents]:  # noqa: N803
    """Return one order and everything that happened to it."""
    order_id = str(orderId)
    api_telemetry.name_order(order_id)
    return Response(200, JSON, services.queries().one(order_id, caller=_caller()))


@app.delete(
    "/api/orders/<orderId>",
    summary="Cancel an order",
    description="Possible until the order is submitted: what was sent cannot be called back.",
    tags=ORDERS,
    responses=replies(200, "The order is canceled, by this request or before.", 404, 409, 422),
)
def cancel_order(orderId: Annotated[UUID, Path()]) -> Response[Order]:  # noqa: N803
    """Call an order off."""
    order = _own_order(orderId)
    canceled = services.cancellation().cancel(order.order_id)
    return Response(200, JSON, canceled or order)


@app.patch(
    "/api/orders/<orderId>",
    summary="Amend an order at rest",
    description="Changes `limitPrice`, `expiresAt` or `slippageTolerance` while it is `open`.",
    tags=ORDERS,
    responses=replies(200, "The order as amended.", 400, 404, 409, 413, 422),
)
def amend_order(orderId: Annotated[UUID, Path()]) -> Response[Order]:  # noqa: N803
    """Change the terms of an order at rest."""
    amendment = amendment_of(parse_json_object(_body()))
    order = _own_order(orderId)
    return Response(200, JSON, services.amendments().amend(order, amendment))


@app.post(
    "/api/stream-tickets",
    summary="Get a ticket for a stream of all your orders",
    description="For clients whose WebSocket cannot carry a token. A ticket works once, for 60 s.",
    tags=ORDERS,
    status_code=201,
    responses=replies(201, "The ticket.", 422),
)
def issue_stream_ticket(user_id: UserFilter = None) -> Response[StreamTicket]:
    """Issue a ticket for one connection that streams all of the user's orders."""
    user = own_user(user_id, _caller()) or DEFAULT_USER_ID
    now = services.clock.now()
    ticket = services.stream().issue_ticket(user, None, now)
    reply = StreamTicket(
        ticket=ticket,
        ws_url=stream_url(services.settings().websocket_url, {"ticket": ticket, "userId": user}),
        expires_at=now + TICKET_LIFETIME,
    )
    return Response(201, JSON, reply)


@app.get(
    "/api/orders/by-client-id/<clientOrderId>",
    summary="Look an order up by the client's own id",
    tags=ORDERS,
    responses=replies(200, "The order with its events.", 404, 422),
)
def get_order_by_client_id(
    clientOrderId: Annotated[ClientOrderId, Path()],  # noqa: N803
    user_id: UserFilter = None,
) -> Response[OrderWithEvents]:
    """Return the user's order of this client order id."""
    user = own_user(user_id, _caller()) or DEFAULT_USER_ID
    order = services.queries().by_client_id(user, clientOrderId)
    api_telemetry.name_order(order.order_id)
    return Response(200, JSON, order)


@app.get(
    "/api/orders",
    summary="List orders, newest first",
    tags=ORDERS,
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
    page = services.queries().page(
        user_id=own_user(user_id, _caller()),
        status=status,
        order_type=order_type,
        limit=limit,
        cursor=cursor,
    )
    return Response(200, JSON, page)


@app.get(
    "/api/quotes",
    summary="Compare the venues' quotes",
    tags=MARKET,
    responses=replies(200, "Both venues' quotes and which would win.", 422),
)
def get_quotes(
    token_in: Annotated[TokenSymbol, Query(alias="tokenIn")],
    token_out: Annotated[TokenSymbol, Query(alias="tokenOut")],
    amount_in: Annotated[AmountIn, Query(alias="amountIn")],
) -> Response[QuoteComparison]:
    """Return what each venue would pay now."""
    _caller()
    check_swap(token_in, token_out, amount_in)
    comparison = compare_quotes(
        services.venues(),
        services.clock,
        token_in=token_in,
        token_out=token_out,
        amount_in=amount_in,
    )
    return Response(200, JSON, comparison)


@app.get(
    "/api/health",
    summary="Ask whether orders can be taken",
    tags=OPERATIONS,
    responses=replies(200, "The engine and its database answer."),
)
def get_health() -> Response[Health]:
    """Return the state of the engine; a problem (503) when its database is away."""
    database = DatabaseHealth(version=services.orders().ping())
    access = "authenticated" if services.settings().caller_required else "open"
    return Response(200, JSON, Health(version=API_VERSION, access=access, database=database))


@app.get(r"/api/openapi\.json", include_in_schema=False)
def get_openapi_document() -> Response[str]:
    """Return the description of this API."""
    return Response(200, JSON, _openapi_document(services.settings().caller_required))


@cache
def _openapi_document(authenticated: bool) -> str:
    return document_of(app, authenticated=authenticated, now=services.clock.now())


def _own_order(order_id: UUID) -> Order:
    """Return the order; raise ``Rejected`` (404) when there is none or it is someone else's."""
    api_telemetry.name_order(str(order_id))
    return services.queries().order(str(order_id), caller=_caller())


def _ticket(user_id: str, order_id: str) -> str | None:
    """Return a ticket for the order's stream where callers are authenticated.

    None also while tickets cannot be stored: that is no reason to refuse an order that is placed.
    """
    if not services.settings().caller_required:
        return None
    try:
        return services.stream().issue_ticket(user_id, order_id, services.clock.now())
    except StreamUnavailable as error:
        api_telemetry.logger.warning("accepted without a ticket", exc_info=error)
        return None


def _body() -> str | bytes | None:
    event = app.current_event
    if event.body and event.is_base64_encoded:
        return base64.b64decode(event.body)
    return event.body


def _caller() -> str | None:
    """Return the authenticated user, None in an open stack; raise ``Rejected`` (401)."""
    if not services.settings().caller_required:
        return None
    return subject_of(
        app.current_event.request_context.authorizer.jwt_claim,
        issuer=services.settings().jwt_issuer,
        now=services.clock.now(),
    )
