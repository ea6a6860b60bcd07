"""When the pools of launchable test tokens open: by plan, or by a PoolCreated event."""

from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Any, Protocol

from pydantic import AfterValidator, AwareDatetime, BaseModel, ConfigDict
from pydantic.alias_generators import to_camel

from order_engine.clock import Clock
from order_engine.domain.orders import VenueName
from order_engine.domain.tokens import TOKENS
from order_engine.venues.registry import venues


def _launchable(symbol: str) -> str:
    if symbol not in TOKENS or not TOKENS[symbol].launchable:
        raise ValueError("not a token whose pools can be created")
    return symbol


class PoolCreated(BaseModel):
    """Carry the detail of an EventBridge ``PoolCreated`` event.

    ``open_time`` is when trading begins; without it the pool is open at once.
    """

    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True, extra="ignore")

    token: Annotated[str, AfterValidator(_launchable)]
    open_time: AwareDatetime | None = None


class LaunchRegistry(Protocol):
    """Remember which pool of which token opens when; what was said first stays."""

    def record(self, token: str, venue: VenueName, opens_at: datetime) -> None:
        """Note that the token's pool at this venue opens then, unless it is known already."""
        ...

    def opens_at(self, token: str, venue: VenueName) -> datetime | None:
        """Return when the token's pool at this venue opens; None when nobody has said."""
        ...


class PoolAnnouncements:
    """Note the pools that venues say they have created, under the venue that says so."""

    def __init__(self, registry: LaunchRegistry, clock: Clock) -> None:
        self._registry = registry
        self._clock = clock

    def record(self, source: str, detail: Mapping[str, Any]) -> str:
        """Record the pool of an EventBridge event, and return its token.

        What was recorded first stays, so repeated events change nothing. Raises ``ValueError``
        for a source that is no venue and for a malformed detail.
        """
        listing = next((one for one in venues() if one.event_source == source), None)
        if listing is None:
            raise ValueError(f"no venue speaks as {source}")
        pool = PoolCreated.model_validate(detail)
        self._registry.record(pool.token, listing.name, pool.open_time or self._clock.now())
        return pool.token


class LaunchCalendar:
    """Tell the mock market when pools open; implements ``PoolCalendar``.

    ``planned`` maps a token to the time at which its pools open at every venue. A pool of two
    launchable tokens opens when both have.
    """

    def __init__(
        self, planned: Mapping[str, datetime], registry: LaunchRegistry | None = None
    ) -> None:
        self._planned = planned
        self._registry = registry

    def pool_opens_at(self, base: str, quote: str, venue: VenueName) -> datetime | None:
        """Return when the pool opens, None when it is not planned."""
        openings = [
            self._token_opens_at(token, venue)
            for token in (base, quote)
            if TOKENS[token].launchable
        ]
        known = [opening for opening in openings if opening is not None]
        return max(known) if known and len(known) == len(openings) else None

    def _token_opens_at(self, token: str, venue: VenueName) -> datetime | None:
        planned = self._planned.get(token)
        recorded = self._registry.opens_at(token, venue) if self._registry else None
        if planned and recorded:
            return min(planned, recorded)
        return planned or recorded
