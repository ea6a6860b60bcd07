"""Compose the engine: the one place that knows which adapter goes where.

Each part is made on first use and kept for the life of the execution environment. Adapters are
imported where they are made: psycopg and botocore would double the cold start of a function that
needs neither, or of a request that is refused before it does.
"""

import os
import time
import uuid
from collections.abc import Callable, Mapping
from functools import cache
from itertools import count
from typing import TYPE_CHECKING, Any

from order_engine.clock import SystemClock
from order_engine.settings import (
    ApiSettings,
    DatabaseSettings,
    EnvironmentModel,
    ExecutionSettings,
    GatewaySettings,
    IntakeSettings,
    LedgerSettings,
    PaceSettings,
    SlotSettings,
    StreamSettings,
    VenueSettings,
    WebSocketSettings,
)

if TYPE_CHECKING:
    from order_engine.adapters.dynamodb.order_stream import OrderStream
    from order_engine.adapters.postgres.connection import Database
    from order_engine.adapters.postgres.waiting import PostgresWaitingOrders
    from order_engine.adapters.step_functions import StepFunctionsExecutions
    from order_engine.adapters.websocket_gateway import Connections
    from order_engine.api.queries import OrderQueries
    from order_engine.api.socket_orders import SocketOrders
    from order_engine.api.tickets import StreamTickets
    from order_engine.domain.orders import VenueName
    from order_engine.execution.acceptance import Acceptance
    from order_engine.execution.amendment import Amendments
    from order_engine.execution.cancellation import Cancellation
    from order_engine.execution.lifecycle import Lifecycle
    from order_engine.execution.moves import Moves
    from order_engine.execution.reconciliation import Reconciler
    from order_engine.execution.resting.watch import Watch
    from order_engine.execution.turns import Turns
    from order_engine.streaming.publisher import Publisher
    from order_engine.streaming.subscriptions import Subscriptions
    from order_engine.venues.contract import Venue, VenueEdge
    from order_engine.venues.mock.dynamodb import DynamoLaunches
    from order_engine.venues.mock.launches import PoolAnnouncements

clock = SystemClock()

_parts: list[Any] = []


def _part[Made](make: Callable[[], Made]) -> Callable[[], Made]:
    """Keep what ``make`` returns until ``reset``."""
    kept = cache(make)
    _parts.append(kept)
    return kept


def reset() -> None:
    """Forget every part, as a new execution environment would; closes what is connected."""
    if database.cache_info().currsize:  # type: ignore[attr-defined]
        database().close()
    if connections.cache_info().currsize:  # type: ignore[attr-defined]
        connections().close()
    for part in _parts:
        part.cache_clear()


def _settings[Settings: EnvironmentModel](model: type[Settings]) -> Settings:
    return model.from_environment(os.environ)


# What the parts stand on


@_part
def database() -> "Database":
    """Return the database."""
    from order_engine.adapters.postgres.connection import Database
    from order_engine.adapters.secrets import DatabaseSecret

    return Database(DatabaseSecret(_settings(DatabaseSettings).database_secret_arn))


@_part
def orders() -> "PostgresWaitingOrders":
    """Return the orders in Postgres."""
    from order_engine.adapters.postgres.waiting import PostgresWaitingOrders

    return PostgresWaitingOrders(database(), slots())


def slots() -> int | None:
    """Return how many orders may keep the venues busy at once, None for any number."""
    return _settings(SlotSettings).order_slots or None


@_part
def stream() -> "OrderStream":
    """Return the order stream."""
    from order_engine.adapters.dynamodb.order_stream import OrderStream

    return OrderStream(_settings(StreamSettings).order_stream_table)


@_part
def executions() -> "StepFunctionsExecutions":
    """Return the executions of the state machine."""
    from order_engine.adapters.step_functions import StepFunctionsExecutions

    return StepFunctionsExecutions(_settings(ExecutionSettings).state_machine_arn)


# The venues: simulated ones, on one market that is a function of seed and time


@_part
def launches() -> "DynamoLaunches":
    """Return what is remembered of opened pools; one memory for those who note and who ask."""
    from order_engine.venues.mock.dynamodb import DynamoLaunches

    return DynamoLaunches(_settings(LedgerSettings).ledger_table, clock)


@_part
def quoting_venues() -> "Mapping[VenueName, Venue]":
    """Return the venues for those who only ask for prices.

    Without their latency, which is there to be watched in executions, and without a ledger.
    """
    from order_engine.venues.mock.assembly import mock_venues
    from order_engine.venues.mock.settings import MockSettings

    return mock_venues(
        _settings(MockSettings),
        clock=clock,
        sleep=lambda _seconds: None,
        launches=launches(),
    )


@_part
def trading_venues() -> "Mapping[VenueName, Venue]":
    """Return the venues for those who also send and look up transactions."""
    from order_engine.venues.mock.assembly import mock_venues
    from order_engine.venues.mock.dynamodb import DynamoLedger
    from order_engine.venues.mock.settings import MockSettings

    return mock_venues(
        _settings(MockSettings),
        clock=clock,
        sleep=time.sleep,
        launches=launches(),
        ledger=DynamoLedger(_settings(LedgerSettings).ledger_table),
    )


