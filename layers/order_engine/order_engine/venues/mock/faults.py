"""Which calls of the mock venues go wrong, and how.

A fault is drawn once for each order, attempt and venue, from the seed: the same attempt meets the
same fault in every process and every run, however its calls interleave.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from hashlib import blake2b

from order_engine.venues.mock.settings import MockSettings
from order_engine.venues.registry import venue_names


class Fault(StrEnum):
    """Name a way in which a venue misbehaves.

    ``quote_timeout``: every quote of the attempt times out.
    ``send_timeout_landed``: the transaction is recorded, then the call times out; a repeated send
    finds it recorded and is answered.
    ``send_timeout_dropped``: the first send times out and nothing is recorded but the marker that
    this happened, so a repeated send of the same bytes gets through.
    ``dropped_until_expiry``: every send is answered ``sent``, yet the transaction never lands.
    ``venue_down``: every call raises. It strikes the whole attempt, from the quote on.
    ``lands_with_error``: the transaction lands and reverts.
    """

    QUOTE_TIMEOUT = "quote_timeout"
    SEND_TIMEOUT_LANDED = "send_timeout_landed"
    SEND_TIMEOUT_DROPPED = "send_timeout_dropped"
    DROPPED_UNTIL_EXPIRY = "dropped_until_expiry"
    VENUE_DOWN = "venue_down"
    LANDS_WITH_ERROR = "lands_with_error"


@dataclass(frozen=True, slots=True)
class AttemptKey:
    """Identify one attempt of one order at one venue."""

    order_id: str
    client_order_id: str | None
    attempt: int
    venue: str


_SCRIPT = re.compile(
    rf"(?P<fault>{'|'.join(Fault)})(\*(?P<attempts>\d{{1,9}}))?(@(?P<venue>[a-z][a-z0-9]*))?-"
)


@dataclass(frozen=True, slots=True)
class ScriptedFate:
    """Hold a fate that a test chose: a fault on the first attempts, at one venue or both."""

    fault: Fault
    attempts: int | None
    venue: str | None

    def strikes(self, key: AttemptKey) -> bool:
        """Tell whether this attempt meets the fault; attempts count from 1."""
        return (self.attempts is None or key.attempt <= self.attempts) and (
            self.venue is None or key.venue == self.venue
        )


def scripted_fate(client_order_id: str | None) -> ScriptedFate | None:
    """Parse ``<fault>[*<attempts>][@<venue>]-<anything>``; other ids script nothing."""
    match = _SCRIPT.match(client_order_id or "")
    if match is None or match["venue"] not in (None, *venue_names()):
        return None
    attempts = match["attempts"]
    return ScriptedFate(
        fault=Fault(match["fault"]),
        attempts=int(attempts) if attempts is not None else None,
        venue=match["venue"],
    )


class FaultPlan:
    """Decide which faults strike.

    An order with a scripted fate meets that fate and no drawn faults, so that a test which chose
    a fate gets exactly it.
    """

    def __init__(
        self, *, seed: int, probabilities: Mapping[str, float], scripted_fates: bool
    ) -> None:
        """Raise ``ValueError`` for an unknown fault or a probability outside of 0 to 1."""
        self._seed = seed
        self._probabilities: dict[Fault, float] = {}
        for name, probability in probabilities.items():
            if not 0 <= probability <= 1:
                raise ValueError(f"probability of {name} must be from 0 to 1")
            self._probabilities[Fault(name)] = probability
        self._scripted_fates = scripted_fates

    @classmethod
    def of(cls, settings: MockSettings) -> "FaultPlan":
        """Make the plan that the settings describe."""
        return cls(
            seed=settings.seed,
            probabilities=settings.faults,
            scripted_fates=settings.scripted_fates,
        )

    def strikes(self, fault: Fault, key: AttemptKey | None) -> bool:
        """Tell whether ``fault`` strikes an attempt; calls without an order meet none."""
        if key is None:
            return False
        if self._scripted_fates and (fate := scripted_fate(key.client_order_id)) is not None:
            return fate.fault is fault and fate.strikes(key)
        probability = self._probabilities.get(fault, 0.0)
        return probability > 0 and self._draw(fault, key) < probability

    def _draw(self, fault: Fault, key: AttemptKey) -> float:
        """Return a uniform number in [0, 1)."""
        identity = f"{self._seed}/{key.order_id}/{key.attempt}/{key.venue}/{fault}"
        digest = blake2b(identity.encode(), digest_size=6).digest()
        return int.from_bytes(digest) / 2**48
