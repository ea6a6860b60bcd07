"""WebSocket connections, posted to through API Gateway's management API."""

from collections.abc import Callable
from functools import cache
from typing import Any

from order_engine.publishing import PostOutcome

CONNECT_TIMEOUT_SECONDS = 0.5
READ_TIMEOUT_SECONDS = 1.0
MAX_HTTP_CONNECTIONS = 64


class Connections:
    """Post messages to connections; each call is one try, within 1.5 s at most."""

    def __init__(self, callback_url: str, client: Callable[[str], Any] | None = None) -> None:
        self._callback_url = callback_url
        self._client = client or _client

    def post(self, connection_id: str, message: str) -> PostOutcome:
        """Send a message to one connection."""
        return self._call("post_to_connection", ConnectionId=connection_id, Data=message.encode())

    def disconnect(self, connection_id: str) -> PostOutcome:
        """Close a connection; its client notices and connects again."""
        return self._call("delete_connection", ConnectionId=connection_id)

    def _call(self, operation: str, **parameters: Any) -> PostOutcome:
        from botocore.exceptions import (
            ClientError,
            ConnectionError,  # noqa: A004
            ConnectTimeoutError,
            HTTPClientError,
            ReadTimeoutError,
        )
        from botocore.parsers import ResponseParserError

        try:
            getattr(self._client(self._callback_url), operation)(**parameters)
        except ClientError as error:
            return _outcome_of(error.response["ResponseMetadata"]["HTTPStatusCode"])
        except (ConnectTimeoutError, ReadTimeoutError):
            return PostOutcome.TIMED_OUT
        except (ConnectionError, HTTPClientError, ResponseParserError):
            return PostOutcome.UNAVAILABLE
        return PostOutcome.DELIVERED


def _outcome_of(status: int) -> PostOutcome:
    if status == 410:
        return PostOutcome.GONE
    if status in {400, 413}:
        return PostOutcome.REFUSED
    return PostOutcome.UNAVAILABLE


@cache
def _client(callback_url: str) -> Any:
    from botocore.config import Config
    from botocore.session import get_session

    return get_session().create_client(
        "apigatewaymanagementapi",
        endpoint_url=callback_url,
        config=Config(
            connect_timeout=CONNECT_TIMEOUT_SECONDS,
            read_timeout=READ_TIMEOUT_SECONDS,
            retries={"mode": "standard", "total_max_attempts": 1},
            max_pool_connections=MAX_HTTP_CONNECTIONS,
            tcp_keepalive=True,
        ),
    )
