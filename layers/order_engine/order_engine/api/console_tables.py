"""The engine's own lists, for pages that show orders."""

from typing import Any

from order_engine.api.requests import DEFAULT_USER_ID
from order_engine.domain.statuses import MEANINGS, TRANSITIONS, OrderStatus
from order_engine.domain.tokens import TOKENS
from order_engine.domain.types import order_types
from order_engine.venues.registry import venue_names


def console_tables() -> dict[str, Any]:
    """Return statuses, tokens, venues and order types, JSON-ready."""
    return {
        "statuses": {
            status: {"next": sorted(TRANSITIONS[status]), "meaning": MEANINGS[status]}
            for status in OrderStatus
        },
        "tokenDecimals": {symbol: token.decimals for symbol, token in TOKENS.items()},
        "venues": list(venue_names()),
        "orderTypes": {
            rules.name: {"rests": rules.rests, "defaultSlippageBps": rules.default_slippage_bps}
            for rules in order_types()
        },
        "anonymousUser": DEFAULT_USER_ID,
    }
