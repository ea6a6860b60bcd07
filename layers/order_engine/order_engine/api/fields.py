"""The fields of requests: each a type that checks what clients send and says it in the document."""

import re
from collections.abc import Callable, Sequence
from decimal import Decimal
from typing import Annotated

from pydantic import (
    AfterValidator,
    AwareDatetime,
    BeforeValidator,
    StringConstraints,
    WithJsonSchema,
)
from pydantic_core import PydanticCustomError

from order_engine.domain.money import BASIS_POINTS, decimal_text
from order_engine.domain.orders import ANY_VENUE
from order_engine.domain.tokens import TOKENS
from order_engine.domain.types import order_types
from order_engine.venues.registry import venue_names

DEFAULT_MAX_RETRIES = 3
IDEMPOTENCY_KEY_PATTERN = r"^[\x21-\x7e]{1,255}$"
CLIENT_ORDER_ID_PATTERN = r"^[A-Za-z0-9._~!$&'()*+,;=:@-]{1,128}$"
"""The characters that may stand in a URL path as they are, for it is looked up by one."""
USER_ID_PATTERN = r"^[^\x00-\x1f\x7f-\x9f\ufffd]{1,255}$"

_NUMBER = re.compile(r"-?[0-9]{1,60}(\.[0-9]{1,60})?([eE][+-]?[0-9]{1,4})?", re.ASCII)
_MAX_INTEGER_DIGITS = 20
_MAX_DECIMALS = 18
"""What the NUMERIC(38, 18) columns hold."""


def _decimal(value: object) -> Decimal:
    if isinstance(value, str):
        if not _NUMBER.fullmatch(value):
            raise PydanticCustomError("number", "must be a number, such as 1.5 or '1.5'")
        value = Decimal(value)
    if not isinstance(value, Decimal):
        raise PydanticCustomError("number", "must be a number, such as 1.5 or '1.5'")
    if not value.is_finite():
        raise PydanticCustomError("finite_number", "must be a finite number")
    if len(value.as_tuple().digits) > _MAX_INTEGER_DIGITS + _MAX_DECIMALS:
        raise PydanticCustomError("too_many_digits", "must have at most 38 digits")
    if value and value.adjusted() >= _MAX_INTEGER_DIGITS:
        raise PydanticCustomError("out_of_range", "must have at most 20 digits before the point")
    if value and value.adjusted() < -_MAX_DECIMALS:
        raise PydanticCustomError("too_many_decimals", "must have at most 18 decimals")
    plain = Decimal(decimal_text(value))
    exponent = plain.as_tuple().exponent
    if isinstance(exponent, int) and exponent < -_MAX_DECIMALS:
        raise PydanticCustomError("too_many_decimals", "must have at most 18 decimals")
    return plain


def _positive(value: Decimal) -> Decimal:
    if value <= 0:
        raise PydanticCustomError("greater_than", "must be greater than 0")
    return value


def _not_negative(value: Decimal) -> Decimal:
    if value < 0:
        raise PydanticCustomError("greater_than_equal", "must be at least 0")
    return value


def _slippage_fraction(value: Decimal) -> Decimal:
    if not 0 <= value <= 1:
        raise PydanticCustomError("out_of_range", "must be a fraction from 0 to 1 (0.01 is 1 %)")
    if value.scaleb(4) % 1:
        raise PydanticCustomError(
            "whole_basis_points", "must be in whole basis points (steps of 0.0001)"
        )
    return value


def whole_number(low: int, high: int) -> Callable[[object], int]:
    """Return a validator that takes whole numbers within the bounds."""

    def check(value: object) -> int:
        if not isinstance(value, Decimal) or not value.is_finite():
            raise PydanticCustomError("whole_number", "must be a whole number")
        if not low <= value <= high:
            raise PydanticCustomError(
                "out_of_range", "must be from {low} to {high}", {"low": low, "high": high}
            )
        if value % 1:
            raise PydanticCustomError("whole_number", "must be a whole number")
        return int(value)

    return check


def _known_token(value: str) -> str:
    if value in TOKENS:
        return value
    if value.upper() in TOKENS:
        raise PydanticCustomError(
            "unknown_token",
            "is not a token (symbols are case-sensitive: {symbol})",
            {"symbol": value.upper()},
        )
    raise PydanticCustomError(
        "unknown_token", "is not a token; there are {symbols}", {"symbols": ", ".join(TOKENS)}
    )


