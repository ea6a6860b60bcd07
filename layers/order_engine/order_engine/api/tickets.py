"""Tickets with which a WebSocket that cannot carry a token opens a stream."""

import logging
from datetime import datetime
from typing import Protocol

from order_engine.api.replies import StreamTicket, stream_url
from order_engine.clock import Clock
from order_engine.domain.orders import Order
from order_engine.errors import StreamUnavailable
from order_engine.streaming.rows import TICKET_LIFETIME

logger = logging.getLogger(__name__)


class TicketRows(Protocol):
    """Keep tickets until they are used or too old."""

    def issue_ticket(self, user_id: str, order_id: str | None, now: datetime) -> str:
        """Store a ticket and return it; raises ``StreamUnavailable``."""
        ...


class StreamTickets:
    """Issue tickets; ``websocket_url`` is the API's, without an order."""

    def __init__(
        self, rows: TicketRows, clock: Clock, websocket_url: str, caller_required: bool
    ) -> None:
        self._rows = rows
        self._clock = clock
        self._websocket_url = websocket_url
        self._caller_required = caller_required

    def of_user(self, user_id: str) -> StreamTicket:
        """Issue a ticket for all orders of a user; raises ``StreamUnavailable``."""
        now = self._clock.now()
        ticket = self._rows.issue_ticket(user_id, None, now)
        return StreamTicket(
            ticket=ticket,
            ws_url=stream_url(self._websocket_url, {"ticket": ticket, "userId": user_id}),
            expires_at=now + TICKET_LIFETIME,
        )

    def of_order(self, order: Order) -> str | None:
        """Return a ticket for the order's stream where callers are authenticated.

        None also while tickets cannot be stored: that is no reason to refuse an order that is
        placed.
        """
        if not self._caller_required:
            return None
        try:
            return self._rows.issue_ticket(order.user_id, order.order_id, self._clock.now())
        except StreamUnavailable:
            logger.warning("accepted without a ticket", exc_info=True)
            return None
