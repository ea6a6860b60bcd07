"""What the engine asks of an exchange: the seam for a real one."""

from collections.abc import Mapping
from typing import Any, Protocol


class Venue(Protocol):
    """Trade at one exchange; all that a real Raydium or Meteora client would implement.

    Requests and answers are JSON-ready mappings. Expected outcomes are answers; technical trouble
    raises ``VenueUnavailable`` (nothing happened) or ``VenueTimeout`` (look it up).
    """

    def quote(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """Price a swap."""
        ...

    def build(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """Build and sign the swap's transaction."""
        ...

    def send(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """Send a signed transaction; sending the same signature again does nothing more."""
        ...

    def check(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """Look up what became of a signature."""
        ...
