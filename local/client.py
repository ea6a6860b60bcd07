"""A small client of the engine: submit an order, follow it over the WebSocket until it is final."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

import httpx
from websockets.exceptions import ConnectionClosed, InvalidHandshake
from websockets.sync.client import ClientConnection, connect

Json = dict[str, Any]

CONNECT_SECONDS = 20
RECONNECT_PAUSE_SECONDS = 0.5


class ApiError(Exception):
    """The API refused a request; the fields are those of its problem document."""

    def __init__(self, status: int, problem: Mapping[str, Any], text: str) -> None:
        self.status = status
        self.problem = dict(problem)
        self.code = str(problem.get("code", ""))
        self.detail = str(problem.get("detail") or problem.get("title") or text)
        errors = problem.get("errors") or []
        self.errors = [f"{error.get('field', '')}: {error.get('message', '')}" for error in errors]
        super().__init__(f"{status} {self.code} {self.detail}".strip())


class FollowTimeoutError(Exception):
    """The order was not final by the deadline; `events` are those that had arrived."""

    def __init__(self, order_id: str, seconds: float, events: int) -> None:
        super().__init__(f"Order {order_id} was not final after {seconds:.0f} s ({events} events).")
        self.events = events


@dataclass(frozen=True)
class Submission:
    """An accepted order: its reply, and whether it was an earlier order's by idempotency."""

    reply: Json
    replayed: bool

    @property
    def order_id(self) -> str:
        """The order's id."""
        return str(self.reply["orderId"])

    @property
    def web_socket_url(self) -> str:
        """The stream of this order alone."""
        return str(self.reply["wsUrl"])


class OrderClient:
    """Talk to a running stack. Use it as a context manager, or call `close`."""

    def __init__(
        self,
        http_url: str,
        *,
        token: str | None = None,
        timeout_seconds: float = 30,
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        # `trust_env`: a proxy of the caller's shell cannot reach this machine's loopback.
        self._http = httpx.Client(
            base_url=http_url.rstrip("/") + "/",
            headers=headers,
            timeout=timeout_seconds,
            transport=transport,
            trust_env=False,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        error_type: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the HTTP connections."""
        self._http.close()

    def submit(self, order: Mapping[str, Any], *, idempotency_key: str | None = None) -> Submission:
        """Submit an order. Raises ApiError when it is refused."""
        headers = {"Idempotency-Key": idempotency_key} if idempotency_key else {}
        response = self._http.post("api/orders/execute", json=dict(order), headers=headers)
        reply = self._parse(response)
        return Submission(reply, response.headers.get("Idempotency-Replayed") == "true")

    def order(self, order_id: str) -> Json:
        """Fetch an order with its events. Raises ApiError."""
        return self._parse(self._http.get(f"api/orders/{order_id}"))

    def health(self) -> Json:
        """Fetch the health document. Raises ApiError (503: the database is away)."""
        return self._parse(self._http.get("api/health"))

    def follow(
        self, web_socket_url: str, order_id: str, *, deadline_seconds: float = 60
    ) -> Iterator[Json]:
        """Yield each event of the order once and in order, until its final one.

        Reconnects when the connection breaks. Raises FollowTimeoutError at the deadline.
        """
        deadline = time.monotonic() + deadline_seconds
        last_seq = 0
        while time.monotonic() < deadline:
            try:
                with _open(web_socket_url) as connection:
                    for message in _messages(connection, deadline):
                        is_event = message.get("orderId") == order_id and "seq" in message
                        if not is_event or message["seq"] <= last_seq:
                            continue
                        last_seq = int(message["seq"])
                        yield message
                        if message.get("final"):
                            return
            except (ConnectionClosed, InvalidHandshake, OSError):
                time.sleep(RECONNECT_PAUSE_SECONDS)
        raise FollowTimeoutError(order_id, deadline_seconds, last_seq)

    @staticmethod
    def _parse(response: httpx.Response) -> Json:
        try:
            body = response.json()
        except ValueError:
            body = {}
        document: Json = body if isinstance(body, dict) else {}
        if response.is_success:
            return document
        raise ApiError(response.status_code, document, response.text[:500])


def _open(url: str) -> ClientConnection:
    return connect(url, open_timeout=CONNECT_SECONDS, proxy=None)


def _messages(connection: ClientConnection, deadline: float) -> Iterator[Json]:
    while (left := deadline - time.monotonic()) > 0:
        try:
            message = json.loads(connection.recv(timeout=left))
        except TimeoutError:
            return
        if isinstance(message, dict):
            yield message
