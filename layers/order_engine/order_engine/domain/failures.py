"""Why an order, or one attempt at it, failed."""

from enum import StrEnum

from pydantic import BaseModel, ConfigDict
from pydantic.alias_generators import to_camel


class FailureCode(StrEnum):
    """Name the reason for a failure; clients branch on it."""

    SLIPPAGE_EXCEEDED = "SLIPPAGE_EXCEEDED"
    NO_ROUTE = "NO_ROUTE"
    INSUFFICIENT_LIQUIDITY = "INSUFFICIENT_LIQUIDITY"
    TX_EXPIRED = "TX_EXPIRED"
    VENUE_UNAVAILABLE = "VENUE_UNAVAILABLE"
    VENUE_REJECTED = "VENUE_REJECTED"
    LIMIT_NOT_MET = "LIMIT_NOT_MET"
    POOL_ALREADY_OPEN = "POOL_ALREADY_OPEN"
    INTERNAL = "INTERNAL"

    @property
    def is_retryable(self) -> bool:
        """Tell whether a later attempt of the same order may end better."""
        return self in _RETRYABLE


_RETRYABLE = frozenset(
    {
        FailureCode.SLIPPAGE_EXCEEDED,
        FailureCode.TX_EXPIRED,
        FailureCode.VENUE_UNAVAILABLE,
        FailureCode.LIMIT_NOT_MET,
    }
)


class Failure(BaseModel):
    """Describe why an attempt (or, on a failed order, the order) failed."""

    model_config = ConfigDict(frozen=True, alias_generator=to_camel, populate_by_name=True)

    code: FailureCode
    detail: str
    retryable: bool
    attempt: int

    @classmethod
    def of(cls, code: FailureCode, detail: str, attempt: int) -> "Failure":
        """Make the failure of ``attempt``; ``retryable`` follows from the code."""
        return cls(code=code, detail=detail, retryable=code.is_retryable, attempt=attempt)
