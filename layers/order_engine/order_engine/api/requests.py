"""Requests for orders and quotes: what clients may send, and the terms it comes to."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from decimal import Decimal
from typing import Any, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    TypeAdapter,
    ValidationError,
)
from pydantic.alias_generators import to_camel

from order_engine.api.fields import (
    DEFAULT_MAX_RETRIES,
    AmountIn,
    ClientOrderId,
    ExpiresAt,
    Liquidity,
    MaxPrice,
    MaxRetries,
    OrderTypeName,
    Price,
    Priority,
    SlippageBps,
    SlippageFraction,
    TokenSymbol,
    TriggerVenue,
    UserId,
)
from order_engine.domain.changes import Amendment
from order_engine.domain.expiry import MAX_REST
from order_engine.domain.money import decimal_text, to_base_units
from order_engine.domain.orders import ANY_VENUE, MARKET, OrderTerms, SniperTrigger
from order_engine.domain.tokens import TOKENS
from order_engine.domain.types import order_types, rules_of
from order_engine.errors import FieldError, ProblemCode, Rejected

DEFAULT_USER_ID = "anonymous"
MAX_BASE_UNITS = 2**64 - 1
"""Solana's token amounts are unsigned 64-bit integers."""


class _Request(BaseModel):
    model_config = ConfigDict(
        frozen=True, alias_generator=to_camel, validate_by_alias=True, extra="ignore"
    )


class TriggerRequest(_Request):
    """Say which pool opening releases a sniper order."""

    type: Literal["poolCreated"] = "poolCreated"
    venue: TriggerVenue = ANY_VENUE
    min_liquidity: Liquidity = Decimal(0)
    max_price: MaxPrice | None = None
    allow_existing: bool = False


class OrderRequest(_Request):
    """Hold an order's fields as clients may send them, under any of their names.

    Unknown fields are ignored, ``null`` counts as left out, and a field may be given under two
    names if the values are equal.
    """

    client_order_id: ClientOrderId | None = Field(
        default=None,
        description="Your own id of the order, unique per user; also the idempotency key "
        "when there is no Idempotency-Key header.",
    )
    user_id: UserId | None = Field(
        default=None,
        description=f"Whose order it is ('{DEFAULT_USER_ID}' without it). Where callers are "
        "authenticated it is the token's subject.",
    )
    type: OrderTypeName | None = Field(default=None, description="'market' without it.")
    order_type: OrderTypeName | None = Field(default=None, description="Another name of `type`.")
    side: Literal["buy", "sell"] | None = Field(
        default=None, description="Informational: tokenIn is always what is given."
    )
    token_in: TokenSymbol = Field(description="Symbol of the token that is given.")
    token_out: TokenSymbol = Field(
        description="Symbol of the token that is wanted; differs from tokenIn."
    )
    amount_in: AmountIn | None = None
    amount: AmountIn | None = None
    slippage_tolerance: SlippageFraction | None = None
    slippage: SlippageFraction | None = None
    slippage_bps: SlippageBps | None = None
    max_retries: MaxRetries | None = None
    priority: Priority | None = None
    limit_price: Price | None = None
    target_price: Price | None = None
    expires_at: ExpiresAt | None = Field(
        default=None,
        description="Until when a limit or sniper order may wait: with a time zone, at most "
        f"{MAX_REST.days} days ahead.",
    )
    trigger: TriggerRequest | None = None


