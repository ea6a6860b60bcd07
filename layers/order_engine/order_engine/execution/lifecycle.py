"""Move an order through its life, one step of the state machine at a time.

Each method answers with an ``outcome`` that a Choice state follows; exceptions mean technical
trouble and a retry of the same call. Every call may arrive twice or late: a repeated one answers
as the first did, one that no longer fits answers ``superseded``.
"""

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from decimal import ROUND_UP, Context, Decimal
from typing import Any

from order_engine.clock import Clock
from order_engine.domain.events import EventDetails
from order_engine.domain.failures import Failure, FailureCode
from order_engine.domain.money import (
    decimal_text,
    from_base_units,
    minimum_out,
    price_of,
    slippage_bps_between,
    to_base_units,
)
from order_engine.domain.orders import ExecutionTerms, Order, OrderType, Quote, SwapTransaction
from order_engine.domain.routing import best_quote
from order_engine.domain.statuses import OrderStatus
from order_engine.domain.tokens import TOKENS
from order_engine.domain.transitions import FailedAttempt, Guard, MoveResult, Transition
from order_engine.execution.outbox import stream_outbox
from order_engine.execution.ports import EventStream, OrderRepository

logger = logging.getLogger(__name__)

BACKOFF_CAP_S = 30
ROUNDING_UP = Context(prec=76, rounding=ROUND_UP)
SUPERSEDED: Mapping[str, Any] = {"outcome": "superseded"}


@dataclass(frozen=True, slots=True)
class Step:
    """Answer one call: ``answer`` goes to the state machine, ``order`` to log and metrics."""

    answer: dict[str, Any]
    order: Order | None
    moved: bool = False


