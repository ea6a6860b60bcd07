"""What the state machine asks of the lifecycle, and what it is answered.

The state machine's Choice states follow ``outcome``; every other field is one that it passes on.
"""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import Field, JsonValue, TypeAdapter

from order_engine.domain.failures import Failure
from order_engine.domain.orders import (
    Amount,
    DomainModel,
    ExecutionTerms,
    SwapTransaction,
    VenueName,
)
from order_engine.venues.contract import AnyBuildAnswer, AnyFailure, AnyQuoteAnswer, Landed


class _Request(DomainModel):
    streamed_seq: int = Field(
        default=0, description="the order's events up to this one have reached the order stream"
    )


class RouteRequest(_Request):
    """Begin an attempt: the first without ``after_attempt``, the next after a failed one."""

    action: Literal["route"] = "route"
    order_id: str
    execution: str
    after_attempt: int | None = None
    failure: Failure | None = None


class _AttemptRequest(_Request):
    order: ExecutionTerms
    execution: str
    attempt: int

    @property
    def order_id(self) -> str:
        return self.order.order_id


class DecideRequest(_AttemptRequest):
    """Choose among the venues' answers."""

    action: Literal["decide"] = "decide"
    answers: tuple[AnyQuoteAnswer, ...]


class SubmitRequest(_AttemptRequest):
    """Write down what the venue has built."""

    action: Literal["submit"] = "submit"
    answer: AnyBuildAnswer


class LandedSwap(Landed):
    """Tell that a transaction landed, and which."""

    transaction: SwapTransaction


class ConfirmRequest(_AttemptRequest):
    """Record that the swap landed."""

    action: Literal["confirm"] = "confirm"
    answer: LandedSwap
    quoted_price: Amount


class AttemptFailedRequest(_AttemptRequest):
    """Record that the attempt came to nothing."""

    action: Literal["attempt_failed"] = "attempt_failed"
    answer: AnyFailure


LifecycleRequest = (
    RouteRequest | DecideRequest | SubmitRequest | ConfirmRequest | AttemptFailedRequest
)

_REQUESTS: TypeAdapter[LifecycleRequest] = TypeAdapter(
    Annotated[LifecycleRequest, Field(discriminator="action")]
)


def parse_request(message: Mapping[str, Any]) -> LifecycleRequest:
    """Return the request that a JSON message states; raise ``pydantic.ValidationError``."""
    return _REQUESTS.validate_python(message)


class _Answer(DomainModel):
    streamed_seq: int = Field(default=0, description="what the next request is to say of it")


class Routing(_Answer):
    """Answer that an attempt has begun, with what the venues need to know."""

    outcome: Literal["routing"] = "routing"
    attempt: int
    order: ExecutionTerms


class Building(_Answer):
    """Answer with the chosen venue and the bounds of the swap."""

    outcome: Literal["building"] = "building"
    dex: VenueName
    quoted_price: Amount
    min_amount_out: Amount
    venue_data: JsonValue = None


class WrittenDown(_Answer):
    """Answer with the transaction to send: written down now, or before a restart (``resume``)."""

    outcome: Literal["submitted", "resume"]
    attempt: int
    order: ExecutionTerms
    quoted_price: Amount
    transaction: SwapTransaction


class RetryLater(_Answer):
    """Answer that another attempt is due after a pause."""

    outcome: Literal["retry"] = "retry"
    backoff_seconds: int
    after_attempt: int
    failure: Failure


class Over(_Answer):
    """Answer that this execution has nothing more to do.

    ``superseded``: the order is final, or in another execution's hands.
    """

    outcome: Literal["confirmed", "failed", "resting", "expired", "superseded"]


type LifecycleAnswer = Routing | Building | WrittenDown | RetryLater | Over

SUPERSEDED = Over(outcome="superseded")