def order_terms(fields: Mapping[str, Any], *, caller: str | None = None) -> OrderTerms:
    """Return the terms that a request's fields come to.

    ``fields`` as ``parse_json_object`` reads them; ``caller`` is the authenticated user, None in
    an open stack. Raises ``Rejected``: ``VALIDATION_FAILED`` with every field at fault under the
    name the client used.
    """
    given = {name: value for name, value in fields.items() if value is not None}
    try:
        request = OrderRequest.model_validate(given)
    except ValidationError as error:
        raise refusal(_missing_amount(given) + field_errors(error.errors())) from None
    reader = _Reader(request, given)
    order_type, _ = reader.one_of("type", "orderType")
    amount_in, amount_name = reader.one_of("amountIn", "amount")
    slippage, slippage_name = reader.one_of("slippageTolerance", "slippage")
    limit_price, _ = reader.one_of("limitPrice", "targetPrice")
    errors = [
        *_missing_amount(given),
        *reader.conflicts,
        *_user_errors(request.user_id, caller),
        *_swap_errors(request.token_in, request.token_out, amount_in, amount_name),
    ]
    errors += _slippage_errors(slippage, slippage_name, request.slippage_bps)
    order_type = order_type or MARKET
    errors += _type_errors(order_type, given)
    if errors:
        raise refusal(errors)
    return OrderTerms(
        client_order_id=request.client_order_id,
        user_id=caller or request.user_id or DEFAULT_USER_ID,
        type=order_type,
        side=request.side,
        token_in=request.token_in,
        token_out=request.token_out,
        amount_in=amount_in,
        slippage_bps=_slippage_bps(order_type, slippage, request.slippage_bps),
        max_retries=(DEFAULT_MAX_RETRIES if request.max_retries is None else request.max_retries),
        priority=request.priority or 0,
        limit_price=limit_price,
        expires_at=request.expires_at,
        trigger=(
            SniperTrigger.model_validate(request.trigger.model_dump()) if request.trigger else None
        ),
    )


_ALIASES: Mapping[str, str] = {"targetPrice": "limitPrice"}
"""Other names that a term of a type may come under."""


def _type_errors(order_type: str, given: Mapping[str, Any]) -> list[FieldError]:
    """Return what the type's orders must have and do not, and what belongs to other types."""
    stated = {_ALIASES.get(name, name): name for name in given}
    needed = {to_camel(term) for term in rules_of(order_type).terms}
    known = {to_camel(term) for rules in order_types() for term in rules.terms}
    missing = [
        FieldError(name, f"is required for a {order_type} order", "missing")
        for name in sorted(needed - set(stated))
    ]
    foreign = [
        FieldError(name, f"does not belong to a {order_type} order", "not_applicable")
        for name in given
        if _ALIASES.get(name, name) in known - needed
    ]
    return missing + foreign


class AmendRequest(_Request):
    """Hold what may be changed of an order that rests or waits for its turn."""

    priority: Priority | None = None
    limit_price: Price | None = None
    target_price: Price | None = None
    slippage_tolerance: SlippageFraction | None = None
    slippage: SlippageFraction | None = None
    slippage_bps: SlippageBps | None = None
    expires_at: ExpiresAt | None = None


def amendment_of(fields: Mapping[str, Any]) -> Amendment:
    """Return the changes that a request's fields come to; raise ``Rejected``."""
    given = {name: value for name, value in fields.items() if value is not None}
    try:
        request = AmendRequest.model_validate(given)
    except ValidationError as error:
        raise refusal(field_errors(error.errors())) from None
    reader = _Reader(request, given)
    limit_price, _ = reader.one_of("limitPrice", "targetPrice")
    slippage, slippage_name = reader.one_of("slippageTolerance", "slippage")
    errors = [*reader.conflicts, *_slippage_errors(slippage, slippage_name, request.slippage_bps)]
    if errors:
        raise refusal(errors)
    slippage_bps = request.slippage_bps if slippage is None else int(slippage.scaleb(4))
    amendment = Amendment(
        priority=request.priority,
        limit_price=limit_price,
        expires_at=request.expires_at,
        slippage_bps=slippage_bps,
    )
    if amendment == Amendment():
        message = "is required, or priority, or expiresAt, or slippageTolerance"
        raise refusal([FieldError("limitPrice", message, "missing")])
    return amendment


def check_swap(token_in: str, token_out: str, amount_in: Decimal) -> None:
    """Raise ``Rejected`` unless the amount can be swapped between the two known tokens."""
    errors = _swap_errors(token_in, token_out, amount_in, "amountIn")
    if errors:
        raise refusal(errors)


def checked_text(value: object, kind: Any, field: str) -> str:
    """Return a text that is of the ``kind`` (a pydantic type); raise ``Rejected`` naming it."""
    try:
        checked: str = TypeAdapter(kind).validate_python(value)
    except ValidationError as error:
        problems = field_errors(error.errors())
        raise refusal([replace(problem, field=field) for problem in problems]) from None
    return checked


