"""The state machine in a few lines: the same messages, one after another, in this process."""

from __future__ import annotations

from typing import Any

from order_engine import bootstrap
from order_engine.venues.contract import VenueEdge

Json = dict[str, Any]
LOOKS = 50


def execute(order_id: str, execution: str | None = None) -> Json:
    """Carry one attempt of an order to its end; return the lifecycle's last answer."""
    execution = execution or order_id
    lifecycle, venues = bootstrap.lifecycle(), bootstrap.trading_venues()

    def step(action: str, **fields: Any) -> Json:
        message = {"action": action, "execution": execution, **fields}
        return lifecycle.take_message(message).answer.to_json_dict()

    def ask(venue: str, action: str, **fields: Any) -> Json:
        return VenueEdge(venue, venues[venue]).perform({"action": action, **attempt, **fields})

    routed = step("route", orderId=order_id)
    assert routed["outcome"] == "routing", routed
    order, number = routed["order"], routed["attempt"]
    attempt = {key: order[key] for key in ("orderId", "clientOrderId")} | {"attempt": number}
    swap = {key: order[key] for key in ("tokenIn", "tokenOut", "amountIn")}
    quotes = [ask(venue, "quote", **swap) for venue in venues]
    decided = step("decide", order=order, attempt=number, answers=quotes)
    if decided["outcome"] != "building":
        return decided
    venue = decided["dex"]
    built = ask(venue, "build", **swap, minAmountOut=decided["minAmountOut"])
    written = step("submit", order=order, attempt=number, answer=built)
    if written["outcome"] != "submitted":
        return written
    transaction = written["transaction"]
    ask(venue, "send", transaction=transaction)
    for _ in range(LOOKS):
        found = ask(venue, "check", transaction=transaction)
        if found["outcome"] not in ("pending", "unseen"):
            break
    if found["outcome"] != "landed":
        return step("attempt_failed", order=order, attempt=number, answer=found)
    return step(
        "confirm",
        order=order,
        attempt=number,
        answer={**found, "transaction": transaction},
        quotedPrice=decided["quotedPrice"],
    )
