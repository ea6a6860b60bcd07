"""Change the terms of an order at rest."""

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any

from order_engine.clock import Clock
from order_engine.domain.expiry import check_expiry
from order_engine.domain.orders import Order, OrderType
from order_engine.errors import FieldError, ProblemCode, Rejected
from order_engine.execution.ports import AmendableOrders


@dataclass(frozen=True, slots=True)
class Amendment:
    """Name the terms to change; None leaves a term as it is."""

    limit_price: Decimal | None = None
    expires_at: datetime | None = None
    slippage_bps: int | None = None

    def to_columns(self) -> dict[str, Any]:
        """Return the columns to change."""
        columns = {
            "limit_price": self.limit_price,
            "expires_at": self.expires_at,
            "slippage_bps": self.slippage_bps,
        }
        return {name: value for name, value in columns.items() if value is not None}


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
        if amendment.limit_price is not None and order.type is not OrderType.LIMIT:
            message = f"does not belong to a {order.type} order"
            raise Rejected(
                ProblemCode.VALIDATION_FAILED,
                f"limitPrice {message}.",
                errors=[FieldError("limitPrice", message, "not_applicable")],
            )
        amended, changed = self._orders.amend(order.order_id, amendment.to_columns())
        if amended is None or not changed:
            status = amended.status if amended else order.status
            raise Rejected(
                ProblemCode.ORDER_NOT_AMENDABLE,
                f"the order is {status}; only an order at rest (open) can be amended",
            )
        return amended
