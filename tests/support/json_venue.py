"""A venue as the state machine speaks with it: JSON in, JSON out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from order_engine.venues.contract import Venue, parse_request, perform


@dataclass(frozen=True)
class JsonVenue:
    """Call a venue with messages; ``action`` is added to each."""

    venue: Venue

    def quote(self, message: Mapping[str, Any]) -> dict[str, Any]:
        return self._perform("quote", message)

    def build(self, message: Mapping[str, Any]) -> dict[str, Any]:
        return self._perform("build", message)

    def send(self, message: Mapping[str, Any]) -> dict[str, Any]:
        return self._perform("send", message)

    def check(self, message: Mapping[str, Any]) -> dict[str, Any]:
        return self._perform("check", message)

    def _perform(self, action: str, message: Mapping[str, Any]) -> dict[str, Any]:
        return perform(self.venue, parse_request({**message, "action": action})).to_json_dict()