@_part
def venue() -> "VenueEdge":
    """Return the venue whose function this is; raises ``KeyError`` for one that is not listed."""
    from order_engine.venues.contract import VenueEdge

    name = _settings(VenueSettings).venue
    return VenueEdge(name, trading_venues()[name])


@_part
def pool_announcements() -> "PoolAnnouncements":
    """Return what notes the pools that venues say they have opened."""
    from order_engine.venues.mock.launches import PoolAnnouncements

    return PoolAnnouncements(launches(), clock)


# Execution


@_part
def turns() -> "Turns":
    """Return the service that starts orders in their turn."""
    from order_engine.execution.turns import Turns

    return Turns(orders(), executions())


@_part
def moves() -> "Moves":
    """Return the service through which everyone moves orders."""
    from order_engine.execution.moves import Moves

    return Moves(orders(), stream(), turns())


@_part
def acceptance() -> "Acceptance":
    """Return the service that takes orders in."""
    from order_engine.domain.transitions import IntakeLimits
    from order_engine.execution.acceptance import Acceptance

    settings = _settings(IntakeSettings)
    rate = settings.orders_per_second
    return Acceptance(
        orders(),
        stream(),
        turns(),
        quoting_venues(),
        clock,
        lambda: str(uuid.uuid4()),
        IntakeLimits(
            waiting_per_user=settings.max_waiting_orders_per_user or None,
            open_per_user=settings.max_open_orders_per_user or None,
            burst=settings.order_burst if rate else None,
            burst_seconds=settings.order_burst / rate if rate else 1.0,
        ),
    )


@_part
def cancellation() -> "Cancellation":
    """Return the service that calls orders off."""
    from order_engine.execution.cancellation import Cancellation

    return Cancellation(moves(), executions())


@_part
def amendments() -> "Amendments":
    """Return the service that changes orders at rest."""
    from order_engine.execution.amendment import Amendments

    return Amendments(orders(), clock)


@_part
def lifecycle() -> "Lifecycle":
    """Return the service that carries out the state machine's steps."""
    from order_engine.execution.lifecycle import Lifecycle

    return Lifecycle(orders(), moves(), clock)


@_part
def watch() -> "Watch":
    """Return the service that looks after orders at rest."""
    from order_engine.adapters.postgres.resting import PostgresRestingOrders
    from order_engine.execution.resting.pace import Pace
    from order_engine.execution.resting.watch import Watch

    settings = _settings(PaceSettings)
    return Watch(
        PostgresRestingOrders(database(), slots()),
        stream(),
        turns(),
        quoting_venues(),
        Pace(
            settings.releases_per_tick,
            settings.quotes_per_tick,
            # Not the time: ticks may keep step with the number of pairs and never reach some.
            rotation=count().__next__,
        ),
    )


@_part
def reconciler() -> "Reconciler":
    """Return the service that brings forgotten orders to their end."""
    from order_engine.adapters.postgres.reconciling import PostgresReconcilableOrders
    from order_engine.execution.reconciliation import Reconciler

    return Reconciler(
        PostgresReconcilableOrders(database(), slots()),
        stream(),
        executions(),
        trading_venues(),
        clock,
        turns(),
    )


def migrate_database() -> list[str]:
    """Bring the database to the current schema; return the migrations that were applied."""
    from order_engine.adapters.postgres.connection import connect
    from order_engine.adapters.postgres.migrate import migrate
    from order_engine.adapters.secrets import DatabaseSecret

    with connect(DatabaseSecret(_settings(DatabaseSettings).database_secret_arn)) as connection:
        return migrate(connection)


# The API


@_part
def api_settings() -> ApiSettings:
    """Return the configuration of the HTTP API's functions."""
    return _settings(ApiSettings)


@_part
def queries() -> "OrderQueries":
    """Return the service that looks orders up."""
    from order_engine.api.queries import OrderQueries

    return OrderQueries(orders())


@_part
def tickets() -> "StreamTickets":
    """Return the service that issues tickets for streams."""
    from order_engine.api.tickets import StreamTickets

    settings = api_settings()
    return StreamTickets(stream(), clock, settings.websocket_url, settings.caller_required)


@_part
def socket_orders() -> "SocketOrders":
    """Return the service that takes orders from WebSocket connections."""
    from order_engine.api.socket_orders import SocketOrders

    return SocketOrders(acceptance, stream(), clock, api_settings().caller_required)


# Streaming


@_part
def subscriptions() -> "Subscriptions":
    """Return the service behind the WebSocket routes."""
    from order_engine.streaming.subscriptions import Subscriptions

    settings = _settings(WebSocketSettings)
    return Subscriptions(
        stream(),
        clock,
        caller_required=settings.caller_required,
        most_connections=settings.connections_per_user or None,
    )


@_part
def connections() -> "Connections":
    """Return the way to the clients' WebSocket connections."""
    from order_engine.adapters.websocket_gateway import Connections

    return Connections(_settings(GatewaySettings).websocket_callback_url)


@_part
def publisher() -> "Publisher":
    """Return the service that posts events, with its memory and its threads."""
    from order_engine.streaming.publisher import Publisher

    return Publisher(stream(), connections(), clock)
