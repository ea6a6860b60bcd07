"""Who sends a request, as the gateway's authorizer has found out."""

import re
from collections.abc import Mapping
from datetime import datetime
from decimal import Decimal, InvalidOperation
from typing import Any

from order_engine.errors import ProblemCode, Rejected

# A user id of ``order_engine.api.requests``, without lone surrogates, which no database can hold.
_USER_ID = re.compile(r"[^\x00-\x1f\x7f-\x9f\ud800-\udfff\ufffd]{1,255}")


def subject_of(claims: Mapping[str, Any], *, issuer: str, now: datetime) -> str:
    """Return the user that a token's claims name; raise ``Rejected`` (401).

    The gateway has checked signature, issuer, audience and times. What the claims still show of
    that is checked again, should a route lack the authorizer, or an authorizer take a token that
    never expires. A subject that could not own an order is nobody.
    """
    subject, expires_at = claims.get("sub"), _epoch(claims.get("exp"))
    if (
        not isinstance(subject, str)
        or not _USER_ID.fullmatch(subject)
        or (issuer and claims.get("iss") != issuer)
        or expires_at is None
        or expires_at <= Decimal(now.timestamp())
    ):
        raise Rejected(ProblemCode.UNAUTHENTICATED, "The request carries no valid token.")
    return subject


def _epoch(claim: object) -> Decimal | None:
    """Return a time claim's seconds; the gateway makes texts of numbers, as 1.7E9 too."""
    try:
        seconds = Decimal(str(claim))
    except InvalidOperation:
        return None
    return seconds if seconds.is_finite() else None