class Lifecycle:
    """Carry out what the state machine asks of an order's state."""

    def __init__(self, orders: OrderRepository, stream: EventStream, clock: Clock) -> None:
        self._orders = orders
        self._stream = stream
        self._clock = clock

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
        result = self._move(
            Transition(
                order_id=order_id,
                target=OrderStatus.ROUTING,
                guard=Guard.CLAIM if is_claim else Guard.ATTEMPT,
                execution=execution,
                attempt=after_attempt,
                next_attempt=True,
                details=EventDetails(failure=failure),
            )
        )
        order = result.order
        if order is None or order.execution != execution or order.status.is_final:
            return Step(dict(SUPERSEDED), order)
        if result.done and order.status is OrderStatus.ROUTING:
            return Step(_routing_answer(order), order, moved=result.moved)
        if order.status is OrderStatus.ROUTING:
            if not is_claim and order.attempt == (after_attempt or 0) + 1:
                return Step(_routing_answer(order), order)
            resumed = self._orders.resume_routing(order_id, execution, after_attempt)
            if resumed:
                return Step(_routing_answer(resumed), resumed, moved=True)
        if is_claim and order.status is OrderStatus.SUBMITTED and order.transaction:
            return Step(_transaction_answer("resume", order, order.transaction), order)
        return Step(dict(SUPERSEDED), order)

    def decide(
        self,
        terms: ExecutionTerms,
        execution: str,
        attempt: int,
        answers: Sequence[Mapping[str, Any]],
    ) -> Step:
        """Choose the venue from both answers and write the decision down.

        Outcomes: ``building`` with ``dex``, ``quotedPrice`` and ``minAmountOut``; ``resting``
        when a limit is not met (any more), ``expired``, ``retry``, ``failed``, ``superseded``.
        """
        if self._is_past(terms):
            return self._expire(terms, execution, attempt)
        quotes = tuple(
            Quote.model_validate(answer["quote"])
            for answer in answers
            if answer["outcome"] == "quoted"
        )
        if not quotes:
            code, detail = _why_no_quote(answers)
            return self._attempt_failed(terms, execution, attempt, code, detail)
        admitted = [quote for quote in quotes if terms.admits(quote)]
        if not admitted:
            failure = Failure.of(FailureCode.LIMIT_NOT_MET, "no pool of the kind wanted", attempt)
            return self._rest(terms, execution, attempt, failure)
        best = best_quote(admitted)
        least = minimum_amount_out(terms, best.amount_out)
        if best.amount_out < least:
            best = max(admitted, key=lambda quote: quote.amount_out)
            least = minimum_amount_out(terms, best.amount_out)
        if best.amount_out < least:
            detail = f"the best venue pays {decimal_text(best.price)} per {terms.token_in}"
            failure = Failure.of(FailureCode.LIMIT_NOT_MET, detail, attempt)
            return self._rest(terms, execution, attempt, failure)
        result = self._move(
            Transition(
                order_id=terms.order_id,
                target=OrderStatus.BUILDING,
                guard=Guard.ATTEMPT,
                execution=execution,
                attempt=attempt,
                changes={
                    "route_meta": [quote.to_json_dict() for quote in quotes],
                    "chosen_dex": best.dex,
                    "quoted_price": best.price,
                    "min_amount_out": least,
                },
                details=EventDetails(
                    chosen_dex=best.dex,
                    quotes=quotes,
                    quoted_price=best.price,
                    min_amount_out=least,
                ),
            )
        )
        return _step(
            result,
            lambda order: {
                "outcome": "building",
                "dex": order.chosen_dex,
                "quotedPrice": decimal_text(order.quoted_price or Decimal(0)),
                "minAmountOut": decimal_text(order.min_amount_out or Decimal(0)),
            },
        )

    def submit(
        self, terms: ExecutionTerms, execution: str, attempt: int, answer: Mapping[str, Any]
    ) -> Step:
        """Write the built transaction down before anyone sends it.

        Outcomes: ``submitted`` with the ``transaction``; ``retry`` or ``failed`` when the venue
        built none; ``expired``; ``superseded``.
        """
        if self._is_past(terms):
            step = self._expire(terms, execution, attempt)
            order = step.order
            # A repeated call whose first one wrote the transaction down in time.
            if order and order.transaction and _is_at_submitted(order, execution, attempt):
                return Step(_transaction_answer("submitted", order, order.transaction), order)
            return step
        if answer["outcome"] != "built":
            code, detail = _why_not_done(answer)
            return self._attempt_failed(terms, execution, attempt, code, detail)
        transaction = SwapTransaction.model_validate(answer["transaction"])
        result = self._move(
            Transition(
                order_id=terms.order_id,
                target=OrderStatus.SUBMITTED,
                guard=Guard.ATTEMPT,
                execution=execution,
                attempt=attempt,
                changes={
                    "tx_hash": transaction.signature,
                    "tx_payload": transaction.payload,
                    "tx_last_valid_block_height": transaction.last_valid_block_height,
                    "tx_venue": transaction.venue,
                    "tx_resolution": None,
                },
                details=EventDetails(chosen_dex=transaction.venue, tx_hash=transaction.signature),
            )
        )
        # A repeated call may bring a transaction built anew; the one written down is what counts.
        return _step(
            result,
            lambda order: _transaction_answer("submitted", order, order.transaction or transaction),
        )

    def confirm(
        self,
        terms: ExecutionTerms,
        execution: str,
        attempt: int,
        answer: Mapping[str, Any],
        quoted_price: Decimal,
    ) -> Step:
        """Record that the swap landed and what it paid. Outcomes: ``confirmed``, ``superseded``."""
        amount_out = Decimal(answer["amountOut"])
        executed_price = price_of(amount_out, terms.amount_in)
        slippage_bps = slippage_bps_between(quoted_price, executed_price)
        signature = answer["transaction"]["signature"]
        result = self._move(
            Transition(
                order_id=terms.order_id,
                target=OrderStatus.CONFIRMED,
                guard=Guard.ATTEMPT,
                execution=execution,
                attempt=attempt,
                changes={
                    "tx_resolution": "landed",
                    "amount_out": amount_out,
                    "executed_price": executed_price,
                    "realized_slippage_bps": slippage_bps,
                    "failure": None,
                },
                details=EventDetails(
                    chosen_dex=answer["transaction"]["venue"],
                    tx_hash=signature,
                    executed_price=executed_price,
                    amount_out=amount_out,
                    realized_slippage_bps=slippage_bps,
                ),
            )
        )
        return _step(result, lambda _: {"outcome": "confirmed"})

    def attempt_failed(
        self, terms: ExecutionTerms, execution: str, attempt: int, answer: Mapping[str, Any]
    ) -> Step:
        """Record that the attempt came to nothing. Outcomes: ``retry``, ``failed``, ``superseded``.

        ``answer`` is a venue's: ``reverted`` or ``expired`` of a sent transaction, or why none
        could be built.
        """
        code, detail = _why_not_done(answer)
        resolution = answer["outcome"] if answer["outcome"] in ("reverted", "expired") else None
        return self._attempt_failed(terms, execution, attempt, code, detail, resolution)

    def _attempt_failed(
        self,
        terms: ExecutionTerms,
        execution: str,
        attempt: int,
        code: FailureCode,
        detail: str,
        resolution: str | None = None,
    ) -> Step:
        # A limit order's swap reverts because the market moved away: it goes on until it expires.
        counts = not (terms.type is OrderType.LIMIT and code is FailureCode.SLIPPAGE_EXCEEDED)
        order = self._orders.record_failed_attempt(
            FailedAttempt(
                terms.order_id,
                execution,
                attempt,
                Failure.of(code, detail, attempt),
                resolution,
                counts,
            )
        )
        if order is None or order.failure is None:
            return Step(dict(SUPERSEDED), order)
        failure = order.failure
        if failure.retryable and (not counts or order.retries <= order.max_retries):
            return Step(
                {
                    "outcome": "retry",
                    "backoffSeconds": retry_backoff_s(terms, order.retries if counts else attempt),
                    "afterAttempt": attempt,
                    "failure": failure.model_dump(mode="json", by_alias=True),
                },
                order,
            )
        if terms.can_rest and order.status is OrderStatus.ROUTING:
            return self._rest(terms, execution, attempt, failure)
        result = self._move(
            Transition(
                order_id=terms.order_id,
                target=OrderStatus.FAILED,
                guard=Guard.ATTEMPT,
                execution=execution,
                attempt=attempt,
                details=EventDetails(
                    failure=failure, chosen_dex=order.chosen_dex, tx_hash=order.tx_hash
                ),
            )
        )
        return _step(result, lambda _: {"outcome": "failed"})

    def _rest(self, terms: ExecutionTerms, execution: str, attempt: int, failure: Failure) -> Step:
        """Put the order back to rest; it is not released again before a pause has passed."""
        pause = timedelta(seconds=backoff_s(attempt))
        result = self._move(
            Transition(
                order_id=terms.order_id,
                target=OrderStatus.OPEN,
                guard=Guard.ATTEMPT,
                execution=execution,
                attempt=attempt,
                sources=frozenset({OrderStatus.ROUTING}),
                changes={"rests_until": self._clock.now() + pause},
                details=EventDetails(failure=failure),
            )
        )
        return _step(result, lambda _: {"outcome": "resting"})

    def _is_past(self, terms: ExecutionTerms) -> bool:
        return terms.expires_at is not None and terms.expires_at <= self._clock.now()

    def _expire(self, terms: ExecutionTerms, execution: str, attempt: int) -> Step:
        result = self._move(
            Transition(
                order_id=terms.order_id,
                target=OrderStatus.EXPIRED,
                guard=Guard.ATTEMPT,
                execution=execution,
                attempt=attempt,
            )
        )
        return _step(result, lambda _: {"outcome": "expired"})

    def _move(self, transition: Transition) -> MoveResult:
        result = self._orders.move(transition)
        stream_outbox(self._orders, self._stream, result.unstreamed)
        return result


