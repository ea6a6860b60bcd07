"""Errors as RFC 9457 problem details."""

from collections.abc import Mapping
from types import MappingProxyType

from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel

from order_engine.errors import DatabaseUnavailable, Rejected, Retryable

PROBLEM_CONTENT_TYPE = "application/problem+json"
RETRY_AFTER_SECONDS = 5

TITLES: Mapping[str, str] = MappingProxyType(
    {
        "MALFORMED_BODY": "The body cannot be read",
        "UNAUTHENTICATED": "The caller is not known",
        "ORDER_NOT_FOUND": "There is no such order",
        "ROUTE_NOT_FOUND": "There is no such route",
        "METHOD_NOT_ALLOWED": "The route does not know this method",
        "ORDER_NOT_CANCELABLE": "The order can no longer be canceled",
        "BODY_TOO_LARGE": "The body is too large",
        "VALIDATION_FAILED": "The request is not valid",
        "ORDER_NOT_AMENDABLE": "The order can no longer be amended",
        "POOL_ALREADY_OPEN": "The pool is open already",
        "IDEMPOTENCY_KEY_REUSED": "The idempotency key belongs to another request",
        "INTERNAL_ERROR": "Something went wrong on our side",
        "DATABASE_UNAVAILABLE": "The database is away",
        "SERVICE_UNAVAILABLE": "The service is away",
    }
)


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
    return Problem(
        type=problem_type(rejection.code),
        title=TITLES.get(rejection.code, rejection.code),
        status=rejection.status,
        detail=rejection.detail,
        code=rejection.code,
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
                "DATABASE_UNAVAILABLE", "The database does not answer. Try again.", status=503
            )
        case Retryable():
            return Rejected(
                "SERVICE_UNAVAILABLE",
                "A part of the engine does not answer. Try again.",
                status=503,
            )
        case _:
            return Rejected("INTERNAL_ERROR", "The request could not be handled.", status=500)
