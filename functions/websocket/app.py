"""WebSocket routes: connect, subscribe, unsubscribe, ping, disconnect."""

import json
from http import HTTPStatus
from typing import Any

from order_engine import bootstrap
from order_engine.telemetry import Telemetry

telemetry = Telemetry()

RETRY_AFTER_SECONDS = 60


def handler(event: dict[str, Any], context: object) -> dict[str, Any]:
    """Serve one event of a connection's life; the body, if any, goes back to the client."""
    request = event["requestContext"]
    connection_id = request["connectionId"]
    with telemetry.invocation(context, connection_id=connection_id):
        # Not by routeKey: a client may send {"action": "$connect"}.
        match request["eventType"]:
            case "CONNECT":
                return connect(connection_id, event.get("queryStringParameters") or {})
            case "DISCONNECT":
                return disconnect(connection_id)
            case _:
                return receive(connection_id, event.get("body"))


def connect(connection_id: str, parameters: dict[str, str | None]) -> dict[str, Any]:
    """Open a connection, or refuse the handshake."""
    status, refusal = bootstrap.subscriptions().connect(connection_id, parameters)
    order_id = parameters.get("orderId")
    telemetry.logger.info("connect", order_id=order_id, status=status, refusal=refusal)
    answer: dict[str, Any] = {"statusCode": status}
    if status == HTTPStatus.TOO_MANY_REQUESTS:
        answer["headers"] = {"Retry-After": str(RETRY_AFTER_SECONDS)}
    return answer


def disconnect(connection_id: str) -> dict[str, Any]:
    """Forget a connection; what is left of it goes with the first failed post, or by TTL."""
    rows = bootstrap.subscriptions().disconnect(connection_id)
    telemetry.logger.info("disconnect", rows=rows)
    return {"statusCode": 200}


def receive(connection_id: str, body: str | None) -> dict[str, Any]:
    """Handle a client's message."""
    answer = bootstrap.subscriptions().receive(connection_id, body)
    shown = answer or {}
    telemetry.logger.info(
        "message",
        order_id=shown.get("orderId"),
        answer=shown.get("type"),
        code=shown.get("code"),
    )
    return (
        {"statusCode": 200} if answer is None else {"statusCode": 200, "body": json.dumps(answer)}
    )
