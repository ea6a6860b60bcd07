"""Take an order in: store it once, tell its subscribers, start its execution."""

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from order_engine.clock import Clock
from order_engine.domain.events import first_event
from order_engine.domain.expiry import check_expiry
from order_engine.domain.money import decimal_text
from order_engine.domain.orders import Order, OrderTerms, OrderType, Quote, SniperTrigger
from order_engine.domain.orders import Venue as VenueName
from order_engine.domain.statuses import OrderStatus
from order_engine.domain.transitions import Guard, NewOrder, Storage, Transition
from order_engine.errors import (
    ExecutionNotStarted,
    FieldError,
    OutcomeUnknown,
    ProblemCode,
    Rejected,
    Retryable,
    StreamUnavailable,
)
from order_engine.execution.outbox import stream_outbox
from order_engine.execution.ports import EventStream, ExecutionStarter, OrderRepository
from order_engine.venues.contract import Venue

logger = logging.getLogger(__name__)

MARKETABLE = "the limit is already marketable: the order executes at once, at the limit or better"


@dataclass(frozen=True, slots=True)
class Accepted:
    """Hold the stored order; ``replayed`` when an earlier equal request had stored it."""

    order: Order
    replayed: bool
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Admission:
    """Say how many orders may be on their way to a venue before one more waits, and how long.

    Without a limit, orders that arrive faster than the venues serve them would all start at once
    and all be slow. Nobody waits longer than ``turns`` pauses: the limit sets a pace and refuses
    nothing. Orders that come from rest are not counted: the watch has a pace of its own.
    """

    limit: int | None = None
    turns: int = 4
    pause_seconds: float = 0.5


