"""The WebSocket route ``execute``: submit an order and stream its events on one connection."""

import base64
import json
from collections.abc import Mapping
from typing import Any

import api_services as services
import api_telemetry

from order_engine.api.bodies import parse_json_object
from order_engine.api.problems import problem_of
from order_engine.api.requests import (
    IdempotencyKey,
    checked_text,
    order_terms,
    refusal,
    terms_digest,
)
from order_engine.domain.orders import Order
from order_engine.errors import FieldError, ProblemCode, Rejected, StreamUnavailable
from order_engine.streaming.rows import SubscriptionOutcome

MAX_REQUEST_ID_LENGTH = 128


def handle(event: Mapping[str, Any]) -> dict[str, Any]:
    """Take the message's order in and subscribe its connection to it.

    The answer's body, if any, is an ``error`` message. What follows an accepted order, beginning
    with ``accepted``, comes over the order stream, so that it stands before the first event.
    """
    request_id: str | None = None
    try:
        message = parse_json_object(_body(event))
        request_id = _request_id(message)
        refused = _execute(message, request_id, event["requestContext"]["connectionId"])
    except Exception as error:  # noqa: BLE001 - whatever happens, the client gets a message
        problem = problem_of(error, event["requestContext"]["requestId"])
        if problem.status >= 500:
            api_telemetry.logger.error("execute failed", exc_info=error)
        refused = {
            "code": problem.code,
            "detail": problem.detail,
            "errors": [fault.model_dump() for fault in problem.errors],
        }
    if refused is None:
        return {"statusCode": 200}
    api_telemetry.count_refused(refused["code"])
    body = json.dumps({"type": "error", "requestId": request_id, **refused})
    return {"statusCode": 200, "body": body}


def _execute(
    message: Mapping[str, Any], request_id: str | None, connection_id: str
) -> dict[str, Any] | None:
    """Return None, or what to tell the client when only the subscription failed."""
    terms = order_terms(message, caller=_caller(connection_id))
    key = message.get("idempotencyKey")
    if key is not None:
        key = checked_text(key, IdempotencyKey, "idempotencyKey")
    accepted = services.acceptance().accept(
        terms, terms_digest(terms), key, key_field="idempotencyKey"
    )
    order = accepted.order
    api_telemetry.name_order(order.order_id)
    api_telemetry.count_accepted(replayed=accepted.replayed)
    greeting = {
        "type": "accepted",
        "requestId": request_id,
        "orderId": order.order_id,
        "replayed": accepted.replayed,
        "order": order.to_json_dict(),
        "warnings": list(accepted.warnings),
    }
    if _subscribe(connection_id, order, greeting):
        return None
    return {
        "code": "NOT_SUBSCRIBED",
        "detail": "The order was accepted, but the connection is not subscribed to it.",
        "errors": [],
        "orderId": order.order_id,
    }


def _subscribe(connection_id: str, order: Order, greeting: Mapping[str, Any]) -> bool:
    try:
        outcome = services.stream().subscribe_connection(
            connection_id, order.order_id, order.user_id, 0, greeting, services.clock.now()
        )
    except StreamUnavailable as error:
        api_telemetry.logger.warning("the connection was not subscribed", exc_info=error)
        return False
    return outcome is SubscriptionOutcome.SUBSCRIBED


def _caller(connection_id: str) -> str | None:
    user_id = services.stream().connection_user(connection_id)
    if user_id is None and services.settings().caller_required:
        raise Rejected(
            ProblemCode.UNAUTHENTICATED, "This connection may not place orders for anyone."
        )
    return user_id


def _request_id(message: Mapping[str, Any]) -> str | None:
    request_id = message.get("requestId")
    if request_id is None:
        return None
    if not isinstance(request_id, str) or len(request_id) > MAX_REQUEST_ID_LENGTH:
        fault = f"must be a text of at most {MAX_REQUEST_ID_LENGTH} characters"
        raise refusal([FieldError("requestId", fault, "request_id")])
    return request_id


def _body(event: Mapping[str, Any]) -> str | bytes | None:
    body: str | None = event.get("body")
    return base64.b64decode(body) if body and event.get("isBase64Encoded") else body
