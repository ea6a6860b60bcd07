"""Call an order off on its owner's behalf."""

from order_engine.domain.changes import Canceled
from order_engine.domain.orders import Order
from order_engine.domain.transitions import Guard, Transition
from order_engine.errors import ProblemCode, Rejected
from order_engine.execution.moves import Moves
from order_engine.execution.ports import ExecutionControl


class Cancellation:
    """Cancel orders; a cancel races the execution fairly, as a transition like any other."""

    def __init__(self, moves: Moves, executions: ExecutionControl) -> None:
        self._moves = moves
        self._executions = executions

    def cancel(self, order_id: str) -> Order | None:
        """Cancel the order and stop its execution; return the order, None when there is none.

        One that is canceled already is returned as it is. Raises ``Rejected`` (409) when it is
        submitted or ended otherwise: a sent transaction cannot be called back.
        """
        canceled = Canceled(reason="canceled by its owner")
        result = self._moves.move(Transition(order_id, canceled, Guard.ANYONE)).result
        if result.order is None:
            return None
        if not result.done:
            raise Rejected(
                ProblemCode.ORDER_NOT_CANCELABLE,
                f"the order is {result.order.status} and can no longer be canceled",
            )
        if result.moved and result.order.started_at is not None:
            self._executions.stop(result.order.execution)
        return result.order
