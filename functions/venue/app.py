"""One venue of the engine, as ``VENUE`` names it: quote, build, send and check swaps."""

from typing import Any

from order_engine import bootstrap
from order_engine.telemetry import Telemetry

telemetry = Telemetry()


def handler(event: dict[str, Any], context: object) -> dict[str, Any]:
    """Carry out ``event["action"]``; expected outcomes are answers, technical trouble raises."""
    with telemetry.invocation(
        context,
        order_id=event.get("orderId"),
        execution=event.get("execution"),
        attempt=event.get("attempt"),
    ):
        return bootstrap.venue().perform(event)
