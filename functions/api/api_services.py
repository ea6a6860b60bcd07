"""The parts that the api function is made of, each made on first use and kept.

Adapters are imported where they are made: psycopg and botocore would double a cold start, and a
request that is refused needs neither.
"""

import os
import uuid
from collections.abc import Mapping
from functools import cache
from typing import TYPE_CHECKING

from order_engine.clock import SystemClock
from order_engine.domain.orders import VenueName
from order_engine.settings import ApiSettings

if TYPE_CHECKING:
    from order_engine.adapters.dynamodb.order_stream import OrderStream
    from order_engine.adapters.postgres.orders import PostgresOrders
    from order_engine.adapters.step_functions import StepFunctionsExecutions
    from order_engine.api.queries import OrderQueries
    from order_engine.execution.acceptance import Acceptance
    from order_engine.execution.amendment import Amendments
    from order_engine.execution.cancellation import Cancellation
    from order_engine.venues.contract import Venue

clock = SystemClock()


@cache
def settings() -> ApiSettings:
    """Return the function's configuration."""
    return ApiSettings.from_environment(os.environ)


@cache
def orders() -> "PostgresOrders":
    """Return the orders in Postgres."""
    from order_engine.adapters.postgres.connection import Database
    from order_engine.adapters.postgres.orders import PostgresOrders
    from order_engine.adapters.secrets import DatabaseSecret

    return PostgresOrders(Database(DatabaseSecret(settings().database_secret_arn)))


@cache
def stream() -> "OrderStream":
    """Return the order stream."""
    from order_engine.adapters.dynamodb.order_stream import OrderStream

    return OrderStream(settings().order_stream_table)


@cache
def executions() -> "StepFunctionsExecutions":
    """Return the executions of the state machine."""
    from order_engine.adapters.step_functions import StepFunctionsExecutions

    return StepFunctionsExecutions(settings().state_machine_arn)


@cache
def cancellation() -> "Cancellation":
    """Return the service that calls orders off."""
    from order_engine.execution.cancellation import Cancellation

    return Cancellation(orders(), stream(), executions())


@cache
def amendments() -> "Amendments":
    """Return the service that changes orders at rest."""
    from order_engine.execution.amendment import Amendments

    return Amendments(orders(), clock)


@cache
def acceptance() -> "Acceptance":
    """Return the service that takes orders in."""
    from order_engine.execution.acceptance import Acceptance, Admission

    return Acceptance(
        orders(),
        stream(),
        executions(),
        venues(),
        clock,
        lambda: str(uuid.uuid4()),
        Admission(limit=settings().admission_limit or None),
    )


@cache
def queries() -> "OrderQueries":
    """Return the service that looks orders up."""
    from order_engine.api.queries import OrderQueries

    return OrderQueries(orders())


@cache
def venues() -> Mapping[VenueName, "Venue"]:
    """Return the venues to ask for quotes: the mock market is a function of seed and time.

    Their latency is left out; it is there to be watched in executions.
    """
    from order_engine.settings import MockSettings
    from order_engine.venues.mock.assembly import mock_venues
    from order_engine.venues.mock.dynamodb_launches import DynamoLaunches

    ledger_table = settings().ledger_table
    return mock_venues(
        MockSettings.from_environment(os.environ),
        clock=clock,
        sleep=lambda _seconds: None,
        launches=DynamoLaunches(ledger_table, clock) if ledger_table else None,
    )
