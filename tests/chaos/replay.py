"""Read out of an execution's history with what each function was called."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

Json = dict[str, Any]

VENUE_FUNCTIONS = {"raydium": "RaydiumFunction", "meteora": "MeteoraFunction"}


@dataclass(frozen=True)
class Call:
    """One invocation: the function's logical id and its payload."""

    function: str
    payload: Json

    @property
    def action(self) -> str:
        """What was asked for."""
        return str(self.payload["action"])


def calls_of(history: Sequence[Mapping[str, Any]], execution: str) -> list[Call]:
    """Return the calls of an execution in their order, as its state machine made them."""
    return list(_Reader(execution).read(history))


class _Reader:
    """Follow an execution through its states, keeping its variables."""

    def __init__(self, execution: str) -> None:
        self._execution = execution
        self._variables: Json = {}

    def read(self, history: Sequence[Mapping[str, Any]]) -> Iterator[Call]:
        for event in history:
            details = event.get("stateEnteredEventDetails")
            if details is None:
                continue
            entered = json.loads(details.get("input") or "{}")
            name = details["name"]
            if name in ("Claimed", "Decided", "WrittenDown"):
                self._assign(entered)
            else:
                yield from self._calls(name, entered)

    def _assign(self, answer: Json) -> None:
        kept = ("order", "attempt", "quotedPrice", "minAmountOut", "transaction")
        self._variables.update({key: answer[key] for key in kept if key in answer})
        venue = answer.get("dex") or answer.get("transaction", {}).get("venue")
        if venue:
            self._variables["venue"] = venue

    def _calls(self, state: str, entered: Any) -> Iterator[Call]:
        match state:
            case "Routing":
                failure, after = entered.get("failure"), entered.get("afterAttempt")
                order_id = entered["orderId"]
                yield self._lifecycle(
                    "route", orderId=order_id, afterAttempt=after, failure=failure
                )
            case "Quotes":
                for venue in VENUE_FUNCTIONS:
                    yield self._venue("quote", venue, **self._swap())
            case "Building":
                yield self._step("decide", answers=entered)
            case "BuildSwap":
                least = self._variables["minAmountOut"]
                yield self._venue("build", None, **self._swap(), minAmountOut=least)
            case "Submitted":
                yield self._step("submit", answer=entered)
            case "SendSwap" | "Settle":
                action = "send" if state == "SendSwap" else "check"
                yield self._venue(action, None, transaction=self._variables["transaction"])
            case "Confirmed":
                answer = {**entered, "transaction": self._variables["transaction"]}
                price = self._variables["quotedPrice"]
                yield self._step("confirm", answer=answer, quotedPrice=price)
            case "AttemptFailed":
                yield self._step("attempt_failed", answer=entered)

    def _swap(self) -> Json:
        order = self._variables["order"]
        return {key: order[key] for key in ("tokenIn", "tokenOut", "amountIn")}

    def _lifecycle(self, action: str, **fields: Any) -> Call:
        payload = {"action": action, "execution": self._execution, **fields}
        return Call("LifecycleFunction", payload)

    def _step(self, action: str, **fields: Any) -> Call:
        order, attempt = self._variables["order"], self._variables["attempt"]
        return self._lifecycle(action, order=order, attempt=attempt, **fields)

    def _venue(self, action: str, venue: str | None, **fields: Any) -> Call:
        order = self._variables["order"]
        payload = {
            "action": action,
            "orderId": order["orderId"],
            "clientOrderId": order["clientOrderId"],
            "attempt": self._variables["attempt"],
            "execution": self._execution,
            **fields,
        }
        return Call(VENUE_FUNCTIONS[venue or self._variables["venue"]], payload)
