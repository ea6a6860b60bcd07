"""The submit function: the paths that take an order, and the WebSocket route ``execute``."""

from typing import TYPE_CHECKING, Any

import websocket_execute
from http_api import HttpApi
from routes import submission

if TYPE_CHECKING:
    from aws_lambda_powertools.utilities.typing import LambdaContext

http_api = HttpApi(submission.router)


def handler(event: dict[str, Any], context: "LambdaContext") -> dict[str, Any]:
    """Answer an HTTP API's request (payload 2.0) or a WebSocket API's message."""
    if "connectionId" in event["requestContext"]:
        return websocket_execute.handle(event, context)
    return http_api.handle(event, context)
