"""Change the terms of an order that rests or waits for its turn."""

from dataclasses import fields

from pydantic.alias_generators import to_camel

from order_engine.clock import Clock
from order_engine.domain.changes import Amendment
from order_engine.domain.expiry import check_expiry
from order_engine.domain.orders import Order
from order_engine.domain.types import order_types, rules_of
from order_engine.errors import FieldError, ProblemCode, Rejected
from order_engine.execution.ports import AmendableOrders


class Amendments:
    """Amend orders; only such can be, since nobody has begun to act on their terms."""

    def __init__(self, orders: AmendableOrders, clock: Clock) -> None:
        self._orders = orders
        self._clock = clock

    def amend(self, order: Order, amendment: Amendment) -> Order:
        """Return the order as amended.

        Raises ``Rejected``: 422 for terms that do not fit the order, 409 when it is under way
        or has ended.
        """
        check_expiry(amendment.expires_at, self._clock.now())
        _check_terms_of_type(order, amendment)
        amended, changed = self._orders.amend(order.order_id, amendment)
        if amended is None or not changed:
            status = amended.status if amended else order.status
            raise Rejected(
                ProblemCode.ORDER_NOT_AMENDABLE,
                f"the order is {status}; only an order that rests or waits for its turn can be"
                " amended",
            )
        return amended


def _check_terms_of_type(order: Order, amendment: Amendment) -> None:
    """Raise ``Rejected`` for a term that belongs to orders of other types."""
    own = rules_of(order.type).terms
    of_types = {term for rules in order_types() for term in rules.terms}
    for field in fields(amendment):
        if getattr(amendment, field.name) is None or field.name not in of_types - own:
            continue
        name, message = to_camel(field.name), f"does not belong to a {order.type} order"
        raise Rejected(
            ProblemCode.VALIDATION_FAILED,
            f"{name} {message}.",
            errors=[FieldError(name, message, "not_applicable")],
        )
