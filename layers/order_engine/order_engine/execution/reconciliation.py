"""Find orders that nobody works on any more and bring them to their end.

What can go wrong with an execution (never started, died, timed out, aborted) leaves its order at
some status before a final one. The reconciler is the guarantee behind every best effort.
"""

import logging
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from datetime import timedelta
from decimal import Decimal
from typing import Any

from order_engine.clock import Clock
from order_engine.domain.changes import Failed
from order_engine.domain.failures import Failure, FailureCode
from order_engine.domain.orders import Order, VenueName
from order_engine.domain.statuses import OrderStatus
from order_engine.domain.transitions import Guard, Transition
from order_engine.errors import ExecutionNotStarted, OutcomeUnknown, Retryable
from order_engine.execution.lifecycle import Lifecycle
from order_engine.execution.messages import LandedSwap, RetryLater
from order_engine.execution.moves import Moves
from order_engine.execution.outbox import stream_outbox
from order_engine.execution.ports import (
    EventStream,
    ExecutionControl,
    ExecutionState,
    ReconcilableOrders,
)
from order_engine.execution.turns import Turns
from order_engine.measures import Measure
from order_engine.venues.contract import (
    CheckRequest,
    Expired,
    Landed,
    Pending,
    Reverted,
    Unseen,
    Venue,
)

logger = logging.getLogger(__name__)

STALE_AFTER = timedelta(seconds=10)
"""An order that has not moved for this long is looked at. Live ones may: waiting for a throttled
venue is no death, so the execution's own state decides."""
OUTBOX_AFTER = timedelta(seconds=10)
MAX_RESTARTS = 5
ORDERS_AT_ONCE = 50
LONGEST_PASS = timedelta(seconds=20)
"""No more orders are taken after this time; those that are left wait for the next pass."""
EVENTS_PER_PASS = 500


@dataclass(slots=True)
class Findings:
    """Count what one pass did."""

    events_streamed: int = 0
    alive: int = 0
    started: int = 0
    restarted: int = 0
    resolved: int = 0
    given_up: int = 0
    unresolved: int = 0
    turns_started: int = 0
    oldest_age_s: float = 0
    order_ids: list[str] = field(default_factory=list)

    def to_json_dict(self) -> dict[str, Any]:
        """Return the counts for the log."""
        return asdict(self)

    def measures(self) -> list[Measure]:
        """Return the counts as metrics."""
        return [
            Measure("OrdersRestarted", self.started + self.restarted),
            Measure("OrdersGivenUp", self.given_up),
            Measure("OrdersUnresolved", self.unresolved),
            Measure("EventsRestreamed", self.events_streamed),
            Measure("StuckOrderAge", self.oldest_age_s, "Seconds"),
        ]


class Reconciler:
    """Restart or resolve orders without a living execution; stream what was not streamed."""

    def __init__(
        self,
        orders: ReconcilableOrders,
        stream: EventStream,
        executions: ExecutionControl,
        venues: Mapping[VenueName, Venue],
        clock: Clock,
        turns: Turns,
    ) -> None:
        self._orders = orders
        self._stream = stream
        self._turns = turns
        self._moves = Moves(orders, stream, turns)
        self._executions = executions
        self._venues = venues
        self._clock = clock
        self._lifecycle = Lifecycle(orders, self._moves, clock)

    def run(self, order_id: str | None = None) -> Findings:
        """Make one pass over the stale orders, or over the one order given, and the outbox.

        Any number of passes may run at once: each takes orders that no other holds, and every
        step it takes is guarded like any other transition.
        """
        findings = Findings()
        deadline = self._clock.now() + LONGEST_PASS
        stale_after = timedelta(0) if order_id else STALE_AFTER
        while True:
            stale = self._orders.take_stale(stale_after, ORDERS_AT_ONCE, order_id)
            for order in stale:
                findings.order_ids.append(order.order_id)
                self._reconcile(order, findings)
            if len(stale) < ORDERS_AT_ONCE or self._clock.now() > deadline:
                break
        for events in self._orders.outbox(OUTBOX_AFTER, EVENTS_PER_PASS):
            if stream_outbox(self._orders, self._stream, events):
                findings.events_streamed += len(events)
        self._orders.write_notes()
        if order_id is None:
            findings.turns_started = self._turns.start_waiting().started
        return findings

    def _reconcile(self, order: Order, findings: Findings) -> None:
        try:
            state = self._executions.state_of(order.execution)
            if state is ExecutionState.RUNNING:
                findings.alive += 1
                return
            age = self._clock.now() - order.updated_at
            findings.oldest_age_s = max(findings.oldest_age_s, age.total_seconds())
            if state is ExecutionState.MISSING:
                self._executions.start(order.order_id, order.execution)
                findings.started += 1
            elif order.restarts < MAX_RESTARTS:
                self._restart(order, findings)
            elif order.status is OrderStatus.SUBMITTED and order.has_unresolved_transaction:
                self._look_up(order, findings)
            else:
                self._give_up(order, findings)
        except (ExecutionNotStarted, Retryable, OutcomeUnknown):
            findings.unresolved += 1
            logger.exception("left to the next pass", extra={"order_id": order.order_id})

    def _restart(self, order: Order, findings: Findings) -> None:
        restarted = self._orders.restart(order.order_id, order.generation)
        if restarted is None:
            return
        logger.warning(
            "restarting an order whose execution ended",
            extra={"order_id": order.order_id, "execution": restarted.execution},
        )
        self._executions.start(restarted.order_id, restarted.execution)
        findings.restarted += 1

    def _look_up(self, order: Order, findings: Findings) -> None:
        """Settle a sent transaction without an execution: ask its venue what became of it."""
        transaction = order.transaction
        if transaction is None:
            return
        venue = self._venues.get(transaction.venue)
        if venue is None:
            findings.unresolved += 1
            logger.error("no such venue", extra={"order_id": order.order_id})
            return
        answer = venue.check(
            CheckRequest(
                order_id=order.order_id,
                client_order_id=order.client_order_id,
                attempt=order.attempt,
                transaction=transaction,
            )
        )
        terms, execution, attempt = order.execution_terms, order.execution, order.attempt
        match answer:
            case Landed():
                landed = LandedSwap(
                    amount_out=answer.amount_out, slot=answer.slot, transaction=transaction
                )
                quoted_price = order.quoted_price or Decimal(0)
                self._lifecycle.confirm(terms, execution, attempt, landed, quoted_price)
                findings.resolved += 1
            case Reverted() | Expired():
                step = self._lifecycle.attempt_failed(terms, execution, attempt, answer)
                if isinstance(step.answer, RetryLater) and step.order:
                    self._give_up(step.order, findings)
                findings.resolved += 1
            case Pending() | Unseen():
                findings.unresolved += 1
                logger.error("transaction still undecided", extra={"order_id": order.order_id})

    def _give_up(self, order: Order, findings: Findings) -> None:
        failure = Failure(
            code=FailureCode.INTERNAL,
            detail=f"its execution ended early {order.restarts + 1} times",
            retryable=False,
            attempt=order.attempt,
        )
        failed = Failed(failure=failure, signature=order.tx_hash)
        if self._moves.move(Transition(order.order_id, failed, Guard.ANYONE)).result.moved:
            findings.given_up += 1
            logger.error("gave an order up", extra={"order_id": order.order_id})
