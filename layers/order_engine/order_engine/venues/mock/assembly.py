"""Put mock venues together for the functions that trade or watch."""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from order_engine.domain.orders import VenueName
from order_engine.venues.mock.launches import LaunchCalendar, LaunchRegistry
from order_engine.venues.mock.ledger import Ledger
from order_engine.venues.mock.market import Market
from order_engine.venues.mock.settings import MockSettings
from order_engine.venues.mock.venue import MockVenue
from order_engine.venues.registry import venue_names

if TYPE_CHECKING:
    from order_engine.clock import Clock


def mock_venues(
    settings: MockSettings,
    *,
    clock: "Clock",
    sleep: Callable[[float], None],
    launches: LaunchRegistry | None = None,
    ledger: Ledger | None = None,
) -> Mapping[VenueName, MockVenue]:
    """Return every venue on one market, which knows the planned and the recorded launches."""
    market = Market.of(settings, LaunchCalendar(settings.launches, launches))
    return {
        name: MockVenue(name, settings, clock=clock, sleep=sleep, ledger=ledger, market=market)
        for name in venue_names()
    }
