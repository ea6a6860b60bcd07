"""WebSocket routes: connect, subscribe, unsubscribe, ping, disconnect."""

import json
import os
from functools import cache
from typing import Any

from order_engine import telemetry
from order_engine.adapters.dynamodb.order_stream import OrderStream
from order_engine.clock import SystemClock
from order_engine.errors import StreamUnavailable
from order_engine.settings import WebSocketSettings
from order_engine.streaming.subscriptions import Subscriptions

logger = telemetry.function_logger()


@cache
def subscriptions() -> Subscriptions:
    """Compose the service on first use and keep it for the life of the environment."""
    settings = WebSocketSettings.from_environment(os.environ)
    return Subscriptions(
        OrderStream(settings.order_stream_table),
        SystemClock(),
        caller_required=settings.caller_required,
    )


def handler(event: dict[str, Any], context: object) -> dict[str, Any]:
    """Serve one event of a connection's life; the body, if any, goes back to the client."""
    request = event["requestContext"]
    connection_id = request["connectionId"]
    with telemetry.invocation(logger, context):
        # Not by routeKey: a client may send {"action": "$connect"}.
        match request["eventType"]:
            case "CONNECT":
                return connect(connection_id, event.get("queryStringParameters") or {})
            case "DISCONNECT":
                return disconnect(connection_id)
            case _:
                return receive(connection_id, event.get("body"))


def receive(connection_id: str, body: str | None) -> dict[str, Any]:
    """Handle a client's message."""
    answer = subscriptions().receive(connection_id, body)
    shown = answer or {}
    logger.info(
        "message",
        connection_id=connection_id,
        order_id=shown.get("orderId"),
        answer=shown.get("type"),
        code=shown.get("code"),
    )
    return (
        {"statusCode": 200} if answer is None else {"statusCode": 200, "body": json.dumps(answer)}
    )


def connect(connection_id: str, parameters: dict[str, str | None]) -> dict[str, Any]:
    """Open a connection, or refuse the handshake."""
    try:
        status, refusal = subscriptions().connect(connection_id, parameters)
    except StreamUnavailable as error:
        status, refusal = 503, str(error)
    logger.info(
        "connect",
        connection_id=connection_id,
        order_id=parameters.get("orderId"),
        status=status,
        refusal=refusal,
    )
    return {"statusCode": status}


def disconnect(connection_id: str) -> dict[str, Any]:
    """Forget a connection; what is left of it goes with the first failed post, or by TTL."""
    try:
        rows = subscriptions().disconnect(connection_id)
    except StreamUnavailable as error:
        logger.warning("disconnect left to TTL", connection_id=connection_id, reason=str(error))
    else:
        logger.info("disconnect", connection_id=connection_id, rows=rows)
    return {"statusCode": 200}