def _one_of(code: str, names: Callable[[], Sequence[str]]) -> Callable[[object], str]:
    """Accept one of the names; they are looked up anew each time, for more may be registered."""

    def check(value: object) -> str:
        known = names()
        if not isinstance(value, str) or value not in known:
            listed = " or ".join([", ".join(f"'{name}'" for name in known[:-1]), f"'{known[-1]}'"])
            raise PydanticCustomError(code, "must be {listed}", {"listed": listed})
        return value

    return check


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise PydanticCustomError("string_type", "must be a text")
    return value


def _number_schema(description: str, pattern: str, **bounds: object) -> WithJsonSchema:
    return WithJsonSchema(
        {
            "description": description,
            "anyOf": [
                {"type": "string", "maxLength": 39, "pattern": pattern},
                {"type": "number", **bounds},
            ],
        }
    )


def _whole_number_pieces(
    low: int, high: int, description: str
) -> tuple[BeforeValidator, WithJsonSchema]:
    """Return what checks a whole number within the bounds, and what says them in the document."""
    schema = {"type": "integer", "minimum": low, "maximum": high, "description": description}
    return BeforeValidator(whole_number(low, high)), WithJsonSchema(schema)


_ANY_NUMBER = r"^[0-9]+(\.[0-9]+)?$"
_POSITIVE_NUMBER = r"^(0*[1-9][0-9]*(\.[0-9]+)?|0+\.0*[1-9][0-9]*)$"


_Number = Annotated[Decimal, BeforeValidator(_decimal)]
AmountIn = Annotated[
    _Number,
    AfterValidator(_positive),
    _number_schema(
        "Amount of tokenIn, greater than 0, with no more decimals than the token has.",
        _POSITIVE_NUMBER,
        exclusiveMinimum=0,
    ),
]
Price = Annotated[
    _Number,
    AfterValidator(_positive),
    _number_schema(
        "tokenOut per tokenIn, net of fees, greater than 0.", _POSITIVE_NUMBER, exclusiveMinimum=0
    ),
]
MaxPrice = Annotated[
    _Number,
    AfterValidator(_positive),
    _number_schema("Most tokenIn to pay per tokenOut.", _POSITIVE_NUMBER, exclusiveMinimum=0),
]
Liquidity = Annotated[
    _Number,
    AfterValidator(_not_negative),
    _number_schema("Least value of the pool, in units of tokenIn.", _ANY_NUMBER, minimum=0),
]
_DEFAULT_SLIPPAGES = ", ".join(
    f"{rules.default_slippage_bps} for {rules.name} orders" for rules in order_types()
)
SlippageFraction = Annotated[
    _Number,
    AfterValidator(_slippage_fraction),
    WithJsonSchema(
        {
            "description": "How much less than quoted may come out, as a fraction in whole basis "
            f"points. Without it, in basis points: {_DEFAULT_SLIPPAGES}.",
            "anyOf": [
                {"type": "string", "pattern": r"^(0(\.[0-9]{1,4})?|1(\.0{1,4})?)$"},
                {"type": "number", "minimum": 0, "maximum": 1, "multipleOf": 0.0001},
            ],
        }
    ),
]
SlippageBps = Annotated[
    int,
    *_whole_number_pieces(
        0, BASIS_POINTS, "The tolerance in basis points, instead of the fraction."
    ),
]
MaxRetries = Annotated[
    int,
    *_whole_number_pieces(
        0, 10, f"Attempts after the first one ({DEFAULT_MAX_RETRIES} without it)."
    ),
]
Priority = Annotated[
    int,
    *_whole_number_pieces(
        0,
        10,
        "Which of your own waiting orders runs first: the highest (0 without it). It gains nothing "
        "on the orders of others.",
    ),
]
ExpiresAt = Annotated[AwareDatetime, BeforeValidator(_text)]
TokenSymbol = Annotated[
    str, AfterValidator(_known_token), WithJsonSchema({"type": "string", "enum": list(TOKENS)})
]
OrderTypeName = Annotated[
    str,
    BeforeValidator(_one_of("enum", lambda: [rules.name for rules in order_types()])),
    WithJsonSchema({"type": "string", "enum": [rules.name for rules in order_types()]}),
]
TriggerVenue = Annotated[
    str,
    BeforeValidator(_one_of("literal_error", lambda: [ANY_VENUE, *venue_names()])),
    WithJsonSchema({"type": "string", "enum": [ANY_VENUE, *venue_names()]}),
]
UserId = Annotated[str, StringConstraints(pattern=USER_ID_PATTERN)]
ClientOrderId = Annotated[str, StringConstraints(pattern=CLIENT_ORDER_ID_PATTERN)]
IdempotencyKey = Annotated[str, StringConstraints(pattern=IDEMPOTENCY_KEY_PATTERN)]
