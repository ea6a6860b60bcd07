"""Take an order in: store it once, tell its subscribers, start its execution."""

import logging
from collections.abc import Callable
from dataclasses import dataclass

from order_engine.errors import ExecutionNotStarted, FieldError, Rejected, StreamUnavailable
from order_engine.events import first_event
from order_engine.orders import Order, OrderTerms
from order_engine.ports import EventStream, ExecutionStarter, OrderRepository
from order_engine.transitions import NewOrder

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Accepted:
    """Hold the stored order; ``replayed`` when an earlier equal request had stored it."""

    order: Order
    replayed: bool


class Acceptance:
    """Accept orders, each exactly once per idempotency key."""

    def __init__(
        self,
        orders: OrderRepository,
        stream: EventStream,
        executions: ExecutionStarter,
        new_order_id: Callable[[], str],
    ) -> None:
        self._orders = orders
        self._stream = stream
        self._executions = executions
        self._new_order_id = new_order_id

    def accept(self, terms: OrderTerms, terms_digest: str, idempotency_key: str | None) -> Accepted:
        """Store the order and start its execution, or return the one stored before.

        Once stored, the order is accepted: a stream or a state machine that is away delays it
        (the reconciler makes up for both) but does not refuse it.
        Raises ``Rejected`` when the key was used for another order, ``DatabaseUnavailable``.
        """
        key = effective_key(terms, idempotency_key)
        storage = self._orders.insert(
            NewOrder(
                order_id=self._new_order_id(),
                terms=terms,
                idempotency_key=key,
                terms_digest=terms_digest,
            )
        )
        if not storage.created:
            if storage.idempotency_key != key:
                raise _reused("clientOrderId", "belongs to an order sent under another key")
            if storage.terms_digest != terms_digest:
                field = "Idempotency-Key" if idempotency_key else "clientOrderId"
                raise _reused(field, "was used for a different order")
            return Accepted(storage.order, replayed=True)
        self._announce(storage.order)
        self._start(storage.order)
        return Accepted(storage.order, replayed=False)

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


def effective_key(terms: OrderTerms, idempotency_key: str | None) -> str | None:
    """Return what identifies the request: the header, or else the client's order id."""
    if idempotency_key:
        return f"key:{idempotency_key}"
    return f"client:{terms.client_order_id}" if terms.client_order_id else None


def _reused(field: str, message: str) -> Rejected:
    return Rejected(
        "IDEMPOTENCY_KEY_REUSED",
        f"{field} {message}",
        errors=[FieldError(field, message, "reused")],
    )
