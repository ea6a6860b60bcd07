"""What WebSocket clients ask for: to connect, to subscribe, to leave."""

import json
import logging
import re
from collections.abc import Mapping
from datetime import datetime
from typing import Any, Protocol

from order_engine.clock import Clock
from order_engine.errors import StreamUnavailable
from order_engine.streaming.rows import (
    Connection,
    SubscriptionOutcome,
    Ticket,
    Topic,
    subscribed_message,
)

logger = logging.getLogger(__name__)

MAX_MESSAGE_BYTES = 8_192
"""Twenty times the longest message that makes sense; API Gateway itself takes 32 KB a frame."""

MAX_REQUEST_ID_LENGTH = 128
MAX_SEQ = 2**31 - 1

# The users of ``order_engine.api.requests``, and no lone surrogates, which no key can hold.
_USER_ID = re.compile(r"[^\x00-\x1f\x7f-\x9f\ud800-\udfff\ufffd]{1,255}")
_ORDER_ID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}", re.A)

type Message = dict[str, Any]


class Rows(Protocol):
    """Keep connections and subscriptions; every method may raise ``StreamUnavailable``."""

    def redeem_ticket(self, ticket: str, now: datetime) -> Ticket | None:
        """Use a ticket up; ``None`` for one that opens nothing."""
        ...

    def owner_of(self, order_id: str) -> str | None:
        """Return the user whose order it is."""
        ...

    def register_connection(
        self, connection: Connection, topic: Topic | None, after_seq: int, now: datetime
    ) -> None:
        """Write down a connection and its first subscription."""
        ...

    def connections_of(self, user_id: str, but: str, now: datetime) -> int:
        """Count a user's connections besides one."""
        ...

    def connection_and_owner(
        self, connection_id: str, order_id: str | None
    ) -> tuple[Connection | None, str | None]:
        """Return a connection and an order's owner."""
        ...

    def subscribe(
        self,
        connection_id: str,
        topic: Topic,
        user_id: str,
        after_seq: int,
        greeting: Mapping[str, Any],
        now: datetime,
    ) -> SubscriptionOutcome:
        """Write or renew a subscription."""
        ...

    def unsubscribe(self, connection_id: str, topic: Topic) -> bool:
        """Delete a subscription."""
        ...

    def forget_connection(self, connection_id: str) -> int:
        """Delete all rows of a connection."""
        ...


class _MessageError(Exception):
    """Stop handling a message; becomes the ``error`` that its sender gets."""

    def __init__(self, code: str, detail: str) -> None:
        super().__init__(detail)
        self.code = code
        self.detail = detail


