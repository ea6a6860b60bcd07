"""The state machine's definition: rendered from its source, and as cheap as it was."""

from __future__ import annotations

import itertools
import json
import re
from pathlib import Path
from typing import Any

from statemachine import render

from local.deploy import load_template
from local.paths import DEFAULT_TEMPLATE
from order_engine.venues.registry import venue_names

DEFINITION: dict[str, Any] = json.loads(render.RENDERED.read_text(encoding="utf-8"))
STATES: dict[str, Any] = DEFINITION["States"]
HAPPY_PATH = [
    "Routing", "Claimed", "Quotes", "Building", "Decided", "BuildSwap", "Submitted", "WrittenDown",
    "SendSwap", "AwaitLanding", "Settle", "Settled", "Confirmed",
]  # fmt: skip


def tasks() -> dict[str, Any]:
    """Return every state that calls a function, those inside the map too."""
    inside = STATES["Quotes"]["ItemProcessor"]["States"]
    return {name: s for name, s in {**STATES, **inside}.items() if s["Type"] == "Task"}


def follows(state: dict[str, Any]) -> set[str]:
    choices = {choice["Next"] for choice in state.get("Choices", [])}
    return choices | {state[key] for key in ("Next", "Default") if key in state}


def test_json_is_what_the_yaml_renders_to() -> None:
    assert render.RENDERED.read_text(encoding="utf-8") == render.rendered()


def test_happy_order_is_billed_thirteen_transitions_and_one_per_venue() -> None:
    for state, successor in itertools.pairwise(HAPPY_PATH):
        assert successor in follows(STATES[state])
    assert STATES["Confirmed"]["End"]

    inside = STATES["Quotes"]["ItemProcessor"]["States"]
    assert len(HAPPY_PATH) == 13
    assert inside["Quote"]["End"]


def test_three_retry_policies_serve_every_call() -> None:
    policies = {json.dumps(state["Retry"]) for state in tasks().values()}

    assert len(policies) == 3


def test_no_venue_is_named_in_the_definition() -> None:
    text = Path(render.SOURCE).read_text(encoding="utf-8")

    assert [name for name in venue_names() if name in text.lower()] == []


def test_venues_of_the_template_are_those_of_the_registry() -> None:
    machine = load_template(DEFAULT_TEMPLATE)["Resources"]["OrderExecutionStateMachine"]
    listed = machine["Properties"]["DefinitionSubstitutions"]["Venues"]["Fn::Sub"]

    assert tuple(re.findall(r"(\w+)=\$\{\w+\.Arn\}", listed)) == venue_names()
