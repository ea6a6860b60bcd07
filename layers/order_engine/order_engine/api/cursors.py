"""The opaque cursor with which a client asks for the next page of orders."""

import base64
import binascii
import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from uuid import UUID

from order_engine.errors import FieldError, ProblemCode, Rejected

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_CONTENT = re.compile(r"([0-9]{1,17})\.([0-9a-f]{32})", re.ASCII)


@dataclass(frozen=True, slots=True)
class Cursor:
    """Point behind the last order of a page, which newest-first order makes unambiguous."""

    created_at: datetime
    order_id: str


def encode_cursor(cursor: Cursor) -> str:
    """Return the cursor as a URL-safe text that says nothing to its holder."""
    microseconds = (cursor.created_at - _EPOCH) // timedelta(microseconds=1)
    content = f"{microseconds}.{UUID(cursor.order_id).hex}"
    return base64.urlsafe_b64encode(content.encode()).decode().rstrip("=")


def decode_cursor(text: str) -> Cursor:
    """Return the cursor that ``encode_cursor`` made; raise ``Rejected`` for any other text."""
    try:
        content = base64.b64decode(
            text + "=" * (-len(text) % 4), altchars=b"-_", validate=True
        ).decode("ascii")
        match = _CONTENT.fullmatch(content)
        if match is None:
            raise _refusal()
        created_at = _EPOCH + timedelta(microseconds=int(match[1]))
    except (binascii.Error, ValueError, OverflowError):
        raise _refusal() from None
    return Cursor(created_at, str(UUID(match[2])))


def _refusal() -> Rejected:
    message = "is not a cursor that this API gave out"
    return Rejected(
        ProblemCode.VALIDATION_FAILED,
        f"cursor {message}",
        errors=[FieldError("cursor", message, "cursor")],
    )
