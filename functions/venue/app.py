"""One venue of the engine (Raydium or Meteora): quote, build, send and check swaps."""

import os
import time
from functools import cache
from typing import Any

from order_engine import telemetry
from order_engine.clock import SystemClock
from order_engine.errors import OrderEngineError
from order_engine.settings import MockSettings, VenueSettings
from order_engine.venues.contract import parse_request, perform
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
        venue, request = _venue(), parse_request(event)
        fields: dict[str, Any] = {
            "order_id": event.get("orderId"),
            "execution": event.get("execution"),
            "attempt": event.get("attempt"),
            "action": request.action,
            "venue": venue.name,
        }
        started = time.perf_counter()
        try:
            answer = perform(venue, request)
        except OrderEngineError as trouble:
            logger.warning(
                "venue in trouble", detail=str(trouble), outcome=type(trouble).__name__, **fields
            )
            raise
        duration_ms = round((time.perf_counter() - started) * 1000)
        logger.info("venue answered", outcome=answer.outcome, duration_ms=duration_ms, **fields)
        return answer.to_json_dict()


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
    return venues[settings.venue]
