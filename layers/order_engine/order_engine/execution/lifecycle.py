"""Move an order through its life, one step of the state machine at a time.

Each method answers with an ``outcome`` that a Choice state follows; exceptions mean technical
trouble and a retry of the same call. Every call may arrive twice or late: a repeated one answers
as the first did, one that no longer fits answers ``superseded``.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from decimal import Decimal
from typing import Any, Literal, assert_never

from order_engine.clock import Clock
from order_engine.domain.changes import (
    Change,
    Confirmed,
    Decided,
    Expired,
    Failed,
    Rested,
    Routed,
    Submitted,
)
from order_engine.domain.failures import Failure, FailureCode
from order_engine.domain.money import price_of, slippage_bps_between
from order_engine.domain.orders import ExecutionTerms, Order, Resolution, SwapTransaction
from order_engine.domain.statuses import OrderStatus
from order_engine.domain.transitions import FailedAttempt, Guard, Transition
from order_engine.domain.types import rules_of
from order_engine.execution.decision import FAILURE_CODES, choose
from order_engine.execution.messages import (
    SUPERSEDED,
    AttemptFailedRequest,
    Building,
    ConfirmRequest,
    DecideRequest,
    LandedSwap,
    LifecycleAnswer,
    LifecycleRequest,
    Over,
    RetryLater,
    RouteRequest,
    Routing,
    SubmitRequest,
    WrittenDown,
    parse_request,
)
from order_engine.execution.moves import Moves
from order_engine.execution.ports import OrderRepository
from order_engine.measures import Measure
from order_engine.venues.contract import AnyBuildAnswer, AnyFailure, AnyQuoteAnswer, Built, Reverted

BACKOFF_CAP_S = 30

_ENDS: Mapping[type[Change], Over] = {
    Confirmed: Over(outcome="confirmed"),
    Failed: Over(outcome="failed"),
    Rested: Over(outcome="resting"),
    Expired: Over(outcome="expired"),
}


@dataclass(frozen=True, slots=True)
class Step:
    """Answer one call: ``answer`` goes to the state machine, ``order`` to log and metrics."""

    answer: LifecycleAnswer
    order: Order | None
    moved: bool = False
    streamed_seq: int = 0

    def to_log(self) -> dict[str, Any]:
        """Return what the log tells of the step; of a decision, the quotes too."""
        told = {"outcome": self.answer.outcome, "moved": self.moved}
        order = self.order
        if order is None:
            return told
        decided = self.moved and order.status is OrderStatus.BUILDING
        return {
            **told,
            "attempt": order.attempt,
            "status": order.status,
            "chosen_dex": order.chosen_dex,
            "error": order.error,
            "quotes": [quote.to_json_dict() for quote in order.quotes] if decided else None,
        }

    def measures(self) -> list[Measure]:
        """Return the business metrics of the status that the order has entered, if it has."""
        order = self.order
        if order is None or not self.moved:
            return []
        match order.status:
            case OrderStatus.BUILDING if order.chosen_dex:
                return [Measure(f"VenueChosen{order.chosen_dex.capitalize()}", 1)]
            case OrderStatus.CONFIRMED:
                lasted_ms = (order.updated_at - order.created_at).total_seconds() * 1000
                return [
                    Measure("OrdersConfirmed", 1),
                    Measure("TimeToConfirm", lasted_ms, "Milliseconds"),
                ]
            case OrderStatus.FAILED if order.failure:
                code = order.failure.code
                return [Measure("OrdersFailed", 1), Measure(f"OrdersFailed_{code}", 1)]
            case _:
                return []


class Lifecycle:
    """Carry out what the state machine asks of an order's state."""

    def __init__(self, orders: OrderRepository, moves: Moves, clock: Clock) -> None:
        self._orders = orders
        self._moves = moves
        self._clock = clock

    def take_message(self, message: Mapping[str, Any]) -> Step:
        """Take the step that a JSON message asks for; raise ``pydantic.ValidationError``."""
        return self.take(parse_request(message))

    def take(self, request: LifecycleRequest) -> Step:
        """Take the step that a message asks for; the answer says what of the order is streamed."""
        self._orders.note_streamed(request.order_id, request.streamed_seq)
        step = self._take(request)
        streamed_seq = max(step.streamed_seq, request.streamed_seq)
        answer = step.answer.model_copy(update={"streamed_seq": streamed_seq})
        return replace(step, answer=answer, streamed_seq=streamed_seq)

    def _take(self, request: LifecycleRequest) -> Step:
        match request:
            case RouteRequest():
                return self.route(
                    request.order_id, request.execution, request.after_attempt, request.failure
                )
            case DecideRequest(order=terms, execution=execution, attempt=attempt):
                return self.decide(terms, execution, attempt, request.answers)
            case SubmitRequest(order=terms, execution=execution, attempt=attempt):
                return self.submit(terms, execution, attempt, request.answer)
            case ConfirmRequest(order=terms, execution=execution, attempt=attempt):
                return self.confirm(terms, execution, attempt, request.answer, request.quoted_price)
            case AttemptFailedRequest(order=terms, execution=execution, attempt=attempt):
                return self.attempt_failed(terms, execution, attempt, request.answer)
            case unknown:
                assert_never(unknown)

    def route(
        self,
        order_id: str,
        execution: str,
        after_attempt: int | None,
        failure: Failure | None = None,
    ) -> Step:
        """Begin an attempt: claim the order (first call) or follow the failed ``after_attempt``.

        ``failure`` is why that attempt failed, for those who watch.

        Outcomes: ``routing`` with what the venues need to know; ``resume`` with the transaction
        that was written down before a restart; ``superseded`` when the order is final or in
        another execution's hands.
        """
        is_claim = after_attempt is None
        done = self._moves.move(
            Transition(
                order_id,
                Routed(after=failure),
                Guard.CLAIM if is_claim else Guard.ATTEMPT,
                execution,
                after_attempt,
            )
        )
        result, order = done.result, done.result.order
        if order is None or order.execution != execution or order.status.is_final:
            return Step(SUPERSEDED, order)
        if result.done and order.status is OrderStatus.ROUTING:
            return Step(_routing(order), order, result.moved, done.streamed_seq)
        if order.status is OrderStatus.ROUTING:
            if not is_claim and order.attempt == (after_attempt or 0) + 1:
                return Step(_routing(order), order)
            resumed = self._orders.resume_routing(order_id, execution, after_attempt)
            if resumed:
                return Step(_routing(resumed), resumed, moved=True)
        if is_claim and order.status is OrderStatus.SUBMITTED and order.transaction:
            return Step(_written_down("resume", order, order.transaction), order)
        return Step(SUPERSEDED, order)

    def decide(
        self,
        terms: ExecutionTerms,
        execution: str,
        attempt: int,
        answers: Sequence[AnyQuoteAnswer],
    ) -> Step:
        """Choose the venue from all answers and write the decision down.

        Outcomes: ``building`` with the venue and the bounds; ``resting`` when a condition is not
        met (any more), ``expired``, ``retry``, ``failed``, ``superseded``.
        """
        if self._is_past(terms):
            return self._change(terms, execution, attempt, Expired())
        choice = choose(terms, answers, attempt, self._clock.now())
        if isinstance(choice, Failure):
            if choice.code is FailureCode.LIMIT_NOT_MET:
                return self._rest(terms, execution, attempt, choice)
            return self._attempt_failed(terms, execution, attempt, choice)
        decided = Decided(
            quotes=tuple(quote.public for quote in choice.quotes),
            chosen_dex=choice.best.dex,
            quoted_price=choice.best.price,
            min_amount_out=choice.min_amount_out,
        )
        venue_data = {quote.dex: quote.venue_data for quote in choice.quotes}
        # What is stored counts: a repeated call may choose otherwise than the first.
        return self._change(
            terms,
            execution,
            attempt,
            decided,
            lambda order: Building(
                dex=order.chosen_dex or decided.chosen_dex,
                quoted_price=order.quoted_price or Decimal(0),
                min_amount_out=order.min_amount_out or Decimal(0),
                venue_data=venue_data.get(order.chosen_dex or ""),
            ),
        )

    def submit(
        self,
        terms: ExecutionTerms,
        execution: str,
        attempt: int,
        answer: AnyBuildAnswer,
    ) -> Step:
        """Write the built transaction down before anyone sends it.

        Outcomes: ``submitted`` with the ``transaction``; ``retry`` or ``failed`` when the venue
        built none; ``expired``; ``superseded``.
        """
        if self._is_past(terms):
            step = self._change(terms, execution, attempt, Expired())
            order = step.order
            # A repeated call whose first one wrote the transaction down in time.
            if order and order.transaction and _is_at_submitted(order, execution, attempt):
                return Step(_written_down("submitted", order, order.transaction), order)
            return step
        if not isinstance(answer, Built):
            return self.attempt_failed(terms, execution, attempt, answer)
        built = answer.transaction
        # A repeated call may bring a transaction built anew; the one written down is what counts.
        return self._change(
            terms,
            execution,
            attempt,
            Submitted(transaction=built),
            lambda order: _written_down("submitted", order, order.transaction or built),
        )

    def confirm(
        self,
        terms: ExecutionTerms,
        execution: str,
        attempt: int,
        answer: LandedSwap,
        quoted_price: Decimal,
    ) -> Step:
        """Record that the swap landed and what it paid. Outcomes: ``confirmed``, ``superseded``."""
        executed_price = price_of(answer.amount_out, terms.amount_in)
        confirmed = Confirmed(
            landed=answer.transaction,
            executed_price=executed_price,
            amount_out=answer.amount_out,
            realized_slippage_bps=slippage_bps_between(quoted_price, executed_price),
        )
        return self._change(terms, execution, attempt, confirmed)

    def attempt_failed(
        self,
        terms: ExecutionTerms,
        execution: str,
        attempt: int,
        answer: AnyFailure,
    ) -> Step:
        """Record that the attempt came to nothing. Outcomes: ``retry``, ``failed``, ``superseded``.

        ``answer`` is what became of a sent transaction, or why none could be built.
        """
        if isinstance(answer, Reverted):
            failure = Failure.of(answer.code, answer.detail, attempt)
            return self._attempt_failed(terms, execution, attempt, failure, "reverted")
        detail = getattr(answer, "detail", answer.outcome)
        failure = Failure.of(FAILURE_CODES[answer.outcome], detail, attempt)
        resolution: Resolution | None = "expired" if answer.outcome == "expired" else None
        return self._attempt_failed(terms, execution, attempt, failure, resolution)

    def _attempt_failed(
        self,
        terms: ExecutionTerms,
        execution: str,
        attempt: int,
        reason: Failure,
        resolution: Resolution | None = None,
    ) -> Step:
        rules = rules_of(terms.type)
        counts = rules.counts(reason.code)
        order = self._orders.record_failed_attempt(
            FailedAttempt(terms.order_id, execution, attempt, reason, resolution, counts)
        )
        if order is None or order.failure is None:
            return Step(SUPERSEDED, order)
        failure = order.failure
        if failure.retryable and (not counts or order.retries <= order.max_retries):
            failures = order.retries if counts else attempt
            pause_s = 1 if rules.is_urgent else backoff_s(failures)
            answer = RetryLater(backoff_seconds=pause_s, after_attempt=attempt, failure=failure)
            return Step(answer, order)
        if rules.rests and order.status is OrderStatus.ROUTING:
            return self._rest(terms, execution, attempt, failure)
        failed = Failed(failure=failure, at_venue=order.chosen_dex, signature=order.tx_hash)
        return self._change(terms, execution, attempt, failed)

    def _rest(
        self,
        terms: ExecutionTerms,
        execution: str,
        attempt: int,
        failure: Failure,
    ) -> Step:
        """Put the order back to rest; it is not released again before a pause has passed."""
        rests_until = self._clock.now() + timedelta(seconds=backoff_s(attempt))
        rested = Rested(rests_until=rests_until, because=failure)
        return self._change(terms, execution, attempt, rested)

    def _is_past(self, terms: ExecutionTerms) -> bool:
        return terms.expires_at is not None and terms.expires_at <= self._clock.now()

    def _change(
        self,
        terms: ExecutionTerms,
        execution: str,
        attempt: int,
        change: Change,
        answer: Callable[[Order], LifecycleAnswer] | None = None,
    ) -> Step:
        done = self._moves.move(
            Transition(terms.order_id, change, Guard.ATTEMPT, execution, attempt)
        )
        result, seq = done.result, done.streamed_seq
        if not result.done or result.order is None:
            return Step(SUPERSEDED, result.order, streamed_seq=seq)
        said = answer(result.order) if answer else _ENDS[type(change)]
        return Step(said, result.order, result.moved, seq)


def backoff_s(count: int) -> int:
    """Return the wait before retry number ``count``: 1, 2, 4, ... seconds, at most 30."""
    return int(min(2 ** min(count - 1, 10), BACKOFF_CAP_S))


def _is_at_submitted(order: Order, execution: str, attempt: int) -> bool:
    """Tell whether the order waits for what this attempt has sent or will send."""
    return order.status is OrderStatus.SUBMITTED and (order.execution, order.attempt) == (
        execution,
        attempt,
    )


def _routing(order: Order) -> Routing:
    return Routing(attempt=order.attempt, order=order.execution_terms)


def _written_down(
    outcome: Literal["submitted", "resume"], order: Order, transaction: SwapTransaction
) -> WrittenDown:
    return WrittenDown(
        outcome=outcome,
        attempt=order.attempt,
        order=order.execution_terms,
        quoted_price=order.quoted_price or Decimal(0),
        transaction=transaction,
    )
