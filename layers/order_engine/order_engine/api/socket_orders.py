"""Orders that come over a WebSocket: submit one and stream its events on the same connection."""

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol

from order_engine.api.digests import request_digest
from order_engine.api.fields import IdempotencyKey
from order_engine.api.requests import checked_text, order_terms, refusal
from order_engine.clock import Clock
from order_engine.domain.orders import Order
from order_engine.errors import FieldError, ProblemCode, Rejected, StreamUnavailable
from order_engine.execution.acceptance import Acceptance, Accepted
from order_engine.streaming.rows import SubscriptionOutcome

logger = logging.getLogger(__name__)

MAX_REQUEST_ID_LENGTH = 128


class ConnectionRows(Protocol):
    """Know the connections; every method raises ``StreamUnavailable``."""

    def connection_user(self, connection_id: str) -> str | None:
        """Return whose connection it is, None when it is nobody's."""
        ...

    def subscribe_connection(
        self,
        connection_id: str,
        order_id: str,
        user_id: str,
        after_seq: int,
        greeting: Mapping[str, Any],
        now: datetime,
    ) -> SubscriptionOutcome:
        """Subscribe a connection to an order."""
        ...


@dataclass(frozen=True, slots=True)
class Executed:
    """Hold the accepted order, and the message to send when only its subscription failed."""

    accepted: Accepted
    refusal: dict[str, Any] | None


class SocketOrders:
    """Take orders from connections.

    ``acceptance`` makes the service when it is needed: a refused message needs none.
    """

    def __init__(
        self,
        acceptance: Callable[[], Acceptance],
        connections: ConnectionRows,
        clock: Clock,
        caller_required: bool,
    ) -> None:
        self._acceptance = acceptance
        self._connections = connections
        self._clock = clock
        self._caller_required = caller_required

    def execute(
        self, message: Mapping[str, Any], request_id: str | None, connection_id: str
    ) -> Executed:
        """Take the message's order in and subscribe its connection to it.

        What follows an accepted order, beginning with ``accepted``, comes over the order stream,
        so that it stands before the first event. Raises ``Rejected``, ``DatabaseUnavailable``,
        ``StreamUnavailable``.
        """
        terms = order_terms(message, caller=self._caller(connection_id))
        key = message.get("idempotencyKey")
        if key is not None:
            key = checked_text(key, IdempotencyKey, "idempotencyKey")
        accepted = self._acceptance().accept(
            terms, request_digest(terms, message), key, key_field="idempotencyKey"
        )
        order = accepted.order
        greeting = {
            "type": "accepted",
            "requestId": request_id,
            "orderId": order.order_id,
            "replayed": accepted.replayed,
            "order": order.to_json_dict(),
            "warnings": list(accepted.warnings),
        }
        if self._subscribe(connection_id, order, greeting):
            return Executed(accepted, None)
        return Executed(
            accepted,
            {
                "code": "NOT_SUBSCRIBED",
                "detail": "The order was accepted, but the connection is not subscribed to it.",
                "errors": [],
                "orderId": order.order_id,
            },
        )

    def _subscribe(self, connection_id: str, order: Order, greeting: Mapping[str, Any]) -> bool:
        try:
            outcome = self._connections.subscribe_connection(
                connection_id, order.order_id, order.user_id, 0, greeting, self._clock.now()
            )
        except StreamUnavailable:
            logger.warning("the connection was not subscribed", exc_info=True)
            return False
        return outcome is SubscriptionOutcome.SUBSCRIBED

    def _caller(self, connection_id: str) -> str | None:
        user_id = self._connections.connection_user(connection_id)
        if user_id is None and self._caller_required:
            raise Rejected(
                ProblemCode.UNAUTHENTICATED, "This connection may not place orders for anyone."
            )
        return user_id


def request_id_of(message: Mapping[str, Any]) -> str | None:
    """Return the message's ``requestId``; raise ``Rejected`` for one that is not a short text."""
    request_id = message.get("requestId")
    if request_id is None:
        return None
    if not isinstance(request_id, str) or len(request_id) > MAX_REQUEST_ID_LENGTH:
        fault = f"must be a text of at most {MAX_REQUEST_ID_LENGTH} characters"
        raise refusal([FieldError("requestId", fault, "request_id")])
    return request_id
