"""Carry out the state machine's database transitions."""

from typing import Any

from order_engine import bootstrap
from order_engine.telemetry import Telemetry

telemetry = Telemetry()


def handler(event: dict[str, Any], context: object) -> dict[str, Any]:
    """Answer one step of the state machine with its outcome."""
    order_id = event.get("orderId") or event["order"]["orderId"]
    with telemetry.invocation(context, order_id=order_id, execution=event["execution"]):
        step = bootstrap.lifecycle().take_message(event)
        telemetry.logger.info(event["action"], **step.to_log())
        telemetry.record(step.measures())
        return step.answer.to_json_dict()
