"""HTTP routes, and the WebSocket route ``execute``."""

from typing import TYPE_CHECKING, Any

import http_api
import websocket_execute
from api_telemetry import request_logged
from routes import market, operations, orders, pages

if TYPE_CHECKING:
    from aws_lambda_powertools.utilities.typing import LambdaContext

for part in (pages, orders, market, operations):
    http_api.app.include_router(part.router)


def handler(event: dict[str, Any], context: "LambdaContext") -> dict[str, Any]:
    """Answer an HTTP API's request (payload 2.0) or a WebSocket API's message."""
    request = event["requestContext"]
    if "connectionId" in request:
        with request_logged(context, request["requestId"], route=request["routeKey"]) as outcome:
            answer = websocket_execute.handle(event)
            outcome["status"] = answer["statusCode"]
            return answer
    http = request["http"]
    with request_logged(
        context, request["requestId"], method=http["method"], path=event["rawPath"]
    ) as outcome:
        answer = http_api.handle(event, context)
        outcome["status"] = answer["statusCode"]
        return answer
