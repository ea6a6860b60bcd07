"""Which venues there are.

To add one: its line in ``_VENUES``, its module in ``venues/mock``, its function in the template.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from order_engine.domain.orders import VenueName


@dataclass(frozen=True, slots=True)
class VenueListing:
    """Name a venue, and the module of its simulation where that is not called as the venue is."""

    name: VenueName
    simulation: str = ""

    @property
    def simulation_module(self) -> str:
        """Return the module that simulates it."""
        return self.simulation or f"order_engine.venues.mock.{self.name}"

    @property
    def event_source(self) -> str:
        """Return as what it speaks on the event bus."""
        return f"dex.{self.name}"


_VENUES: dict[VenueName, VenueListing] = {
    listing.name: listing
    for listing in (
        VenueListing("raydium"),
        VenueListing("meteora"),
    )
}


def venues() -> tuple[VenueListing, ...]:
    """Return every venue, always in the same order."""
    return tuple(_VENUES.values())


def venue_names() -> tuple[VenueName, ...]:
    """Return the name of every venue."""
    return tuple(_VENUES)


@contextmanager
def also(listing: VenueListing) -> Iterator[None]:
    """Add a venue for a while, as tests do."""
    _VENUES[listing.name] = listing
    try:
        yield
    finally:
        del _VENUES[listing.name]
