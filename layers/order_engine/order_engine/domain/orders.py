"""The order, as it is stored, moved and shown."""

from datetime import datetime
from decimal import Decimal
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    PlainSerializer,
    StringConstraints,
    computed_field,
)
from pydantic.alias_generators import to_camel

from order_engine.clock import timestamp_text
from order_engine.domain.failures import Failure
from order_engine.domain.money import decimal_text
from order_engine.domain.statuses import WAITING_STATUSES, OrderStatus

Amount = Annotated[Decimal, PlainSerializer(decimal_text, return_type=str, when_used="json")]
Timestamp = Annotated[datetime, PlainSerializer(timestamp_text, return_type=str, when_used="json")]


VENUE_NAME_PATTERN = r"^[a-z][a-z0-9]{0,31}$"
VenueName = Annotated[
    str, StringConstraints(pattern=VENUE_NAME_PATTERN), Field(json_schema_extra={"x-venue": True})
]
"""Names an exchange; which there are, ``venues.registry`` says."""


ANY_VENUE = "any"

Resolution = Literal["landed", "reverted", "expired"]
"""What became of a sent transaction."""

OrderType = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z_]{0,31}$")]
"""Names an order type; which there are, and their rules, ``domain.types`` says."""

MARKET = "market"


class DomainModel(BaseModel):
    """Base of the immutable value objects that cross the wire in camelCase."""

    model_config = ConfigDict(
        frozen=True, alias_generator=to_camel, populate_by_name=True, extra="ignore"
    )

    def to_json_dict(self) -> dict[str, Any]:
        """Return JSON-ready data in the wire's names: amounts as strings, times with ``Z``."""
        return self.model_dump(mode="json", by_alias=True)


class Quote(DomainModel):
    """State what one venue would pay, net of its fee."""

    dex: VenueName
    price: Amount = Field(description="tokenOut per tokenIn, net of fees")
    amount_out: Amount
    fee_pct: Amount
    price_impact_pct: Amount
    liquidity: Amount = Field(description="value of the pool in units of tokenOut")
    slot: int


class SwapTransaction(DomainModel):
    """Carry a signed transaction; the signature identifies it before it is ever sent."""

    signature: str
    payload: str = Field(description="the signed bytes, base64")
    last_valid_block_height: int
    venue: VenueName


class SniperTrigger(DomainModel):
    """Say which pool opening releases a sniper order."""

    type: Literal["poolCreated"] = "poolCreated"
    venue: VenueName = ANY_VENUE
    min_liquidity: Amount = Decimal(0)
    max_price: Amount | None = None
    allow_existing: bool = False

    @property
    def bounds(self) -> dict[str, Any]:
        """Return what the execution must keep to, as fields of ``ExecutionTerms``."""
        return {
            "max_price": self.max_price,
            "only_venue": None if self.venue == ANY_VENUE else self.venue,
            "min_liquidity": self.min_liquidity,
        }


class OrderTerms(DomainModel):
    """State what the caller asked for; never changes but by an amend while at rest."""

    client_order_id: str | None = None
    user_id: str
    type: OrderType = MARKET
    side: Literal["buy", "sell"] | None = None
    token_in: str
    token_out: str
    amount_in: Amount
    slippage_bps: int
    max_retries: int = 3
    priority: int = Field(
        default=0, description="0 to 10: the highest of one's own waiting orders runs first"
    )
    limit_price: Amount | None = None
    expires_at: Timestamp | None = None
    trigger: SniperTrigger | None = None


class ExecutionTerms(DomainModel):
    """Carry through the state machine what venues and decisions need to know of an order."""

    order_id: str
    client_order_id: str | None = None
    token_in: str
    token_out: str
    amount_in: Amount
    slippage_bps: int
    type: OrderType = MARKET
    limit_price: Amount | None = None
    max_price: Amount | None = Field(
        default=None, description="sniper: most tokenIn to pay per tokenOut"
    )
    only_venue: VenueName | None = Field(
        default=None, description="sniper: the one venue it may use"
    )
    min_liquidity: Amount = Field(
        default=Decimal(0), description="sniper: least value of the pool in tokenIn"
    )
    expires_at: Timestamp | None = None


def execution_terms_of(order_id: str, terms: OrderTerms) -> ExecutionTerms:
    """Return what an execution of these terms works with."""
    return ExecutionTerms(
        order_id=order_id,
        client_order_id=terms.client_order_id,
        token_in=terms.token_in,
        token_out=terms.token_out,
        amount_in=terms.amount_in,
        slippage_bps=terms.slippage_bps,
        type=terms.type,
        limit_price=terms.limit_price,
        expires_at=terms.expires_at,
        **(terms.trigger.bounds if terms.trigger else {}),
    )


class Order(OrderTerms):
    """Show one order and how far it has come."""

    order_id: str
    status: OrderStatus
    seq: int
    attempt: int
    retries: int
    quotes: tuple[Quote, ...] = ()
    chosen_dex: VenueName | None = None
    quoted_price: Amount | None = None
    min_amount_out: Amount | None = None
    amount_out: Amount | None = None
    executed_price: Amount | None = None
    realized_slippage_bps: Amount | None = None
    tx_hash: str | None = None
    failure: Failure | None = None
    created_at: Timestamp
    updated_at: Timestamp
    milestones: dict[OrderStatus, Timestamp] = Field(
        default_factory=dict, description="when each status was last entered"
    )

    execution: str = Field(exclude=True, default="")
    generation: int = Field(exclude=True, default=0)
    claimed_by: str | None = Field(exclude=True, default=None)
    started_at: datetime | None = Field(exclude=True, default=None)
    restarts: int = Field(exclude=True, default=0)
    transaction: SwapTransaction | None = Field(exclude=True, default=None)
    transaction_resolution: Resolution | None = Field(exclude=True, default=None)

    @computed_field(alias="orderType")  # type: ignore[prop-decorator]
    @property
    def order_type(self) -> OrderType:
        """Repeat ``type`` for clients of older systems."""
        return self.type

    @computed_field(alias="amount")  # type: ignore[prop-decorator]
    @property
    def amount(self) -> Amount:
        """Repeat ``amountIn`` for clients of older systems."""
        return self.amount_in

    @computed_field(alias="slippageTolerance")  # type: ignore[prop-decorator]
    @property
    def slippage_tolerance(self) -> Amount:
        """Give the tolerance as a fraction of the quoted output."""
        return Decimal(self.slippage_bps).scaleb(-4)

    @computed_field(alias="routedDex")  # type: ignore[prop-decorator]
    @property
    def routed_dex(self) -> VenueName | None:
        """Repeat ``chosenDex`` for clients of older systems."""
        return self.chosen_dex

    @computed_field(alias="error")  # type: ignore[prop-decorator]
    @property
    def error(self) -> str | None:
        """Give the failure as one line of text."""
        return f"{self.failure.code}: {self.failure.detail}" if self.failure else None

    @property
    def execution_terms(self) -> ExecutionTerms:
        """Return what the order's execution works with."""
        return execution_terms_of(self.order_id, self)

    @property
    def waits_for_turn(self) -> bool:
        """Tell whether the order may be executed and was given no slot yet."""
        return self.started_at is None and self.status in WAITING_STATUSES

    @property
    def has_unresolved_transaction(self) -> bool:
        """Tell whether a transaction was written down whose fate is not known yet."""
        return self.transaction is not None and self.transaction_resolution is None
