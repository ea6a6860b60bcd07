"""Let schemathesis get further than its own requests would.

A schema cannot say that a limit order needs a price and a time within the next 30 days, nor that an
amount has no more decimals than its token. Left alone, hardly any made-up order is accepted, and
hardly any made-up id is an order's. So every other well-formed order is made acceptable, and every
other well-formed id becomes that of an order. Requests that are meant to be wrong stay as they are.
"""

from __future__ import annotations

import itertools
import threading
import uuid
from collections import deque
from datetime import UTC, datetime, timedelta
from typing import Any

import schemathesis
from schemathesis import Case, GenerationMode, HookContext, Response

ORDER_PATHS = ("/api/orders/execute", "/api/orders", "/orders/execute")
OUT_OF_REACH = "1000000000"
TYPES = ("market", "limit", "sniper")

_turns = itertools.count()
_known_orders: deque[str] = deque(maxlen=20)
_lock = threading.Lock()


@schemathesis.hook
def before_call(_context: HookContext, case: Case[Any], _arguments: dict[str, Any]) -> None:
    """Make every other well-formed request one that can succeed."""
    if case.meta is None or case.meta.generation.mode is not GenerationMode.POSITIVE:
        return
    turn = next(_turns)
    if turn % 2:
        return
    if case.method == "POST" and case.path in ORDER_PATHS and isinstance(case.body, dict):
        case.body = acceptable(case.body, TYPES[turn // 2 % len(TYPES)])
    if "orderId" in (case.path_parameters or {}) and (known := known_order(turn)):
        case.path_parameters["orderId"] = known
    if case.method == "PATCH" and isinstance(case.body, dict) and case.body.get("expiresAt"):
        case.body = {**case.body, "expiresAt": soon()}


@schemathesis.hook
def after_call(_context: HookContext, case: Case[Any], response: Response) -> None:
    """Remember accepted orders."""
    if response.status_code == 202 and case.method == "POST":
        with _lock:
            _known_orders.append(response.json()["orderId"])


def acceptable(body: dict[str, Any], order_type: str) -> dict[str, Any]:
    """Return the order with what its type needs and without what contradicts it."""
    one_of_two = ("orderType", "amount", "slippage", "slippageBps", "targetPrice")
    order = {name: value for name, value in body.items() if name not in one_of_two}
    order |= {"type": order_type, "amountIn": "1", "clientOrderId": str(uuid.uuid4())}
    if order.get("tokenIn") == order.get("tokenOut"):
        order |= {"tokenIn": "SOL", "tokenOut": "USDC"}
    at_rest = {"limitPrice": OUT_OF_REACH, "trigger": order.get("trigger") or {}}
    for name in (*at_rest, "expiresAt"):
        order.pop(name, None)
    if order_type == "market":
        return order
    name = "limitPrice" if order_type == "limit" else "trigger"
    return {**order, "expiresAt": soon(), name: at_rest[name]}


def soon() -> str:
    return (datetime.now(UTC) + timedelta(hours=1)).isoformat()


def known_order(turn: int) -> str | None:
    with _lock:
        return _known_orders[turn // 2 % len(_known_orders)] if _known_orders else None