def minimum_amount_out(terms: ExecutionTerms, quoted_amount_out: Decimal) -> Decimal:
    """Return the least acceptable output.

    The strictest of the slippage tolerance on the quote, a limit order's ``limit_price``
    (tokenOut per tokenIn) and a sniper order's ``max_price`` (tokenIn per tokenOut).
    """
    decimals = TOKENS[terms.token_out].decimals
    bounds = [minimum_out(to_base_units(quoted_amount_out, decimals), terms.slippage_bps)]
    if terms.limit_price is not None:
        bounds.append(_base_units_up(terms.amount_in * terms.limit_price, decimals))
    if terms.max_price is not None:
        bounds.append(
            _base_units_up(ROUNDING_UP.divide(terms.amount_in, terms.max_price), decimals)
        )
    return from_base_units(max(bounds), decimals)


def _base_units_up(amount: Decimal, decimals: int) -> int:
    return int(
        amount.scaleb(decimals, context=ROUNDING_UP).to_integral_value(
            rounding=ROUND_UP, context=ROUNDING_UP
        )
    )


def backoff_s(count: int) -> int:
    """Return the wait before retry number ``count``: 1, 2, 4, ... seconds, at most 30."""
    return int(min(2 ** min(count - 1, 10), BACKOFF_CAP_S))


