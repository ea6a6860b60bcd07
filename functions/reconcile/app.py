"""Bring orders without a living execution to their end; stream events left in the outbox."""

from typing import Any

from order_engine import bootstrap
from order_engine.telemetry import Telemetry

telemetry = Telemetry()

ORDER_ID_LENGTH = 36


def handler(event: dict[str, Any], context: object) -> dict[str, Any]:
    """Make one pass: over all stale orders, or over the one whose execution just ended."""
    execution = ended_execution(event)
    order_id = execution[:ORDER_ID_LENGTH] if execution else None
    with telemetry.invocation(context, order_id=order_id, execution=execution):
        findings = bootstrap.reconciler().run(order_id)
        telemetry.logger.info("reconciled", **findings.to_json_dict())
        telemetry.record(findings.measures())
        return findings.to_json_dict()


def ended_execution(event: dict[str, Any]) -> str | None:
    """Return the name in an execution status event; None for a scheduled pass.

    The scheduler's own event says ``"detail": "{}"``, a string.
    """
    detail = event.get("detail")
    return (detail.get("name") or None) if isinstance(detail, dict) else None
