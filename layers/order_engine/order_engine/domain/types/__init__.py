"""The order types, one module each: all that differs between them, and the list of them.

To add one: its module, and its line in ``_TYPES``.
"""

from collections.abc import Iterator
from contextlib import contextmanager

from order_engine.domain.types.limit import Limit
from order_engine.domain.types.market import Market
from order_engine.domain.types.rules import OrderTypeRules
from order_engine.domain.types.sniper import Sniper

_TYPES: dict[str, OrderTypeRules] = {rules.name: rules for rules in (Market(), Limit(), Sniper())}


def order_types() -> tuple[OrderTypeRules, ...]:
    """Return the rules of every order type."""
    return tuple(_TYPES.values())


def rules_of(order_type: str) -> OrderTypeRules:
    """Return the rules of a type; raise ``KeyError`` when there is none of this name."""
    return _TYPES[order_type]


@contextmanager
def also(rules: OrderTypeRules) -> Iterator[None]:
    """Add a type for a while, as tests do."""
    _TYPES[rules.name] = rules
    try:
        yield
    finally:
        del _TYPES[rules.name]