def retry_backoff_s(terms: ExecutionTerms, failures: int) -> int:
    """Return the wait before the next attempt; a sniper order has no time to lose."""
    return 1 if terms.type is OrderType.SNIPER else backoff_s(failures)


def _is_at_submitted(order: Order, execution: str, attempt: int) -> bool:
    """Tell whether the order waits for what this attempt has sent or will send."""
    return order.status is OrderStatus.SUBMITTED and (order.execution, order.attempt) == (
        execution,
        attempt,
    )


def _step(result: MoveResult, answer: Callable[[Order], dict[str, Any]]) -> Step:
    if not result.done or result.order is None:
        return Step(dict(SUPERSEDED), result.order)
    return Step(answer(result.order), result.order, moved=result.moved)


def _routing_answer(order: Order) -> dict[str, Any]:
    return {
        "outcome": "routing",
        "attempt": order.attempt,
        "order": order.execution_terms.to_json_dict(),
    }


def _transaction_answer(outcome: str, order: Order, transaction: SwapTransaction) -> dict[str, Any]:
    return {
        "outcome": outcome,
        "attempt": order.attempt,
        "order": order.execution_terms.to_json_dict(),
        "quotedPrice": decimal_text(order.quoted_price or Decimal(0)),
        "transaction": transaction.to_json_dict(),
    }


def _why_no_quote(answers: Sequence[Mapping[str, Any]]) -> tuple[FailureCode, str]:
    outcomes = {answer["outcome"] for answer in answers}
    detail = "; ".join(str(answer.get("detail", answer["outcome"])) for answer in answers)
    if "unavailable" in outcomes:
        return FailureCode.VENUE_UNAVAILABLE, detail
    if "insufficient_liquidity" in outcomes:
        return FailureCode.INSUFFICIENT_LIQUIDITY, detail
    return FailureCode.NO_ROUTE, detail


_CODES: Mapping[str, FailureCode] = {
    "expired": FailureCode.TX_EXPIRED,
    "unavailable": FailureCode.VENUE_UNAVAILABLE,
    "no_route": FailureCode.NO_ROUTE,
    "insufficient_liquidity": FailureCode.INSUFFICIENT_LIQUIDITY,
}


def _why_not_done(answer: Mapping[str, Any]) -> tuple[FailureCode, str]:
    outcome = answer["outcome"]
    if outcome == "reverted":
        return FailureCode(answer["code"]), str(answer["detail"])
    return _CODES[outcome], str(answer.get("detail", outcome))