def field_errors(errors: Sequence[Mapping[str, Any]]) -> list[FieldError]:
    """Return pydantic's errors by field, each field named as the client did."""
    return [
        FieldError(_field_name(error["loc"]), _message(error), str(error["type"]))
        for error in errors
    ]


def refusal(errors: Sequence[FieldError]) -> Rejected:
    """Return the refusal of a request for its fields at fault."""
    first = errors[0]
    more = f" ({len(errors) - 1} more)" if len(errors) > 1 else ""
    return Rejected(
        ProblemCode.VALIDATION_FAILED, f"{first.field} {first.message}{more}.", errors=errors
    )


def _slippage_errors(
    slippage: Decimal | None, slippage_name: str, slippage_bps: int | None
) -> list[FieldError]:
    if slippage is None or slippage_bps is None:
        return []
    return [FieldError("slippageBps", f"may not be given beside {slippage_name}", "conflict")]


class _Reader:
    """Read fields that have two names."""

    def __init__(self, request: BaseModel, given: Mapping[str, Any]) -> None:
        self._values = request.model_dump(by_alias=True)
        self._given = given
        self.conflicts: list[FieldError] = []

    def one_of(self, *names: str) -> tuple[Any, str]:
        """Return the value and the name it was given under (the first name if under none)."""
        given = [name for name in names if name in self._given]
        if not given:
            return None, names[0]
        for name in given[1:]:
            if self._values[name] != self._values[given[0]]:
                self.conflicts.append(FieldError(name, f"differs from {given[0]}", "conflict"))
        return self._values[given[0]], given[0]


def _missing_amount(given: Mapping[str, Any]) -> list[FieldError]:
    if "amountIn" in given or "amount" in given:
        return []
    return [FieldError("amountIn", "is required", "missing")]


def own_user(user_id: str | None, caller: str | None) -> str | None:
    """Return whose orders a request is about, None for everyone's.

    Raises ``Rejected`` when an authenticated caller names somebody else.
    """
    errors = _user_errors(user_id, caller)
    if errors:
        raise refusal(errors)
    return caller or user_id


def _user_errors(user_id: str | None, caller: str | None) -> list[FieldError]:
    if caller is None or user_id is None or user_id == caller:
        return []
    return [FieldError("userId", "must be left out or be your own", "not_the_caller")]


def _swap_errors(
    token_in: str, token_out: str, amount_in: Decimal | None, amount_name: str
) -> list[FieldError]:
    errors = []
    if token_in == token_out:
        errors.append(FieldError("tokenOut", "must differ from tokenIn", "same_token"))
    if amount_in is None:
        return errors
    token = TOKENS[token_in]
    try:
        units = to_base_units(amount_in, token.decimals)
    except ValueError:
        message = f"must have at most {token.decimals} decimals, as {token_in} has"
        errors.append(FieldError(amount_name, message, "too_many_decimals"))
    else:
        if units > MAX_BASE_UNITS:
            most = decimal_text(Decimal(MAX_BASE_UNITS).scaleb(-token.decimals))
            message = f"must be at most {most} {token_in}"
            errors.append(FieldError(amount_name, message, "out_of_range"))
    return errors


def _slippage_bps(order_type: str, fraction: Decimal | None, basis_points: int | None) -> int:
    if fraction is not None:
        return int(fraction.scaleb(4))
    if basis_points is not None:
        return basis_points
    return rules_of(order_type).default_slippage_bps


def _field_name(location: Sequence[object]) -> str:
    # pydantic adds the branch of a union or the kind of a validator behind the field's name.
    names = [str(part) for part in location if isinstance(part, str)]
    return ".".join(names)


_PYDANTIC_BEGINNING = re.compile(r"^(Input|String|Value) should ")


def _message(error: Mapping[str, Any]) -> str:
    match error["type"]:
        case "missing":
            return "is required"
        case "string_type" | "string_unicode":
            return "must be a text"
        case "string_pattern_mismatch":
            return "has a length or characters that are not allowed"
        case "uuid_parsing":
            return "must be a UUID"
        case _:
            return _PYDANTIC_BEGINNING.sub("must ", str(error["msg"]))
