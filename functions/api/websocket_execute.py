"""The WebSocket route ``execute``: submit an order and stream its events on one connection."""

import base64
import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import api_telemetry

from order_engine import bootstrap
from order_engine.api.bodies import parse_json_object
from order_engine.api.problems import problem_of
from order_engine.api.socket_orders import request_id_of

if TYPE_CHECKING:
    from aws_lambda_powertools.utilities.typing import LambdaContext


def handle(event: Mapping[str, Any], context: "LambdaContext") -> dict[str, Any]:
    """Answer a message of the WebSocket API's route ``execute``."""
    request = event["requestContext"]
    with api_telemetry.request_logged(
        context, request["requestId"], route=request["routeKey"]
    ) as outcome:
        answer = _execute(event)
        outcome["status"] = answer["statusCode"]
        return answer


def _execute(event: Mapping[str, Any]) -> dict[str, Any]:
    """Take the message's order in and subscribe its connection to it.

    The answer's body, if any, is an ``error`` message; all else comes over the order stream.
    """
    context = event["requestContext"]
    request_id: str | None = None
    try:
        message = parse_json_object(_body(event))
        request_id = request_id_of(message)
        executed = bootstrap.socket_orders().execute(message, request_id, context["connectionId"])
        api_telemetry.name_order(executed.accepted.order.order_id)
        api_telemetry.count_accepted(replayed=executed.accepted.replayed)
        refused = executed.refusal
    except Exception as error:  # noqa: BLE001 - whatever happens, the client gets a message
        problem = problem_of(error, context["requestId"])
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


def _body(event: Mapping[str, Any]) -> str | bytes | None:
    body: str | None = event.get("body")
    return base64.b64decode(body) if body and event.get("isBase64Encoded") else body
