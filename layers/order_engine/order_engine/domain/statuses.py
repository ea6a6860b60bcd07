"""Order statuses and the transition table, the one source of what may follow what.

The SQL guard (``order_transitions``), the adapters' ``WHERE status = ANY(...)``, the
documentation table and the console's colours are all derived from ``TRANSITIONS``.
"""

from collections.abc import Mapping
from enum import StrEnum
from types import MappingProxyType


class OrderStatus(StrEnum):
    """Name a stage in an order's life."""

    PENDING = "pending"
    OPEN = "open"
    TRIGGERED = "triggered"
    ROUTING = "routing"
    BUILDING = "building"
    SUBMITTED = "submitted"
    CONFIRMED = "confirmed"
    FAILED = "failed"
    CANCELED = "canceled"
    EXPIRED = "expired"

    @property
    def is_final(self) -> bool:
        """Tell whether no transition leaves this status."""
        return not TRANSITIONS[self]


_S = OrderStatus

TRANSITIONS: Mapping[OrderStatus, frozenset[OrderStatus]] = MappingProxyType(
    {
        _S.PENDING: frozenset({_S.ROUTING, _S.OPEN, _S.CANCELED, _S.FAILED}),
        _S.OPEN: frozenset({_S.TRIGGERED, _S.CANCELED, _S.EXPIRED, _S.FAILED}),
        _S.TRIGGERED: frozenset({_S.ROUTING, _S.CANCELED, _S.EXPIRED, _S.FAILED}),
        _S.ROUTING: frozenset({_S.BUILDING, _S.OPEN, _S.CANCELED, _S.EXPIRED, _S.FAILED}),
        _S.BUILDING: frozenset({_S.SUBMITTED, _S.ROUTING, _S.CANCELED, _S.EXPIRED, _S.FAILED}),
        _S.SUBMITTED: frozenset({_S.CONFIRMED, _S.ROUTING, _S.FAILED}),
        _S.CONFIRMED: frozenset(),
        _S.FAILED: frozenset(),
        _S.CANCELED: frozenset(),
        _S.EXPIRED: frozenset(),
    }
)

MEANINGS: Mapping[OrderStatus, str] = MappingProxyType(
    {
        _S.PENDING: "stored, execution not yet at work",
        _S.OPEN: "limit or sniper order at rest, waiting for its trigger",
        _S.TRIGGERED: "its condition was met",
        _S.ROUTING: "asking every venue for quotes",
        _S.BUILDING: "best venue chosen, transaction being built",
        _S.SUBMITTED: "signed transaction written down, then sent",
        _S.CONFIRMED: "the swap landed",
        _S.FAILED: "given up for the reason in `failure`; nothing can land any more",
        _S.CANCELED: "called off by its owner before submission",
        _S.EXPIRED: "its time passed before it was submitted",
    }
)

FINAL_STATUSES: frozenset[OrderStatus] = frozenset(s for s in OrderStatus if s.is_final)
WAITING_STATUSES: frozenset[OrderStatus] = frozenset({_S.PENDING, _S.TRIGGERED})
"""An order waits for its turn in these, until it is given a slot."""
BUSY_STATUSES: frozenset[OrderStatus] = frozenset({_S.ROUTING, _S.BUILDING})
"""An order holds a slot in these: it keeps the venues busy."""
ACTIVE_STATUSES: frozenset[OrderStatus] = frozenset(OrderStatus) - FINAL_STATUSES


def can_move(source: OrderStatus, target: OrderStatus) -> bool:
    """Tell whether an order may go from ``source`` to ``target``."""
    return target in TRANSITIONS[source]


def sources_of(target: OrderStatus) -> frozenset[OrderStatus]:
    """Return the statuses from which an order may go to ``target``."""
    return frozenset(source for source, targets in TRANSITIONS.items() if target in targets)
