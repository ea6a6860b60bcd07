"""How long an order may rest."""

from datetime import datetime, timedelta

from order_engine.errors import FieldError, ProblemCode, Rejected

MAX_REST = timedelta(days=30)


def check_expiry(expires_at: datetime | None, now: datetime) -> None:
    """Raise ``Rejected`` unless the time lies ahead, and no further than ``MAX_REST``."""
    if expires_at is None:
        return
    if expires_at <= now:
        raise _refusal("must lie in the future")
    if expires_at > now + MAX_REST:
        raise _refusal(f"must be at most {MAX_REST.days} days ahead")


def _refusal(message: str) -> Rejected:
    return Rejected(
        ProblemCode.VALIDATION_FAILED,
        f"expiresAt {message}.",
        errors=[FieldError("expiresAt", message, "out_of_range")],
    )
