"""Logs and metrics of the api function: one log line per request, no bodies, no tokens."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from order_engine.measures import Measure
from order_engine.telemetry import Telemetry

telemetry = Telemetry()
logger = telemetry.logger


@contextmanager
def request_logged(context: object, request_id: str, **fields: object) -> Iterator[dict[str, Any]]:
    """Log the request when the block ends, with what the block puts into the yielded outcome.

    ``request_id`` is the gateway's, which clients are shown.
    """
    outcome: dict[str, Any] = {}
    started = time.perf_counter()
    with telemetry.invocation(context, request_id=request_id):
        try:
            yield outcome
        finally:
            duration_ms = round((time.perf_counter() - started) * 1000, 1)
            logger.info("request", extra={**fields, **outcome, "duration_ms": duration_ms})


def name_order(order_id: str) -> None:
    """Put the order's id into the request's further log lines."""
    telemetry.name(order_id=order_id)


def count_accepted(*, replayed: bool) -> None:
    """Count an accepted order, or the repetition of an accepted one."""
    telemetry.record([Measure("IdempotentReplays" if replayed else "OrdersAccepted", 1)])


def count_refused(code: str) -> None:
    """Count a request that was answered with a problem, and log its code."""
    telemetry.name(code=code)
    telemetry.record([Measure("RequestsRefused", 1), Measure(f"RequestsRefused_{code}", 1)])
