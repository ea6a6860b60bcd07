"""What makes two requests the same order, whatever the spelling and the defaults of their day."""

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from order_engine.domain.orders import OrderTerms

_TERM_OF_FIELD: Mapping[str, str] = {
    "amount": "amountIn",
    "orderType": "type",
    "slippage": "slippageBps",
    "slippageTolerance": "slippageBps",
    "targetPrice": "limitPrice",
}


def request_digest(terms: OrderTerms, fields: Mapping[str, Any]) -> str:
    """Return two digests, of all terms and of those that the request itself states.

    Requests are for the same order when they share either one: spelled otherwise, an order has the
    same terms; after a deploy with another default, it still states the same.
    """
    stated = {_TERM_OF_FIELD.get(name, name) for name in fields if fields[name] is not None}
    said = {name: value for name, value in _shown(terms).items() if name in stated}
    if "trigger" in said:
        trigger = fields["trigger"]
        said["trigger"] = {key: value for key, value in said["trigger"].items() if key in trigger}
    said["userId"] = terms.user_id
    return f"{terms_digest(terms)} {_digest(said)}"


def terms_digest(terms: OrderTerms) -> str:
    """Return the SHA-256 of what was asked for, equal for every spelling of the same order.

    Absent terms do not count, so that a term added later leaves old digests as they are.
    """
    return _digest(_shown(terms))


def _shown(terms: OrderTerms) -> dict[str, Any]:
    shown = terms.model_dump(mode="json", by_alias=True, exclude_none=True)
    if not terms.priority:
        del shown["priority"]
    return shown


def _digest(value: Mapping[str, Any]) -> str:
    canonical = json.dumps(value, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()
