"""Errors as RFC 9457 problem details."""

from collections.abc import Mapping
from dataclasses import dataclass
from math import ceil
from types import MappingProxyType

from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel

from order_engine.errors import DatabaseUnavailable, ProblemCode, Rejected, Retryable, TooMany

PROBLEM_CONTENT_TYPE = "application/problem+json"
RETRY_AFTER_SECONDS = 5


@dataclass(frozen=True, slots=True)
class ProblemKind:
    """Say what a code is over HTTP: its status, its title, and when it is answered."""

    status: int
    title: str
    meaning: str


PROBLEMS: Mapping[ProblemCode, ProblemKind] = MappingProxyType(
    {
        ProblemCode.MALFORMED_BODY: ProblemKind(
            400,
            "The body cannot be read",
            "no body, no JSON object, no UTF-8, a name twice, nested too deeply",
        ),
        ProblemCode.UNAUTHENTICATED: ProblemKind(401, "The caller is not known", "no valid token"),
        ProblemCode.ORDER_NOT_FOUND: ProblemKind(
            404, "There is no such order", "no such order, or not the caller's"
        ),
        ProblemCode.ROUTE_NOT_FOUND: ProblemKind(404, "There is no such route", "no such route"),
        ProblemCode.METHOD_NOT_ALLOWED: ProblemKind(
            405,
            "The route does not know this method",
            "the route knows other methods, named in `Allow`",
        ),
        ProblemCode.ORDER_NOT_CANCELABLE: ProblemKind(
            409, "The order can no longer be canceled", "the order is submitted, or ended otherwise"
        ),
        ProblemCode.ORDER_NOT_AMENDABLE: ProblemKind(
            409,
            "The order can no longer be amended",
            "the order is under way, or has ended",
        ),
        ProblemCode.BODY_TOO_LARGE: ProblemKind(413, "The body is too large", "more than 64 KB"),
        ProblemCode.VALIDATION_FAILED: ProblemKind(
            422, "The request is not valid", "a field is missing or wrong"
        ),
        ProblemCode.POOL_ALREADY_OPEN: ProblemKind(
            422, "The pool is open already", "the pool that a sniper order waits for is open"
        ),
        ProblemCode.IDEMPOTENCY_KEY_REUSED: ProblemKind(
            422,
            "The idempotency key belongs to another request",
            "the key belongs to another order",
        ),
        ProblemCode.TOO_MANY_ORDERS: ProblemKind(
            429,
            "Too many orders of yours",
            "as many orders of the user wait or rest as may: try again after `Retry-After` seconds",
        ),
        ProblemCode.RATE_LIMITED: ProblemKind(
            429,
            "Too many orders at once",
            "more orders than the engine takes in: try again after `Retry-After` seconds",
        ),
        ProblemCode.INTERNAL_ERROR: ProblemKind(
            500, "Something went wrong on our side", "a bug; the log has it under the `requestId`"
        ),
        ProblemCode.DATABASE_UNAVAILABLE: ProblemKind(
            503,
            "The database is away",
            "the database is away: try again after `Retry-After` seconds",
        ),
        ProblemCode.SERVICE_UNAVAILABLE: ProblemKind(
            503,
            "The service is away",
            "another part is away: try again after `Retry-After` seconds",
        ),
    }
)
"""The one table of problems: answers and docs/http-api.md come from it."""


def limit_headers(error: TooMany) -> dict[str, str]:
    """Return the headers that tell when to come again, and what the limit is.

    The fields are those of the IETF's draft-ietf-httpapi-ratelimit-headers.
    """
    seconds = ceil(error.retry_after_seconds or RETRY_AFTER_SECONDS)
    window = f";w={ceil(error.window_seconds)}" if error.window_seconds else ""
    name = error.code.value.lower().replace("_", "-")
    return {
        "Retry-After": str(max(1, seconds)),
        "RateLimit-Policy": f'"{name}";q={error.limit}{window}',
        "RateLimit": f'"{name}";r=0;t={max(1, seconds)}',
    }


class ProblemField(BaseModel):
    """Name a field of the request, as the client spelled it, and what is wrong with it."""

    model_config = ConfigDict(frozen=True)

    field: str
    message: str
    code: str


class Problem(BaseModel):
    """Describe an error to a program and to its author."""

    model_config = ConfigDict(frozen=True, alias_generator=to_camel, populate_by_name=True)

    type: str = Field(description="URI that identifies the kind of problem")
    title: str = Field(description="the kind of problem in words")
    status: int = Field(ge=400, le=599)
    detail: str = Field(description="what happened this time")
    code: str = Field(description="the kind of problem as a constant to branch on")
    request_id: str = Field(description="what to quote when asking for help")
    errors: tuple[ProblemField, ...] = ()

    def to_json(self) -> str:
        """Return the problem as it goes out."""
        return self.model_dump_json(by_alias=True)


def problem_type(code: str) -> str:
    """Return the URI of a problem's kind."""
    return f"urn:order-execution-engine:problem:{code.lower().replace('_', '-')}"


def problem_of(error: Exception, request_id: str) -> Problem:
    """Return what the client is told; of an error that is a bug, nothing but its request id."""
    rejection = _rejection_of(error)
    kind = PROBLEMS[rejection.code]
    return Problem(
        type=problem_type(rejection.code),
        title=kind.title,
        status=kind.status,
        detail=rejection.detail,
        code=rejection.code.value,
        request_id=request_id,
        errors=tuple(
            ProblemField(field=error.field, message=error.message, code=error.code)
            for error in rejection.errors
        ),
    )


def _rejection_of(error: Exception) -> Rejected:
    match error:
        case Rejected():
            return error
        case DatabaseUnavailable():
            return Rejected(
                ProblemCode.DATABASE_UNAVAILABLE, "The database does not answer. Try again."
            )
        case Retryable():
            return Rejected(
                ProblemCode.SERVICE_UNAVAILABLE, "A part of the engine does not answer. Try again."
            )
        case _:
            return Rejected(ProblemCode.INTERNAL_ERROR, "The request could not be handled.")
