"""Watch the orders at rest: a tick of the schedule, or a pool that was created."""

import os
from collections.abc import Mapping
from datetime import datetime
from functools import cache
from itertools import count
from typing import Any

from aws_lambda_powertools import Metrics
from aws_lambda_powertools.metrics import MetricUnit

from order_engine import telemetry
from order_engine.clock import SystemClock
from order_engine.execution.resting.pace import Pace
from order_engine.execution.resting.watch import TickReport, Watch
from order_engine.settings import MockSettings, TriggersSettings
from order_engine.venues.mock.launches import LaunchRegistry, PoolCreated
from order_engine.venues.registry import venues

logger = telemetry.function_logger()
metrics = Metrics()
clock = SystemClock()

SOURCES: Mapping[str, str] = {listing.event_source: listing.name for listing in venues()}


@cache
def settings() -> TriggersSettings:
    """Return the function's configuration."""
    return TriggersSettings.from_environment(os.environ)


@cache
def launches() -> LaunchRegistry:
    """Return where created pools are written down."""
    from order_engine.venues.mock.dynamodb_launches import DynamoLaunches

    return DynamoLaunches(settings().ledger_table, clock)


@cache
def watch() -> Watch:
    """Compose the service on first use and keep it for the life of the environment."""
    from order_engine.adapters.dynamodb.order_stream import OrderStream
    from order_engine.adapters.postgres.connection import Database
    from order_engine.adapters.postgres.resting import PostgresRestingOrders
    from order_engine.adapters.secrets import DatabaseSecret
    from order_engine.adapters.step_functions import StepFunctionsExecutions
    from order_engine.venues.mock.assembly import mock_venues

    return Watch(
        PostgresRestingOrders(Database(DatabaseSecret(settings().database_secret_arn))),
        OrderStream(settings().order_stream_table),
        StepFunctionsExecutions(settings().state_machine_arn),
        # Asking for a price costs the watch nothing of a venue's simulated latency.
        mock_venues(
            MockSettings.from_environment(os.environ),
            clock=clock,
            sleep=lambda _seconds: None,
            launches=launches(),
        ),
        Pace(
            settings().releases_per_tick,
            settings().releases_in_flight,
            settings().quotes_per_tick,
            # Not the time: ticks may keep step with the number of pairs and never reach some.
            rotation=count().__next__,
        ),
    )


@metrics.log_metrics
def handler(event: dict[str, Any], context: object) -> dict[str, Any]:
    """Make one tick, or note a created pool and release the sniper orders that wait for it.

    A malformed ``PoolCreated`` raises: after its retries it ends in the failed events' queue.
    """
    is_pool_created = event.get("detail-type") == "PoolCreated"
    with telemetry.invocation(logger, context):
        report = pool_created(event) if is_pool_created else watch().tick()
        logger.info("watched", **report.to_json_dict())
    metrics.add_metric("OrdersReleased", MetricUnit.Count, report.released)
    metrics.add_metric("OrdersExpired", MetricUnit.Count, report.expired)
    return report.to_json_dict()


def pool_created(event: dict[str, Any]) -> TickReport:
    """Record the pool; what was recorded first stays, so repeated events change nothing."""
    pool = PoolCreated.model_validate(event["detail"])
    opens_at: datetime = pool.open_time or clock.now()
    launches().record(pool.token, SOURCES[event["source"]], opens_at)
    return watch().pool_created(pool.token)
