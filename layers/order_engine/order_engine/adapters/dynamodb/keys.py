"""The keys and the attribute values of the order stream's rows."""

import hashlib
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

CONNECTION_LIFETIME = timedelta(hours=2, minutes=15)
"""API Gateway closes a WebSocket after 2 hours; what ``$disconnect`` missed goes by TTL."""

CURSORS_KEY = "cursors"
LISTENED_KEY = "listened"

type Item = dict[str, dict[str, Any]]


def key(partition_key: str, sort_key: str) -> Item:
    """Return a row's key."""
    return {"pk": text(partition_key), "sk": text(sort_key)}


def connection_key(connection_id: str) -> Item:
    """Return the key of a connection's own row."""
    return key(f"connection#{connection_id}", "connection")


def event_key(order_id: str, seq: int) -> Item:
    """Return the key of an event's row."""
    return key(f"order#{order_id}", f"event#{seq:010d}")


def ticket_key(ticket: str) -> Item:
    """Return the key of a ticket's row, which only its digest tells."""
    digest = hashlib.sha256(ticket.encode("utf-8", "replace")).hexdigest()
    return key(f"ticket#{digest}", "ticket")


def text(value: str) -> dict[str, str]:
    """Return an attribute that holds a text."""
    return {"S": str(value)}


def number(value: int) -> dict[str, str]:
    """Return an attribute that holds a number."""
    return {"N": str(value)}


def optional_text(item: Item, name: str) -> str | None:
    """Return a text attribute, None when there is none."""
    return item[name].get("S") if name in item else None


def optional_number(item: Item, name: str) -> int | None:
    """Return a whole number, None when there is none or it is no whole number."""
    digits = item[name].get("N") if name in item else None
    return int(digits) if digits is not None and digits.lstrip("-").isdecimal() else None


def numbers(values: Mapping[str, int]) -> dict[str, Item]:
    """Return an attribute that holds whole numbers by name."""
    return {"M": {name: number(value) for name, value in values.items()}}


def numbers_of(item: Item, name: str) -> dict[str, int]:
    """Return the whole numbers of such an attribute, without what is none."""
    stored: Item = item.get(name, {}).get("M", {})
    found = {each: optional_number(stored, each) for each in stored}
    return {each: value for each, value in found.items() if value is not None}


def connection_expiry(now: datetime) -> dict[str, str]:
    """Return when TTL may delete what belongs to a connection."""
    return number(int((now + CONNECTION_LIFETIME).timestamp()))


def milliseconds(moment: datetime) -> int:
    """Return a time as milliseconds since the epoch."""
    return int(moment.timestamp() * 1000)
