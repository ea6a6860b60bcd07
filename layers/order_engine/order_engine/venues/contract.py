"""What the engine asks of an exchange: the seam for a real one.

Requests and answers are frozen models, one class per outcome. ``perform`` is the edge where they
become JSON and back: a venue's Lambda function calls it. What a venue answers is read with
``AnyQuoteAnswer``, ``AnyBuildAnswer`` and ``AnyFailure``, which turn an answer that is not in the
contract into ``VenueRejected``: a failed attempt, and not an error of the engine.
"""

import json
import logging
import time
from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Any, Literal, Protocol, assert_never

from pydantic import (
    Field,
    JsonValue,
    TypeAdapter,
    ValidationError,
    ValidatorFunctionWrapHandler,
    WrapValidator,
    field_validator,
)

from order_engine.domain.failures import FailureCode
from order_engine.domain.orders import (
    Amount,
    DomainModel,
    Quote,
    SwapTransaction,
    Timestamp,
    VenueName,
)
from order_engine.errors import OrderEngineError

logger = logging.getLogger(__name__)

MAX_VENUE_DATA_BYTES = 8 * 1024
"""What a quote may carry for its own venue; it travels through the state machine's payload."""


class VenueQuote(Quote):
    """Carry a quote with what only its venue and the choice among venues need."""

    spot_price: Amount | None = Field(
        default=None, description="tokenOut per tokenIn before fees and price impact"
    )
    expires_at: Timestamp | None = Field(default=None, description="until when it can be built")
    venue_data: JsonValue = Field(
        default=None, description="handed back to the venue that quoted, unread"
    )

    @field_validator("venue_data")
    @classmethod
    def _is_small(cls, value: JsonValue) -> JsonValue:
        if len(json.dumps(value).encode()) > MAX_VENUE_DATA_BYTES:
            raise ValueError(f"venueData is longer than {MAX_VENUE_DATA_BYTES} bytes")
        return value

    @property
    def public(self) -> Quote:
        """Return what is stored and shown of it."""
        return Quote(**{name: getattr(self, name) for name in Quote.model_fields})

    def is_past(self, now: datetime) -> bool:
        """Tell whether the venue would no longer build it."""
        return self.expires_at is not None and self.expires_at <= now


class _Request(DomainModel):
    """Base of the requests; what identifies the attempt is absent where only a price is asked."""

    order_id: str | None = None
    client_order_id: str | None = None
    attempt: int = 1
    execution: str | None = None


class QuoteRequest(_Request):
    """Ask what ``amount_in`` (token units) would buy now."""

    action: Literal["quote"] = "quote"
    token_in: str
    token_out: str
    amount_in: Amount


class BuildRequest(_Request):
    """Ask for the signed transaction of a swap that pays ``min_amount_out`` or reverts."""

    action: Literal["build"] = "build"
    order_id: str
    attempt: int
    token_in: str
    token_out: str
    amount_in: Amount
    min_amount_out: Amount
    venue_data: JsonValue = Field(default=None, description="as the venue's own quote gave it")


class SendRequest(_Request):
    """Ask for a signed transaction to be sent."""

    action: Literal["send"] = "send"
    transaction: SwapTransaction


class CheckRequest(_Request):
    """Ask what became of a transaction."""

    action: Literal["check"] = "check"
    transaction: SwapTransaction


class _Answer(DomainModel):
    """Base of the answers; what a venue does not say is left out of the message."""

    def to_json_dict(self) -> dict[str, Any]:
        """Return the answer as a JSON message."""
        return self.model_dump(mode="json", by_alias=True, exclude_none=True)


VenueRequest = QuoteRequest | BuildRequest | SendRequest | CheckRequest


class Quoted(_Answer):
    """Answer with a price."""

    outcome: Literal["quoted"] = "quoted"
    quote: VenueQuote


class NoRoute(_Answer):
    """Answer that the venue has no pool for the pair."""

    outcome: Literal["no_route"] = "no_route"
    detail: str = "no_route"


class InsufficientLiquidity(_Answer):
    """Answer that the pool cannot fill the amount."""

    outcome: Literal["insufficient_liquidity"] = "insufficient_liquidity"
    detail: str = "insufficient_liquidity"


class Unavailable(_Answer):
    """Stand, in the state machine's words, for a venue that did not answer at all."""

    outcome: Literal["unavailable"] = "unavailable"
    detail: str = "unavailable"


class VenueRejected(_Answer):
    """Stand for an answer that is not in the contract, or a venue that nobody knows."""

    outcome: Literal["venue_rejected"] = "venue_rejected"
    detail: str


class Built(_Answer):
    """Answer with the signed transaction."""

    outcome: Literal["built"] = "built"
    transaction: SwapTransaction


class Sent(_Answer):
    """Answer that the transaction is on its way; only a check tells what became of it."""

    outcome: Literal["sent"] = "sent"
    check_after_seconds: int


class Landed(_Answer):
    """Answer that the swap was executed and paid ``amount_out`` (token units)."""

    outcome: Literal["landed"] = "landed"
    amount_out: Amount
    slot: int | None = None


