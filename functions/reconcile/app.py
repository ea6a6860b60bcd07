"""Bring orders without a living execution to their end; stream events left in the outbox."""

import os
import time
from dataclasses import asdict
from functools import cache
from typing import Any

from aws_lambda_powertools import Metrics
from aws_lambda_powertools.metrics import MetricUnit

from order_engine import telemetry
from order_engine.execution.reconciliation import Findings, Reconciler
from order_engine.settings import MockSettings, ReconcileSettings

logger = telemetry.function_logger()
metrics = Metrics()

ORDER_ID_LENGTH = 36


@cache
def reconciler() -> Reconciler:
    """Compose the service on first use and keep it for the life of the environment."""
    from order_engine.adapters.dynamodb.order_stream import OrderStream
    from order_engine.adapters.postgres.connection import Database
    from order_engine.adapters.postgres.reconciling import PostgresReconcilableOrders
    from order_engine.adapters.secrets import DatabaseSecret
    from order_engine.adapters.step_functions import StepFunctionsExecutions
    from order_engine.clock import SystemClock
    from order_engine.venues.mock.assembly import mock_venues
    from order_engine.venues.mock.dynamodb_ledger import DynamoLedger

    settings = ReconcileSettings.from_environment(os.environ)
    clock = SystemClock()
    return Reconciler(
        PostgresReconcilableOrders(Database(DatabaseSecret(settings.database_secret_arn))),
        OrderStream(settings.order_stream_table),
        StepFunctionsExecutions(settings.state_machine_arn),
        mock_venues(
            MockSettings.from_environment(os.environ),
            clock=clock,
            sleep=time.sleep,
            ledger=DynamoLedger(settings.ledger_table),
        ),
        clock,
    )


@metrics.log_metrics
def handler(event: dict[str, Any], context: object) -> dict[str, Any]:
    """Make one pass: over all stale orders, or over the one whose execution just ended."""
    with telemetry.invocation(logger, context):
        findings = reconciler().run(ended_order_id(event))
        report = asdict(findings)
        logger.info("reconciled", **report)
    count(findings)
    return report


def ended_order_id(event: dict[str, Any]) -> str | None:
    """Return the order of an execution status event; None for a scheduled pass.

    The scheduler's own event says ``"detail": "{}"``, a string.
    """
    detail = event.get("detail")
    execution = detail.get("name") if isinstance(detail, dict) else None
    return execution[:ORDER_ID_LENGTH] if execution else None


def count(findings: Findings) -> None:
    """Add the pass's metrics."""
    metrics.add_metric("OrdersRestarted", MetricUnit.Count, findings.started + findings.restarted)
    metrics.add_metric("OrdersGivenUp", MetricUnit.Count, findings.given_up)
    metrics.add_metric("OrdersUnresolved", MetricUnit.Count, findings.unresolved)
    metrics.add_metric("EventsRestreamed", MetricUnit.Count, findings.events_streamed)
    metrics.add_metric("StuckOrderAge", MetricUnit.Seconds, findings.oldest_age_s)
