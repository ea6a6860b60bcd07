"""Carry out the state machine's database transitions."""

import os
from functools import cache
from typing import Any

from aws_lambda_powertools import Metrics
from aws_lambda_powertools.metrics import MetricUnit

from order_engine import telemetry
from order_engine.domain.orders import Order
from order_engine.domain.statuses import OrderStatus
from order_engine.execution.lifecycle import Lifecycle, Step
from order_engine.execution.messages import parse_request
from order_engine.settings import LifecycleSettings

logger = telemetry.function_logger()
metrics = Metrics()


@cache
def lifecycle() -> Lifecycle:
    """Compose the service on first use and keep it for the life of the environment."""
    from order_engine.adapters.dynamodb.order_stream import OrderStream
    from order_engine.adapters.postgres.connection import Database
    from order_engine.adapters.postgres.orders import PostgresOrders
    from order_engine.adapters.secrets import DatabaseSecret
    from order_engine.clock import SystemClock

    settings = LifecycleSettings.from_environment(os.environ)
    return Lifecycle(
        PostgresOrders(Database(DatabaseSecret(settings.database_secret_arn))),
        OrderStream(settings.order_stream_table),
        SystemClock(),
    )


@metrics.log_metrics
def handler(event: dict[str, Any], context: object) -> dict[str, Any]:
    """Answer one step of the state machine with its outcome."""
    order_id = event.get("orderId") or event["order"]["orderId"]
    with telemetry.invocation(logger, context, order_id=order_id, execution=event["execution"]):
        return log_step(event, order_id)


def log_step(event: dict[str, Any], order_id: str) -> dict[str, Any]:
    """Take the step, log and count what came of it."""
    step = take_step(event)
    logger.info(
        event["action"],
        order_id=order_id,
        execution=event["execution"],
        attempt=event.get("attempt", event.get("afterAttempt")),
        outcome=step.answer.outcome,
        moved=step.moved,
        **about(step),
    )
    if step.moved and step.order:
        count(step.order)
    return step.answer.to_json_dict()


def about(step: Step) -> dict[str, Any]:
    """Return what the log tells of the order; of a decision, both quotes too."""
    order = step.order
    if order is None:
        return {}
    decided = order.status is OrderStatus.BUILDING and step.moved
    return {
        "status": order.status,
        "chosen_dex": order.chosen_dex,
        "error": order.error,
        "quotes": [quote.to_json_dict() for quote in order.quotes] if decided else None,
    }


def take_step(event: dict[str, Any]) -> Step:
    """Take the step that the state machine asks for."""
    return lifecycle().take(parse_request(event))


def count(order: Order) -> None:
    """Add the business metrics of the status that the order has entered."""
    match order.status:
        case OrderStatus.BUILDING if order.chosen_dex:
            venue = order.chosen_dex.capitalize()
            metrics.add_metric(f"VenueChosen{venue}", MetricUnit.Count, 1)
        case OrderStatus.CONFIRMED:
            time_to_confirm_ms = (order.updated_at - order.created_at).total_seconds() * 1000
            metrics.add_metric("OrdersConfirmed", MetricUnit.Count, 1)
            metrics.add_metric("TimeToConfirm", MetricUnit.Milliseconds, time_to_confirm_ms)
        case OrderStatus.FAILED if order.failure:
            metrics.add_metric("OrdersFailed", MetricUnit.Count, 1)
            metrics.add_metric(f"OrdersFailed_{order.failure.code}", MetricUnit.Count, 1)
        case _:
            pass
