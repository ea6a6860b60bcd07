"""The chaos run, shortened: everything at once on a few orders. `make chaos` is the long one."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest
from tests.chaos.invariants import RULES
from tests.chaos.rig import Rig, running_rig
from tests.chaos.runs import Outcome, RunPlan, run_scenario
from tests.chaos.scenarios import SCENARIOS

ORDERS = 40
# Generous, for a busy machine; how fast orders recover is measured by the long run.
FINAL_SECONDS = 150.0
TEST_SECONDS = 600


@pytest.fixture(scope="module")
def rig() -> Iterator[Rig]:
    with running_rig() as rig:
        yield rig


@pytest.fixture(scope="module")
def outcome(rig: Rig) -> Outcome:
    """What came of orders in a storm of every fault; the reconciler is not waited for."""
    plan = RunPlan(
        ORDERS,
        rate_per_second=1.5,
        resting_every=10,
        hasten=True,
        final_seconds=FINAL_SECONDS,
    )
    return asyncio.run(run_scenario(rig, SCENARIOS["storm"], plan))


@pytest.mark.timeout(TEST_SECONDS)
@pytest.mark.parametrize("rule", ["not accepted", *RULES])
def test_storm_breaks_no_rule(outcome: Outcome, rule: str) -> None:
    assert [str(found) for found in outcome.violations if found.rule == rule] == []


@pytest.mark.timeout(TEST_SECONDS)
def test_storm_did_break_things(outcome: Outcome) -> None:
    assert outcome.orders >= 0.9 * ORDERS  # an order may be too late by the time it gets through
    broken = " ".join(outcome.tally)
    for what in ("killed", "stopped at", "requests struck", "duplicated", "late", "restarts"):
        assert what in broken
    assert outcome.tally["Postgres restarts"] == 2
    assert outcome.tally["emulator restarts"] == 1
    assert outcome.reconnects > 0
