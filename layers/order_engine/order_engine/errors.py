"""Errors that say what the caller is to do about them.

``Rejected``: the request is at fault; tell the caller and do not try again.
``Retryable``: technical trouble; the same call may succeed later.
``OutcomeUnknown``: it may or may not have happened; look it up before anything else.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum


@dataclass(frozen=True, slots=True)
class FieldError:
    """Name one field of a request and what is wrong with it."""

    field: str
    message: str
    code: str = "invalid"


class ProblemCode(StrEnum):
    """Name a kind of refusal; clients branch on it. Its status and words: ``api.problems``."""

    MALFORMED_BODY = "MALFORMED_BODY"
    UNAUTHENTICATED = "UNAUTHENTICATED"
    ORDER_NOT_FOUND = "ORDER_NOT_FOUND"
    ROUTE_NOT_FOUND = "ROUTE_NOT_FOUND"
    METHOD_NOT_ALLOWED = "METHOD_NOT_ALLOWED"
    ORDER_NOT_CANCELABLE = "ORDER_NOT_CANCELABLE"
    ORDER_NOT_AMENDABLE = "ORDER_NOT_AMENDABLE"
    BODY_TOO_LARGE = "BODY_TOO_LARGE"
    VALIDATION_FAILED = "VALIDATION_FAILED"
    POOL_ALREADY_OPEN = "POOL_ALREADY_OPEN"
    IDEMPOTENCY_KEY_REUSED = "IDEMPOTENCY_KEY_REUSED"
    TOO_MANY_ORDERS = "TOO_MANY_ORDERS"
    RATE_LIMITED = "RATE_LIMITED"
    INTERNAL_ERROR = "INTERNAL_ERROR"
    DATABASE_UNAVAILABLE = "DATABASE_UNAVAILABLE"
    SERVICE_UNAVAILABLE = "SERVICE_UNAVAILABLE"


class OrderEngineError(Exception):
    """Stand for every error that the engine raises on purpose."""


class Rejected(OrderEngineError):
    """Report a request that cannot be honored; what that is over HTTP follows from ``code``."""

    def __init__(
        self, code: ProblemCode, detail: str, *, errors: Sequence[FieldError] = ()
    ) -> None:
        super().__init__(detail)
        self.code = code
        self.detail = detail
        self.errors = tuple(errors)


class TooMany(Rejected):
    """Report that a limit is reached: ``limit`` of them, within ``window_seconds`` if it is a rate.

    ``retry_after_seconds``: after how long one more may be taken, where that is known.
    """

    def __init__(
        self,
        code: ProblemCode,
        detail: str,
        *,
        limit: int | None,
        window_seconds: float | None = None,
        retry_after_seconds: float | None = None,
    ) -> None:
        super().__init__(code, detail)
        self.limit = limit
        self.window_seconds = window_seconds
        self.retry_after_seconds = retry_after_seconds


class Retryable(OrderEngineError):
    """Report technical trouble that a later identical call may not meet."""


class DatabaseUnavailable(Retryable):
    """Report that Postgres cannot be reached or refused to serve."""


class StreamUnavailable(Retryable):
    """Report that the order stream (DynamoDB) could not be written or read."""


class ExecutionNotStarted(Retryable):
    """Report that Step Functions did not take the execution."""


class VenueUnavailable(Retryable):
    """Report that a venue did not answer; nothing was sent."""


class OutcomeUnknown(OrderEngineError):
    """Report a call whose effect is unknown; the effect must be looked up."""


class VenueTimeout(OutcomeUnknown):
    """Report a venue call that timed out; a sent transaction may still land."""