class Reverted(_Answer):
    """Answer that the transaction landed and the program refused the swap."""

    outcome: Literal["reverted"] = "reverted"
    code: FailureCode
    detail: str

    @field_validator("code", mode="before")
    @classmethod
    def _known(cls, value: object) -> object:
        return value if value in FailureCode else FailureCode.VENUE_REJECTED


class Expired(_Answer):
    """Answer that the transaction did not land in time and can no longer land."""

    outcome: Literal["expired"] = "expired"


class Pending(_Answer):
    """Answer that the transaction is known and its fate open."""

    outcome: Literal["pending"] = "pending"
    check_after_seconds: int = 1


class Unseen(_Answer):
    """Answer that the chain does not know the signature, which may still land: send it again."""

    outcome: Literal["unseen"] = "unseen"
    check_after_seconds: int = 1


type QuoteAnswer = Quoted | NoRoute | InsufficientLiquidity
type BuildAnswer = Built | NoRoute | InsufficientLiquidity
type SendAnswer = Sent
type CheckAnswer = Landed | Reverted | Expired | Pending | Unseen
type VenueAnswer = QuoteAnswer | BuildAnswer | SendAnswer | CheckAnswer


def _unreadable_is_rejected(value: Any, read: ValidatorFunctionWrapHandler) -> Any:
    try:
        return read(value)
    except ValidationError as error:
        outcome = value.get("outcome") if isinstance(value, Mapping) else value
        places = "; ".join(
            f"{'.'.join(str(part) for part in problem['loc'])}: {problem['msg']}"
            for problem in error.errors(include_url=False, include_input=False)[:3]
        )
        return VenueRejected(detail=f"the answer {outcome!r} cannot be read ({places})"[:500])


AnyQuoteAnswer = Annotated[
    Annotated[
        Quoted | NoRoute | InsufficientLiquidity | Unavailable | VenueRejected,
        Field(discriminator="outcome"),
    ],
    WrapValidator(_unreadable_is_rejected),
]
AnyBuildAnswer = Annotated[
    Annotated[
        Built | NoRoute | InsufficientLiquidity | Unavailable | VenueRejected,
        Field(discriminator="outcome"),
    ],
    WrapValidator(_unreadable_is_rejected),
]
AnyFailure = Annotated[
    Annotated[
        Reverted | Expired | NoRoute | InsufficientLiquidity | Unavailable | VenueRejected,
        Field(discriminator="outcome"),
    ],
    WrapValidator(_unreadable_is_rejected),
]
"""Why an attempt came to nothing, as a venue or, for want of one's answer, the state machine says
it."""

_REQUESTS: TypeAdapter[VenueRequest] = TypeAdapter(
    Annotated[VenueRequest, Field(discriminator="action")]
)


class Venue(Protocol):
    """Trade at one exchange; all that a real Raydium or Meteora client would implement.

    Expected outcomes are answers; technical trouble raises ``VenueUnavailable`` (nothing happened)
    or ``VenueTimeout`` (look it up).
    """

    def quote(self, request: QuoteRequest) -> QuoteAnswer:
        """Price a swap."""
        ...

    def build(self, request: BuildRequest) -> BuildAnswer:
        """Build and sign the swap's transaction."""
        ...

    def send(self, request: SendRequest) -> SendAnswer:
        """Send a signed transaction; sending the same signature again does nothing more."""
        ...

    def check(self, request: CheckRequest) -> CheckAnswer:
        """Look up what became of a signature."""
        ...


class VenueEdge:
    """Stand between a venue and those who speak JSON with it; logs each call."""

    def __init__(self, name: VenueName, venue: Venue) -> None:
        self._name = name
        self._venue = venue

    def perform(self, message: Mapping[str, Any]) -> dict[str, Any]:
        """Answer a message.

        Raises ``pydantic.ValidationError`` for one that is no request, and what the venue raises.
        """
        request = parse_request(message)
        fields = {"action": request.action, "venue": self._name}
        started = time.perf_counter()
        try:
            answer = perform(self._venue, request)
        except OrderEngineError as trouble:
            told = {**fields, "detail": str(trouble), "outcome": type(trouble).__name__}
            logger.warning("venue in trouble", extra=told)
            raise
        duration_ms = round((time.perf_counter() - started) * 1000)
        logger.info(
            "venue answered",
            extra={**fields, "outcome": answer.outcome, "duration_ms": duration_ms},
        )
        return answer.to_json_dict()


def parse_request(message: Mapping[str, Any]) -> VenueRequest:
    """Return the request that a JSON message states; raise ``pydantic.ValidationError``."""
    return _REQUESTS.validate_python(message)


def perform(venue: Venue, request: VenueRequest) -> VenueAnswer:
    """Call the venue's method for the request; raises what it raises."""
    match request:
        case QuoteRequest():
            return venue.quote(request)
        case BuildRequest():
            return venue.build(request)
        case SendRequest():
            return venue.send(request)
        case CheckRequest():
            return venue.check(request)
        case unknown:
            assert_never(unknown)
