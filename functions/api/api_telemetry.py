"""Logs and metrics of the api function: one log line per request, no bodies, no tokens."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from aws_lambda_powertools import Metrics
from aws_lambda_powertools.metrics import MetricUnit

from order_engine.telemetry import function_logger

logger = function_logger()
metrics = Metrics()


@contextmanager
def request_logged(request_id: str, **fields: object) -> Iterator[dict[str, Any]]:
    """Log the request when the block ends, with what the block puts into the yielded outcome."""
    logger.append_keys(request_id=request_id)
    outcome: dict[str, Any] = {}
    started = time.perf_counter()
    try:
        yield outcome
    finally:
        duration_ms = round((time.perf_counter() - started) * 1000, 1)
        logger.info("request", extra={**fields, **outcome, "duration_ms": duration_ms})
        if metrics.metric_set:
            metrics.flush_metrics()
        logger.clear_state()


def name_order(order_id: str) -> None:
    """Put the order's id into the request's further log lines."""
    logger.append_keys(order_id=order_id)


def count_accepted(*, replayed: bool) -> None:
    """Count an accepted order, or the repetition of an accepted one."""
    name = "IdempotentReplays" if replayed else "OrdersAccepted"
    metrics.add_metric(name, MetricUnit.Count, 1)


def count_refused(code: str) -> None:
    """Count a request that was answered with a problem, and log its code."""
    logger.append_keys(code=code)
    metrics.add_metric("RequestsRefused", MetricUnit.Count, 1)
    metrics.add_metric(f"RequestsRefused_{code}", MetricUnit.Count, 1)
