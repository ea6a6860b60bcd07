"""The order stream's records in, WebSocket posts out."""

import os
from functools import cache
from typing import Any

from aws_lambda_powertools import Metrics
from aws_lambda_powertools.metrics import MetricUnit

from order_engine import telemetry
from order_engine.adapters.dynamodb.order_stream import OrderStream
from order_engine.adapters.websocket_gateway import Connections
from order_engine.clock import SystemClock
from order_engine.errors import StreamUnavailable
from order_engine.settings import PublishSettings
from order_engine.streaming.publisher import Publisher, Report

MAX_METRIC_VALUES = 100

logger = telemetry.function_logger()
metrics = Metrics()


@cache
def publisher() -> Publisher:
    """Compose the service on first use and keep it, with its memory and its threads."""
    settings = PublishSettings.from_environment(os.environ)
    return Publisher(
        OrderStream(settings.order_stream_table),
        Connections(settings.websocket_callback_url),
        SystemClock(),
    )


def handler(event: dict[str, Any], context: object) -> dict[str, Any]:
    """Serve a batch; raise when rows could not be read, so that the batch comes again.

    The exception, rather than a list of ``batchItemFailures``, because the emulator takes a batch
    with such a list for done. What was posted before is not posted again: the cursors know.
    """
    with telemetry.invocation(logger, context):
        records = event.get("Records") or []
        report = publisher().publish(records)
        measure(report)
        logger.info(
            "published",
            records=len(records),
            order_ids=sorted(report.order_ids),
            events=report.events_published,
            greetings=report.greetings,
            posts_failed=report.posts_failed,
            removed=report.connections_removed,
            put_off=report.connections_put_off,
            unreadable=report.records_unreadable,
            slowest_ms=round(max(report.delays_ms, default=0)),
        )
        if report.failed:
            raise StreamUnavailable(f"{len(report.failed)} partitions not served")
        return {"batchItemFailures": []}


def measure(report: Report) -> None:
    """Put the report's counts into CloudWatch metrics."""
    counts = {
        "EventsPublished": report.events_published,
        "PostsFailed": report.posts_failed,
        "StaleConnectionsRemoved": report.connections_removed,
        "ConnectionsPutOff": report.connections_put_off,
        "UnreadableRecords": report.records_unreadable,
    }
    for name, count in counts.items():
        if count:
            metrics.add_metric(name, MetricUnit.Count, count)
    for delay_ms in report.delays_ms[:MAX_METRIC_VALUES]:
        metrics.add_metric("DeliveryDelay", MetricUnit.Milliseconds, delay_ms)
    if metrics.metric_set:
        metrics.flush_metrics()
