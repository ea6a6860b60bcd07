"""Take an order in: store it once, tell its subscribers, start its execution."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from order_engine.clock import Clock
from order_engine.domain.expiry import check_expiry
from order_engine.domain.orders import (
    ExecutionTerms,
    Order,
    OrderTerms,
    Quote,
    VenueName,
    execution_terms_of,
)
from order_engine.domain.statuses import OrderStatus
from order_engine.domain.transitions import (
    Claimed,
    IntakeLimit,
    IntakeLimits,
    NewOrder,
    Refusal,
)
from order_engine.domain.types import rules_of
from order_engine.errors import (
    FieldError,
    OutcomeUnknown,
    ProblemCode,
    Rejected,
    Retryable,
    TooMany,
)
from order_engine.execution.outbox import stream_outbox
from order_engine.execution.ports import EventStream, OrderRepository
from order_engine.execution.turns import Turns
from order_engine.venues.contract import Quoted, QuoteRequest, Venue


@dataclass(frozen=True, slots=True)
class Accepted:
    """Hold the stored order; ``replayed`` when an earlier equal request had stored it."""

    order: Order
    replayed: bool
    warnings: tuple[str, ...] = ()


class Acceptance:
    """Accept orders, each exactly once per idempotency key."""

    def __init__(
        self,
        orders: OrderRepository,
        stream: EventStream,
        turns: Turns,
        venues: Mapping[VenueName, Venue],
        clock: Clock,
        new_order_id: Callable[[], str],
        limits: IntakeLimits = IntakeLimits(),
    ) -> None:
        self._orders = orders
        self._stream = stream
        self._turns = turns
        self._venues = venues
        self._clock = clock
        self._new_order_id = new_order_id
        self._limits = limits

    def accept(
        self,
        terms: OrderTerms,
        terms_digest: str,
        idempotency_key: str | None,
        *,
        key_field: str = "Idempotency-Key",
    ) -> Accepted:
        """Store the order, or return the one stored before; start whoever's turn it is.

        The order starts at once where a slot is free and nobody waits before it; else it waits.
        A limit or sniper order whose condition is not met yet rests.
        ``key_field`` is what the client calls the key, for a refusal to name it.
        Once stored, the order is accepted: a stream or a state machine that is away delays it
        (the reconciler makes up for both) but does not refuse it.
        Raises ``Rejected`` when the key was used for another order, a sniper order's pool is open
        already or a limit of the intake is reached; ``DatabaseUnavailable``.
        """
        key = effective_key(terms, idempotency_key)
        order_id = self._new_order_id()
        rules, wanted = rules_of(terms.type), execution_terms_of(order_id, terms)
        quotes = self._quotes(wanted) if rules.rests else []
        is_met = not rules.rests or any(rules.is_met(wanted, quote) for quote in quotes)
        self._check_moment(terms, key, pool_is_open=bool(quotes))
        new_order = NewOrder(
            order_id=order_id,
            terms=terms,
            idempotency_key=key,
            terms_digest=terms_digest,
            rests=not is_met,
        )
        storage = self._orders.insert(new_order, self._limits)
        if isinstance(storage, Refusal):
            raise self._refused(storage)
        if not storage.created:
            if storage.idempotency_key != key:
                raise _reused("clientOrderId", "belongs to an order sent under another key")
            if not _is_same_order(storage.terms_digest, terms_digest):
                field = key_field if idempotency_key else "clientOrderId"
                raise _reused(field, "was used for a different order")
            return Accepted(storage.order, replayed=True, warnings=_warnings(storage.order))
        stream_outbox(self._orders, self._stream, storage.unstreamed)
        if storage.order.started_at is not None:
            self._turns.start(Claimed(order_id, storage.order.execution))
        if is_met:
            self._turns.start_soon(order_id)
        else:
            self._orders.write_notes()
        return Accepted(storage.order, replayed=False, warnings=_warnings(storage.order))

    def _refused(self, refusal: Refusal) -> Rejected:
        limits = self._limits
        match refusal.limit:
            case IntakeLimit.WAITING_PER_USER:
                detail = f"{limits.waiting_per_user} of your orders wait already."
                return TooMany(ProblemCode.TOO_MANY_ORDERS, detail, limit=limits.waiting_per_user)
            case IntakeLimit.OPEN_PER_USER:
                detail = f"{limits.open_per_user} of your orders are at rest already."
                return TooMany(ProblemCode.TOO_MANY_ORDERS, detail, limit=limits.open_per_user)
            case IntakeLimit.ORDERS_PER_SECOND:
                return TooMany(
                    ProblemCode.RATE_LIMITED,
                    "More orders than the engine takes in; try again.",
                    limit=limits.burst,
                    window_seconds=limits.burst_seconds,
                    retry_after_seconds=refusal.retry_after_seconds,
                )

    def _quotes(self, terms: ExecutionTerms) -> list[Quote]:
        """Ask for the prices that decide whether the order may execute right away."""
        return [quote for venue in self._asked(terms) if (quote := _quote(venue, terms))]

    def _asked(self, terms: ExecutionTerms) -> list[Venue]:
        return [venue for name, venue in self._venues.items() if terms.only_venue in (None, name)]

    def _check_moment(self, terms: OrderTerms, key: str | None, *, pool_is_open: bool) -> None:
        """Raise ``Rejected`` for what is too late, unless it repeats a request that was not."""
        try:
            check_expiry(terms.expires_at, self._clock.now())
            if pool_is_open:
                _check_pool_is_awaited(terms)
        except Rejected:
            if key is None or not self._orders.is_stored(terms.user_id, key):
                raise


def _warnings(order: Order) -> tuple[str, ...]:
    """Say what may surprise: the condition of an order that never rested was met when it came."""
    warning = rules_of(order.type).met_at_once
    return (warning,) if warning and OrderStatus.OPEN not in order.milestones else ()


def _check_pool_is_awaited(terms: OrderTerms) -> None:
    if not rules_of(terms.type).awaits_opening:
        return
    if terms.trigger is None or terms.trigger.allow_existing:
        return
    raise Rejected(
        ProblemCode.POOL_ALREADY_OPEN,
        f"a pool of {terms.token_in} and {terms.token_out} is open already; send a market order,"
        " or say allowExisting in the trigger",
        errors=[FieldError("trigger", "its pool is open already", "pool_already_open")],
    )


def _quote(venue: Venue, terms: ExecutionTerms) -> Quote | None:
    """Ask for a price; a venue in trouble gives none, and the order rests until the watch asks."""
    request = QuoteRequest(
        token_in=terms.token_in, token_out=terms.token_out, amount_in=terms.amount_in
    )
    try:
        answer = venue.quote(request)
    except (Retryable, OutcomeUnknown):
        return None
    return answer.quote if isinstance(answer, Quoted) else None


def _is_same_order(stored: str, given: str) -> bool:
    """Tell whether the digests, separated by spaces, have one in common."""
    return not set(stored.split()).isdisjoint(given.split())


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
