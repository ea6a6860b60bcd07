"""The routes that take an order in: three paths, one meaning."""

from typing import Annotated

import api_telemetry
from aws_lambda_powertools.event_handler import Response
from aws_lambda_powertools.event_handler.openapi.params import Header
from http_api import JSON, new_router
from public_routes import ORDER_PATHS
from request_parts import body_of, caller_of
from route_documents import replies

from order_engine import bootstrap
from order_engine.api.bodies import parse_json_object
from order_engine.api.digests import request_digest
from order_engine.api.fields import IdempotencyKey
from order_engine.api.replies import OrderAccepted
from order_engine.api.requests import order_terms

router = new_router()


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
    fields = parse_json_object(body_of(router))
    terms = order_terms(fields, caller=caller_of(router))
    digest = request_digest(terms, fields)
    accepted = bootstrap.acceptance().accept(terms, digest, idempotency_key)
    order_id = accepted.order.order_id
    api_telemetry.name_order(order_id)
    api_telemetry.count_accepted(replayed=accepted.replayed)
    headers: dict[str, str | list[str]] = {"Location": f"/api/orders/{order_id}"}
    if accepted.replayed:
        headers["Idempotency-Replayed"] = "true"
    reply = OrderAccepted.of(
        accepted.order,
        websocket_url=bootstrap.api_settings().websocket_url,
        ticket=bootstrap.tickets().of_order(accepted.order),
        warnings=accepted.warnings,
    )
    return Response(202, JSON, reply, headers)


for _path in ORDER_PATHS:
    router.post(
        _path,
        summary="Submit an order",
        description="The three paths that take an order do the same.",
        tags=["Orders"],
        status_code=202,
        responses=replies(
            202,
            "The order was accepted, by this request or by an earlier equal one.",
            400,
            413,
            422,
            429,
            headers={
                "Location": "Path of the order.",
                "Idempotency-Replayed": "`true` when an earlier request had placed the order.",
            },
        ),
    )(submit_order)
