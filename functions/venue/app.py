"""One venue of the engine (Raydium or Meteora): quote, build, send and check swaps."""

import os
import time
from functools import cache
from typing import Any

from order_engine import telemetry
from order_engine.clock import SystemClock
from order_engine.domain.orders import Venue
from order_engine.errors import OrderEngineError
from order_engine.settings import MockSettings, VenueSettings
from order_engine.venues.mock.assembly import mock_venues
from order_engine.venues.mock.dynamodb_launches import DynamoLaunches
from order_engine.venues.mock.dynamodb_ledger import DynamoLedger
from order_engine.venues.mock.venue import MockVenue

logger = telemetry.function_logger()


def handler(event: dict[str, Any], context: object) -> dict[str, Any]:
    """Carry out ``event["action"]``; expected outcomes are answers, technical trouble raises."""
    with telemetry.invocation(
        logger, context, order_id=event.get("orderId"), execution=event.get("execution")
    ):
        venue = _venue()
        actions = {
            "quote": venue.quote,
            "build": venue.build,
            "send": venue.send,
            "check": venue.check,
        }
        fields = {
            "order_id": event.get("orderId"),
            "execution": event.get("execution"),
            "attempt": event.get("attempt"),
            "action": event["action"],
            "venue": venue.name,
        }
        started = time.perf_counter()
        try:
            answer = actions[event["action"]](event)
        except OrderEngineError as trouble:
            logger.warning(
                "venue in trouble", detail=str(trouble), outcome=type(trouble).__name__, **fields
            )
            raise
        duration_ms = round((time.perf_counter() - started) * 1000)
        logger.info("venue answered", outcome=answer["outcome"], duration_ms=duration_ms, **fields)
        return answer


@cache
def _venue() -> MockVenue:
    settings, clock = VenueSettings.from_environment(os.environ), SystemClock()
    venues = mock_venues(
        MockSettings.from_environment(os.environ),
        clock=clock,
        sleep=time.sleep,
        launches=DynamoLaunches(settings.ledger_table, clock),
        ledger=DynamoLedger(settings.ledger_table),
    )
    return venues[Venue(settings.venue)]
