"""The order stream's records in, WebSocket posts out."""

from typing import Any

from order_engine import bootstrap
from order_engine.telemetry import Telemetry

telemetry = Telemetry()


def handler(event: dict[str, Any], context: object) -> dict[str, Any]:
    """Serve a batch; raise when rows could not be read, so that the batch comes again.

    The exception, rather than a list of ``batchItemFailures``, because the emulator takes a batch
    with such a list for done. What was posted before is not posted again: the cursors know.
    """
    with telemetry.invocation(context):
        records = event.get("Records") or []
        report = bootstrap.publisher().publish(records)
        telemetry.logger.info("published", records=len(records), **report.to_log())
        telemetry.record(report.measures())
        report.raise_if_failed()
        return {"batchItemFailures": []}
