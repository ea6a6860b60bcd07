"""Open a test token's pools on the running stack, as a venue's news would."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from local import aws
from local.deploy import load_template
from local.errors import LocalRuntimeError
from local.paths import DEFAULT_TEMPLATE
from local.stack import Stack

KNOWN_SECONDS = 30.0
REPEAT_SECONDS = 5.0
LOOK_SECONDS = 0.1


class PoolNotOpenedError(LocalRuntimeError):
    """The stack did not take note of a pool."""


@dataclass(frozen=True)
class Pool:
    """A token's pool as the mock chain knows it; `was_known` when it did before this launch."""

    token: str
    venue: str
    opens_at: datetime
    was_known: bool


def venue_names() -> list[str]:
    """Return the venues that the template tells the state machine of."""
    resources = load_template(DEFAULT_TEMPLATE)["Resources"]
    machine = resources["OrderExecutionStateMachine"]["Properties"]
    venues: str = machine["DefinitionSubstitutions"]["Venues"]["Fn::Sub"]
    return [entry.partition("=")[0] for entry in venues.split(",")]


def launch(
    stack: Stack, token: str, *, venues: Sequence[str], opens_in_seconds: float = 0
) -> list[Pool]:
    """Announce the token's pools and wait until the stack knows them; what it knew first stays.

    Raises PoolNotOpenedError.
    """
    opens_at = datetime.now(UTC) + timedelta(seconds=opens_in_seconds) if opens_in_seconds else None
    return [_launch_at(stack, token.upper(), venue, opens_at) for venue in venues]


def pool_created(token: str, venue: str, opens_at: datetime | None = None) -> dict[str, Any]:
    """Return the entry for EventBridge; without `opens_at` the pool is open at once."""
    detail = {"token": token}
    if opens_at is not None:
        detail["openTime"] = opens_at.isoformat()
    return {"Source": f"dex.{venue}", "DetailType": "PoolCreated", "Detail": json.dumps(detail)}


def _launch_at(stack: Stack, token: str, venue: str, opens_at: datetime | None) -> Pool:
    """Put the event until it has come through.

    AWS delivers an event again when its function is busy; the emulator drops it.
    """
    events = aws.client("events", stack.emulator_url)
    known = _opens_at(stack, token, venue)
    if known is not None:
        return Pool(token, venue, known, was_known=True)
    deadline = time.monotonic() + KNOWN_SECONDS
    repeat_at = 0.0
    while time.monotonic() < deadline:
        if time.monotonic() >= repeat_at:
            events.put_events(Entries=[pool_created(token, venue, opens_at)])
            repeat_at = time.monotonic() + REPEAT_SECONDS
        known = _opens_at(stack, token, venue)
        if known is not None:
            return Pool(token, venue, known, was_known=False)
        time.sleep(LOOK_SECONDS)
    raise PoolNotOpenedError(
        f"{venue}'s pool of {token} did not open within {KNOWN_SECONDS:.0f} s.",
        hint=f"Only test tokens can be launched (MOON, PEPE, WIF). Is {token} one?\n"
        'What the function says: make logs ARGS="--function triggers"',
    )


def _opens_at(stack: Stack, token: str, venue: str) -> datetime | None:
    item = aws.client("dynamodb", stack.emulator_url).get_item(
        TableName=stack.outputs["LedgerTableName"],
        Key={"signature": {"S": f"pool#{token}@{venue}"}},
        ConsistentRead=True,
    )
    if "Item" not in item:
        return None
    return datetime.fromisoformat(item["Item"]["opensAt"]["S"])