class _ConnectRefusedError(Exception):
    """Stop a handshake with an HTTP status."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status = status


class Subscriptions:
    """Answer WebSocket clients.

    With ``caller_required``, a connection needs a ticket and sees only its user's orders; the
    orders of others do not exist for it. Without, anyone sees any order whose id they know.
    A user may have ``most_connections`` at once, and as many as wanted when that is ``None``.
    """

    def __init__(
        self,
        rows: Rows,
        clock: Clock,
        *,
        caller_required: bool,
        most_connections: int | None = None,
    ) -> None:
        self._rows = rows
        self._clock = clock
        self._caller_required = caller_required
        self._most_connections = most_connections

    def connect(
        self, connection_id: str, parameters: Mapping[str, str | None]
    ) -> tuple[int, str | None]:
        """Open a connection; return the handshake's HTTP status and why it was refused.

        ``orderId`` (with ``afterSeq``), or else ``userId``, subscribes at once; the ``subscribed``
        message and the events come from ``publish``, for nothing can be posted before the
        handshake is over.
        """
        try:
            connection, topic, after_seq = self._admit(connection_id, parameters)
            self._check_number(connection)
            self._rows.register_connection(connection, topic, after_seq, self._clock.now())
        except _ConnectRefusedError as refused:
            return refused.status, str(refused)
        except StreamUnavailable as unavailable:
            return 503, str(unavailable)
        return 200, None

    def _admit(
        self, connection_id: str, parameters: Mapping[str, str | None]
    ) -> tuple[Connection, Topic | None, int]:
        order_id, user_id = parameters.get("orderId"), parameters.get("userId")
        after_text = parameters.get("afterSeq")
        try:
            order_id = None if order_id is None else _order_id(order_id)
            user_id = None if user_id is None else _user_id(user_id)
            after_seq = 0 if after_text is None else _seq_of_text(after_text)
        except _MessageError as error:
            raise _ConnectRefusedError(400, error.detail) from error
        ticket = self._redeem(parameters.get("ticket"))
        if ticket is None:
            # An order that is not known is no reason to refuse: its id may have been handed out
            # a moment before the stream got the order.
            connection = Connection(connection_id, user_id or "")
        else:
            order_id = self._allowed_order(ticket, order_id)
            if user_id not in {None, ticket.user_id} or (user_id and ticket.order_id):
                raise _ConnectRefusedError(403, "the ticket is not for this stream")
            connection = Connection(connection_id, ticket.user_id, ticket.order_id)
        if order_id is not None:
            return connection, Topic(order_id=order_id), after_seq
        return connection, None if user_id is None else Topic(user_id=user_id), 0

    def _check_number(self, connection: Connection) -> None:
        """Refuse one connection too many of a user; the nameless are not one user."""
        most, user_id = self._most_connections, connection.user_id
        if most is None or not user_id:
            return
        now = self._clock.now()
        if self._rows.connections_of(user_id, connection.connection_id, now) >= most:
            raise _ConnectRefusedError(429, f"the user has {most} connections already")

    def _redeem(self, ticket: str | None) -> Ticket | None:
        if not ticket:
            if self._caller_required or ticket is not None:
                raise _ConnectRefusedError(401, "a ticket is required")
            return None
        redeemed = self._rows.redeem_ticket(ticket, self._clock.now())
        if redeemed is None:
            raise _ConnectRefusedError(403, "the ticket is unknown, used or too old")
        return redeemed

    def _allowed_order(self, ticket: Ticket, order_id: str | None) -> str | None:
        """Return the order to subscribe to: the ticket's own, or any of its user's."""
        if ticket.order_id is not None:
            if order_id not in {None, ticket.order_id}:
                raise _ConnectRefusedError(403, "the ticket is for another order")
            return ticket.order_id
        if order_id is not None and self._rows.owner_of(order_id) != ticket.user_id:
            raise _ConnectRefusedError(403, "the ticket is not for this order")
        return order_id

    def disconnect(self, connection_id: str) -> int | None:
        """Delete a connection's rows and return how many; None while the table is away.

        What is left of it goes with the first failed post, or by TTL.
        """
        try:
            return self._rows.forget_connection(connection_id)
        except StreamUnavailable:
            logger.warning("disconnect left to TTL", exc_info=True)
            return None

    def receive(self, connection_id: str, body: str | None) -> Message | None:
        """Handle a client's message and return the answer; ``None`` when ``publish`` gives it.

        Whatever the client sends, it gets an answer and keeps its connection.
        """
        request_id: str | None = None
        try:
            message = _parse(body)
            request_id = _request_id(message)
            answer = self._act(connection_id, message, request_id)
        except _MessageError as error:
            answer = {"type": "error", "code": error.code, "detail": error.detail}
        except StreamUnavailable:
            answer = {
                "type": "error",
                "code": "TEMPORARILY_UNAVAILABLE",
                "detail": "try again in a moment",
            }
        if answer is not None and request_id is not None:
            answer["requestId"] = request_id
        return answer

    def _act(self, connection_id: str, message: Message, request_id: str | None) -> Message | None:
        action = message.get("action")
        if action == "ping":
            return {"type": "pong"}
        if action == "subscribe":
            return self._subscribe(connection_id, message, request_id)
        if action == "unsubscribe":
            topic = _topic(message)
            self._rows.unsubscribe(connection_id, topic)
            return {"type": "unsubscribed", **_named(topic)}
        raise _MessageError(
            "UNKNOWN_ACTION", "action must be execute, subscribe, unsubscribe or ping"
        )

    def _subscribe(
        self, connection_id: str, message: Message, request_id: str | None
    ) -> Message | None:
        topic = _topic(message)
        after_seq = _seq(message.get("afterSeq", 0))
        connection, owner = self._rows.connection_and_owner(connection_id, topic.order_id)
        if connection is None:
            raise _MessageError("CONNECTION_UNKNOWN", "the connection has expired; connect again")
        self._check(connection, topic, owner)
        outcome = self._rows.subscribe(
            connection_id,
            topic,
            connection.user_id,
            after_seq if topic.order_id is not None else 0,
            subscribed_message(topic, after_seq, request_id),
            self._clock.now(),
        )
        if outcome is SubscriptionOutcome.TOO_MANY:
            raise _MessageError(
                "TOO_MANY_SUBSCRIPTIONS", "unsubscribe first, or subscribe to the user's orders"
            )
        if outcome is SubscriptionOutcome.CONNECTION_UNKNOWN:
            raise _MessageError("CONNECTION_UNKNOWN", "the connection has expired; connect again")
        return None

    def _check(self, connection: Connection, topic: Topic, owner: str | None) -> None:
        """Raise unless the connection may listen to the topic."""
        bound_to = connection.order_id
        if topic.order_id is None:
            if bound_to is not None or (
                self._caller_required and topic.user_id != connection.user_id
            ):
                raise _MessageError("FORBIDDEN", "this connection may not see that user's orders")
            return
        if bound_to is not None:
            visible = topic.order_id == bound_to
        elif self._caller_required:
            visible = owner is not None and owner == connection.user_id
        else:
            visible = owner is not None
        if not visible:
            raise _MessageError("ORDER_NOT_FOUND", "there is no such order")


def _parse(body: str | None) -> Message:
    if body is not None and len(body.encode("utf-8", "replace")) > MAX_MESSAGE_BYTES:
        raise _MessageError("MESSAGE_TOO_LARGE", f"at most {MAX_MESSAGE_BYTES} bytes")
    try:
        message = json.loads(body or "")
    except (ValueError, RecursionError) as error:
        raise _MessageError("INVALID_MESSAGE", "the message is not JSON") from error
    if not isinstance(message, dict):
        raise _MessageError("INVALID_MESSAGE", "the message is not a JSON object")
    return message


def _request_id(message: Message) -> str | None:
    request_id = message.get("requestId")
    if request_id is None:
        return None
    if not isinstance(request_id, str) or len(request_id) > MAX_REQUEST_ID_LENGTH:
        raise _MessageError(
            "VALIDATION_FAILED", f"requestId must be text of at most {MAX_REQUEST_ID_LENGTH}"
        )
    return request_id


def _topic(message: Message) -> Topic:
    order_id, user_id = message.get("orderId"), message.get("userId")
    if (order_id is None) == (user_id is None):
        raise _MessageError("VALIDATION_FAILED", "exactly one of orderId and userId is required")
    if order_id is not None:
        return Topic(order_id=_order_id(order_id))
    return Topic(user_id=_user_id(user_id))


def _named(topic: Topic) -> Message:
    if topic.order_id is not None:
        return {"orderId": topic.order_id}
    return {"userId": topic.user_id}


def _order_id(value: object) -> str:
    if not isinstance(value, str) or not _ORDER_ID.fullmatch(value.lower()):
        raise _MessageError("VALIDATION_FAILED", "orderId must be a UUID")
    return value.lower()


def _user_id(value: object) -> str:
    if not isinstance(value, str) or not _USER_ID.fullmatch(value):
        raise _MessageError("VALIDATION_FAILED", "userId must be text of at most 255 characters")
    return value


def _seq(value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= MAX_SEQ:
        raise _MessageError("VALIDATION_FAILED", "afterSeq must be a whole number from 0")
    return value


def _seq_of_text(text: str) -> int:
    if not text.isascii() or not text.isdecimal() or len(text) > len(str(MAX_SEQ)):
        raise _MessageError("VALIDATION_FAILED", "afterSeq must be a whole number from 0")
    return _seq(int(text))
