"""Tickets, each of which opens one stream."""

import secrets
from datetime import datetime

from order_engine.adapters.dynamodb.keys import Item, number, optional_text, text, ticket_key
from order_engine.adapters.dynamodb.table import Table
from order_engine.streaming.rows import TICKET_LIFETIME, Ticket


class Tickets(Table):
    """Issue and redeem tickets."""

    def issue_ticket(self, user_id: str, order_id: str | None, now: datetime) -> str:
        """Store a ticket that opens one stream within 60 s, and return its secret.

        Only a digest is stored, so that neither the table nor its stream's records can open
        anything. Raises ``StreamUnavailable``.
        """
        ticket = secrets.token_urlsafe(32)
        item = {
            **ticket_key(ticket),
            "userId": text(user_id),
            "expiresAtEpoch": number(int((now + TICKET_LIFETIME).timestamp())),
        }
        if order_id is not None:
            item["orderId"] = text(order_id)
        self._call("put_item", TableName=self._table, Item=item)
        return ticket

    def redeem_ticket(self, ticket: str, now: datetime) -> Ticket | None:
        """Use a ticket up; ``None`` for one that is unknown, used or too old.

        The deletion is what redeems it, so of several that try only one succeeds. The age is
        checked here because TTL deletes late. Raises ``StreamUnavailable``.
        """
        answer = self._call(
            "delete_item", TableName=self._table, Key=ticket_key(ticket), ReturnValues="ALL_OLD"
        )
        item: Item | None = answer.get("Attributes")
        if not item or int(item["expiresAtEpoch"]["N"]) <= now.timestamp():
            return None
        return Ticket(user_id=item["userId"]["S"], order_id=optional_text(item, "orderId"))
