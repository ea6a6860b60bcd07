"""Watch the orders at rest: a tick of the schedule, or a pool that was created."""

from typing import Any

from order_engine import bootstrap
from order_engine.telemetry import Telemetry

telemetry = Telemetry()


def handler(event: dict[str, Any], context: object) -> dict[str, Any]:
    """Make one tick, or note a created pool and release the sniper orders that wait for it.

    A malformed ``PoolCreated`` raises: after its retries it ends in the failed events' queue.
    """
    with telemetry.invocation(context):
        if event.get("detail-type") == "PoolCreated":
            token = bootstrap.pool_announcements().record(event["source"], event["detail"])
            report = bootstrap.watch().pool_created(token)
        else:
            report = bootstrap.watch().tick()
        telemetry.logger.info("watched", **report.to_json_dict())
        telemetry.record(report.measures())
        return report.to_json_dict()
