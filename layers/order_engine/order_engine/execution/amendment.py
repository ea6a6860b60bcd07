"""Change the terms of an order at rest."""

from order_engine.clock import Clock
from order_engine.domain.changes import Amendment
from order_engine.domain.expiry import check_expiry
from order_engine.domain.orders import Order
from order_engine.domain.types import rules_of
from order_engine.errors import FieldError, ProblemCode, Rejected
from order_engine.execution.ports import AmendableOrders


class Amendments:
    """Amend orders; only one at rest can be, since nobody has begun to act on its terms."""

    def __init__(self, orders: AmendableOrders, clock: Clock) -> None:
        self._orders = orders
        self._clock = clock

    def amend(self, order: Order, amendment: Amendment) -> Order:
        """Return the order as amended.

        Raises ``Rejected``: 422 for terms that do not fit the order, 409 when it is not at rest.
        """
        check_expiry(amendment.expires_at, self._clock.now())
        has_limit = "limit_price" in rules_of(order.type).terms
        if amendment.limit_price is not None and not has_limit:
            message = f"does not belong to a {order.type} order"
            raise Rejected(
                ProblemCode.VALIDATION_FAILED,
                f"limitPrice {message}.",
                errors=[FieldError("limitPrice", message, "not_applicable")],
            )
        amended, changed = self._orders.amend(order.order_id, amendment)
        if amended is None or not changed:
            status = amended.status if amended else order.status
            raise Rejected(
                ProblemCode.ORDER_NOT_AMENDABLE,
                f"the order is {status}; only an order at rest (open) can be amended",
            )
        return amended