class Acceptance:
    """Accept orders, each exactly once per idempotency key."""

    def __init__(
        self,
        orders: OrderRepository,
        stream: EventStream,
        executions: ExecutionStarter,
        venues: Mapping[VenueName, Venue],
        clock: Clock,
        new_order_id: Callable[[], str],
        admission: Admission = Admission(),
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._orders = orders
        self._stream = stream
        self._executions = executions
        self._venues = venues
        self._clock = clock
        self._new_order_id = new_order_id
        self._admission = admission
        self._sleep = sleep

    def accept(
        self,
        terms: OrderTerms,
        terms_digest: str,
        idempotency_key: str | None,
        *,
        key_field: str = "Idempotency-Key",
    ) -> Accepted:
        """Store the order and start its execution, or return the one stored before.

        A limit or sniper order whose condition is not met yet is put to rest instead.
        ``key_field`` is what the client calls the key, for a refusal to name it.
        Once stored, the order is accepted: a stream or a state machine that is away delays it
        (the reconciler makes up for both) but does not refuse it.
        Raises ``Rejected`` when the key was used for another order or a sniper order's pool is
        open already, ``DatabaseUnavailable``.
        """
        key = effective_key(terms, idempotency_key)
        quotes = self._quotes(terms)
        is_met = _is_met(terms, quotes)
        self._check_moment(terms, key, pool_is_open=bool(quotes))
        storage = self._store(
            NewOrder(
                order_id=self._new_order_id(),
                terms=terms,
                idempotency_key=key,
                terms_digest=terms_digest,
            ),
            in_turn=is_met,
        )
        if not storage.created:
            if storage.idempotency_key != key:
                raise _reused("clientOrderId", "belongs to an order sent under another key")
            if storage.terms_digest != terms_digest:
                field = key_field if idempotency_key else "clientOrderId"
                raise _reused(field, "was used for a different order")
            return Accepted(storage.order, replayed=True, warnings=_warnings(storage.order))
        self._announce(storage.order)
        if not is_met:
            return Accepted(self._put_to_rest(storage.order), replayed=False)
        self._start(storage.order)
        return Accepted(storage.order, replayed=False, warnings=_warnings(storage.order))

    def _store(self, order: NewOrder, *, in_turn: bool) -> Storage:
        """Insert the order; ``in_turn``: when there is room, or it has waited long enough."""
        limit = self._admission.limit
        if in_turn and limit is not None:
            for _ in range(self._admission.turns):
                storage = self._orders.insert_if_room(order, limit)
                if storage is not None:
                    return storage
                self._sleep(self._admission.pause_seconds)
        return self._orders.insert(order)

    def _quotes(self, terms: OrderTerms) -> list[Quote]:
        """Ask for the prices that decide whether the order may execute right away."""
        if terms.type is OrderType.MARKET:
            return []
        return [quote for venue in self._asked(terms) if (quote := _quote(venue, terms))]

    def _asked(self, terms: OrderTerms) -> list[Venue]:
        return [
            venue
            for name, venue in self._venues.items()
            if terms.trigger is None or terms.trigger.venue in ("any", name)
        ]

    def _check_moment(self, terms: OrderTerms, key: str | None, *, pool_is_open: bool) -> None:
        """Raise ``Rejected`` for what is too late, unless it repeats a request that was not."""
        try:
            check_expiry(terms.expires_at, self._clock.now())
            if pool_is_open:
                _check_pool_is_awaited(terms)
        except Rejected:
            if key is None or not self._orders.is_stored(terms.user_id, key):
                raise

    def _put_to_rest(self, order: Order) -> Order:
        result = self._orders.move(
            Transition(
                order_id=order.order_id,
                target=OrderStatus.OPEN,
                guard=Guard.ANYONE,
                sources=frozenset({OrderStatus.PENDING}),
            )
        )
        stream_outbox(self._orders, self._stream, result.unstreamed)
        return result.order or order

    def _announce(self, order: Order) -> None:
        event = first_event(order)
        try:
            self._stream.announce(order, [event])
        except StreamUnavailable:
            logger.warning("first event left to the outbox", extra={"order_id": order.order_id})
        else:
            self._orders.mark_streamed([event])

    def _start(self, order: Order) -> None:
        try:
            self._executions.start(order.order_id, order.execution)
        except ExecutionNotStarted:
            logger.warning("start left to the reconciler", extra={"order_id": order.order_id})


def _warnings(order: Order) -> tuple[str, ...]:
    """Say what may surprise; a limit order that never rested was marketable when it came."""
    never_rested = OrderStatus.OPEN not in order.milestones
    return (MARKETABLE,) if order.type is OrderType.LIMIT and never_rested else ()


def _is_met(terms: OrderTerms, quotes: Sequence[Quote]) -> bool:
    """Tell whether the order may execute right away; a market order always may."""
    if terms.limit_price is not None:
        return any(quote.price >= terms.limit_price for quote in quotes)
    if terms.trigger is not None:
        return any(_is_within(terms.trigger, quote) for quote in quotes)
    return True


def _is_within(trigger: SniperTrigger, quote: Quote) -> bool:
    """Tell whether a pool is large and cheap enough; liquidity counts in tokenIn."""
    return quote.liquidity >= trigger.min_liquidity * quote.price and (
        trigger.max_price is None or quote.price * trigger.max_price >= 1
    )


def _check_pool_is_awaited(terms: OrderTerms) -> None:
    if terms.trigger is None or terms.trigger.allow_existing:
        return
    raise Rejected(
        ProblemCode.POOL_ALREADY_OPEN,
        f"a pool of {terms.token_in} and {terms.token_out} is open already; send a market order,"
        " or say allowExisting in the trigger",
        errors=[FieldError("trigger", "its pool is open already", "pool_already_open")],
    )


def _quote(venue: Venue, terms: OrderTerms) -> Quote | None:
    """Ask for a price; a venue in trouble gives none, and the order rests until the watch asks."""
    try:
        answer = venue.quote(
            {
                "action": "quote",
                "tokenIn": terms.token_in,
                "tokenOut": terms.token_out,
                "amountIn": decimal_text(terms.amount_in),
            }
        )
    except (Retryable, OutcomeUnknown):
        return None
    return Quote.model_validate(answer["quote"]) if answer["outcome"] == "quoted" else None


def effective_key(terms: OrderTerms, idempotency_key: str | None) -> str | None:
    """Return what identifies the request: the header, or else the client's order id."""
    if idempotency_key:
        return f"key:{idempotency_key}"
    return f"client:{terms.client_order_id}" if terms.client_order_id else None


def _reused(field: str, message: str) -> Rejected:
    return Rejected(
        ProblemCode.IDEMPOTENCY_KEY_REUSED,
        f"{field} {message}",
        errors=[FieldError(field, message, "reused")],
    )
