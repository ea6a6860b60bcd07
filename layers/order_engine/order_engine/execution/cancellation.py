"""Call an order off on its owner's behalf."""

from order_engine.domain.changes import Canceled
from order_engine.domain.orders import Order
from order_engine.domain.transitions import Guard, Transition
from order_engine.errors import ProblemCode, Rejected
from order_engine.execution.outbox import stream_outbox
from order_engine.execution.ports import EventStream, ExecutionControl, OrderRepository


class Cancellation:
    """Cancel orders; a cancel races the execution fairly, as a transition like any other."""

    def __init__(
        self, orders: OrderRepository, stream: EventStream, executions: ExecutionControl
    ) -> None:
        self._orders = orders
        self._stream = stream
        self._executions = executions

    def cancel(self, order_id: str) -> Order | None:
        """Cancel the order and stop its execution; return the order, None when there is none.

        One that is canceled already is returned as it is. Raises ``Rejected`` (409) when it is
        submitted or ended otherwise: a sent transaction cannot be called back.
        """
        result = self._orders.move(
            Transition(order_id, Canceled(reason="canceled by its owner"), Guard.ANYONE)
        )
        stream_outbox(self._orders, self._stream, result.unstreamed)
        if result.order is None:
            return None
        if not result.done:
            raise Rejected(
                ProblemCode.ORDER_NOT_CANCELABLE,
                f"the order is {result.order.status} and can no longer be canceled",
            )
        if result.moved:
            self._executions.stop(result.order.execution)
        return result.order
