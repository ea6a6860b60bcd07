"""Logs and metrics of every function: JSON lines, the engine's own among them."""

import logging
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from aws_lambda_powertools import Logger, Metrics

from order_engine.measures import Measure


class Telemetry:
    """Log and count for one function; made once, when the function is imported."""

    def __init__(self) -> None:
        self.logger = Logger()
        self._metrics = Metrics()
        engine = logging.getLogger("order_engine")
        engine.handlers = [self.logger.registered_handler]
        engine.setLevel(self.logger.log_level)
        engine.propagate = False

    @contextmanager
    def invocation(self, context: object, **keys: object) -> Iterator[None]:
        """Name the invocation in every line logged while the block runs; then send the metrics.

        ``context`` is Lambda's; ``keys`` are for example ``order_id`` and ``execution``. Those that
        are None are left out.
        """
        named = {
            "request_id": getattr(context, "aws_request_id", None),
            "function": getattr(context, "function_name", None),
            **keys,
        }
        given = {name: value for name, value in named.items() if value is not None}
        # Not context keys: lines of other threads are the invocation's too.
        self.logger.append_keys(**given)
        try:
            yield
        finally:
            self.logger.clear_state()
            if self._metrics.metric_set:
                self._metrics.flush_metrics()

    def name(self, **keys: object) -> None:
        """Put more keys into the invocation's further lines."""
        self.logger.append_keys(**keys)

    def record(self, measures: Iterable[Measure]) -> None:
        """Count."""
        for measure in measures:
            self._metrics.add_metric(measure.name, measure.unit, measure.value)
