"""Take an order in: store it once, tell its subscribers, start its execution."""

import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from order_engine.clock import Clock
from order_engine.domain.changes import PutToRest
from order_engine.domain.events import first_event
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
from order_engine.domain.transitions import Guard, NewOrder, Storage, Transition
from order_engine.domain.types import rules_of
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
from order_engine.venues.contract import Quoted, QuoteRequest, Venue

logger = logging.getLogger(__name__)


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
        order_id = self._new_order_id()
        rules, wanted = rules_of(terms.type), execution_terms_of(order_id, terms)
        quotes = self._quotes(wanted) if rules.rests else []
        is_met = not rules.rests or any(rules.is_met(wanted, quote) for quote in quotes)
        self._check_moment(terms, key, pool_is_open=bool(quotes))
        storage = self._store(
            NewOrder(
                order_id=order_id,
                terms=terms,
                idempotency_key=key,
                terms_digest=terms_digest,
            ),
            in_turn=is_met,
        )
        if not storage.created:
            if storage.idempotency_key != key:
                raise _reused("clientOrderId", "belongs to an order sent under another key")
            if not _is_same_order(storage.terms_digest, terms_digest):
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

    def _put_to_rest(self, order: Order) -> Order:
        result = self._orders.move(Transition(order.order_id, PutToRest(), Guard.ANYONE))
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
