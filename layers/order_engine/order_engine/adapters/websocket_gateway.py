"""WebSocket connections, reached through API Gateway's management API.

The requests are signed by botocore but sent by ``http.client``: a post through a botocore client
costs 0.9 ms of processor time, this way 0.1 ms, and a busy ``publish`` does little but post.
"""

import ssl
import threading
from collections.abc import Callable
from functools import cache
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from typing import Any
from urllib.parse import quote, urlsplit

from order_engine.streaming.ports import PostOutcome

CONNECT_TIMEOUT_SECONDS = 0.5
READ_TIMEOUT_SECONDS = 1.0

type Headers = dict[str, str]
type Sign = Callable[[str, str, bytes], Headers]


class Connections:
    """Reach connections by their ids; each call is one try, within 1.5 s at most.

    ``sign`` returns the headers that authorize a request (method, URL, body). HTTP connections are
    kept open, one per thread.
    """

    def __init__(self, callback_url: str, sign: Sign | None = None) -> None:
        self._callback_url = callback_url.rstrip("/")
        self._sign = sign or _Signer()
        self._threads = threading.local()
        self._lock = threading.Lock()
        self._opened: set[HTTPConnection] = set()

    def close(self) -> None:
        """Close the HTTP connections of all threads; none of them may be posting."""
        with self._lock:
            opened, self._opened = self._opened, set()
        for connection in opened:
            connection.close()

    def post(self, connection_id: str, message: str) -> PostOutcome:
        """Send a message to one connection."""
        return self._call("POST", connection_id, message.encode())

    def disconnect(self, connection_id: str) -> PostOutcome:
        """Close a connection; its client notices and connects again."""
        return self._call("DELETE", connection_id, b"")

    def _call(self, method: str, connection_id: str, body: bytes) -> PostOutcome:
        url = f"{self._callback_url}/@connections/{quote(connection_id, safe='-_.~')}"
        headers = self._sign(method, url, body)
        is_reused = self._is_open()
        try:
            return self._send(method, url, body, headers)
        except TimeoutError:
            self._close()
            return PostOutcome.TIMED_OUT
        except (HTTPException, OSError):
            self._close()
            if not is_reused:
                return PostOutcome.UNAVAILABLE
        # The server had closed the idle connection; a new one tells how things really are.
        try:
            return self._send(method, url, body, headers)
        except TimeoutError:
            self._close()
            return PostOutcome.TIMED_OUT
        except (HTTPException, OSError):
            self._close()
            return PostOutcome.UNAVAILABLE

    def _send(self, method: str, url: str, body: bytes, headers: Headers) -> PostOutcome:
        connection = self._connection()
        connection.request(method, urlsplit(url).path, body or None, headers)
        response = connection.getresponse()
        response.read()
        return _outcome_of(response.status)

    def _is_open(self) -> bool:
        connection: HTTPConnection | None = getattr(self._threads, "connection", None)
        return connection is not None and connection.sock is not None

    def _connection(self) -> HTTPConnection:
        if self._is_open():
            kept: HTTPConnection = self._threads.connection
            return kept
        parts = urlsplit(self._callback_url)
        host = parts.hostname or ""
        if parts.scheme == "https":
            connection: HTTPConnection = HTTPSConnection(
                host, parts.port, timeout=CONNECT_TIMEOUT_SECONDS, context=_tls()
            )
        else:
            connection = HTTPConnection(host, parts.port, timeout=CONNECT_TIMEOUT_SECONDS)
        connection.connect()
        connection.sock.settimeout(READ_TIMEOUT_SECONDS)
        with self._lock:
            self._opened.add(connection)
        self._threads.connection = connection
        return connection

    def _close(self) -> None:
        connection: HTTPConnection | None = getattr(self._threads, "connection", None)
        if connection is not None:
            connection.close()
            with self._lock:
                self._opened.discard(connection)


def _outcome_of(status: int) -> PostOutcome:
    if 200 <= status < 300:
        return PostOutcome.DELIVERED
    if status == 410:
        return PostOutcome.GONE
    if status in {400, 413}:
        return PostOutcome.REFUSED
    return PostOutcome.UNAVAILABLE


@cache
def _tls() -> ssl.SSLContext:
    return ssl.create_default_context()


class _Signer:
    """Sign requests with the function's own credentials, looked up once and kept fresh."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._identity: tuple[Any, str] | None = None

    def __call__(self, method: str, url: str, body: bytes) -> Headers:
        """Return the headers that authorize a request."""
        from botocore.auth import SigV4Auth
        from botocore.awsrequest import AWSRequest

        credentials, region = self._known_identity()
        request = AWSRequest(method, url, data=body)
        SigV4Auth(credentials.get_frozen_credentials(), "execute-api", region).add_auth(request)
        return dict(request.headers.items())

    def _known_identity(self) -> tuple[Any, str]:
        from botocore.session import get_session

        # Many threads post their first message at once; one look-up is enough.
        with self._lock:
            if self._identity is None:
                session = get_session()
                self._identity = session.get_credentials(), session.get_config_variable("region")
            return self._identity
