"""Stacks for tests: each in a folder of its own, on free ports, beside any running one."""

from __future__ import annotations

import fcntl
import math
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

from tests.support.deadlines import slowness

from local import runtime
from local.errors import log_tail
from local.logs import FunctionLogs
from local.paths import DEFAULT_STATE_DIRECTORY, StateDirectory
from local.stack import Stack


def expiry_blocks(on_an_idle_machine: int) -> str:
    """Return after how many blocks a transaction expires, so that it can be sent before it does."""
    return str(math.ceil(on_an_idle_machine * slowness()))


# Quick venues, a chain on which a dropped transaction expires within 15 s on an idle machine, and
# a market that moves by some 0.2 % between a quote and its execution.
PROFILE: Mapping[str, str] = {
    "MockQuoteLatencyMs": "20",
    "MockBuildLatencyMs": "10",
    "MockSendLatencyMs": "10",
    "MockCheckLatencyMs": "10",
    "MockLandingMs": "400",
    "MockSlotMs": "100",
    "MockExpiryBlocks": expiry_blocks(150),
    "MockVolatility": "wild",
    "MockScriptedFates": "true",
}
SLOTS = 4
LOG_LINES = 200


@dataclass(frozen=True)
class RunningStack:
    """A running stack and where it keeps its files."""

    stack: Stack
    state: StateDirectory

    def logs_since(self, epoch_s: float) -> list[tuple[str, str]]:
        """Return what the functions and the emulator have logged since, by source."""
        lines = FunctionLogs(self.stack).since(int(epoch_s * 1000))[-LOG_LINES:]
        functions = "\n".join(
            f"{line.moment:%H:%M:%S.%f} {line.source}: {line.text}" for line in lines
        )
        emulator = log_tail(self.state.emulator / "emulator.log", LOG_LINES)
        return [("log of the functions", functions), ("log of the emulator", emulator)]


running_stacks: list[RunningStack] = []


@contextmanager
def own_stack(
    name: str, *, parameters: Mapping[str, str] = PROFILE, bundle_dependencies: bool = False
) -> Iterator[Stack]:
    """Run a stack without any orders for the length of the block."""
    with (
        free_state(name) as state,
        runtime.running_stack(
            state.root, parameters=parameters, bundle_dependencies=bundle_dependencies
        ) as stack,
        noted(RunningStack(stack, state)),
    ):
        yield stack


@contextmanager
def free_state(name: str) -> Iterator[StateDirectory]:
    """Hold the first state directory of the name that no other test run holds.

    It is cleared of what a crash may have left there; what `sam` built is kept, which makes the
    next deploy quicker.
    """
    parent = DEFAULT_STATE_DIRECTORY / "tests"
    parent.mkdir(parents=True, exist_ok=True)
    for slot in range(SLOTS):
        root = parent / f"{name}-{slot}"
        with root.with_suffix(".lock").open("w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                continue
            state = StateDirectory.at(root)
            runtime.down(state)
            for directory in (state.postgres, state.emulator):
                shutil.rmtree(directory, ignore_errors=True)
            yield state
            return
    raise RuntimeError(f"{SLOTS} other test runs hold the stacks called {name}")


@contextmanager
def noted(running: RunningStack) -> Iterator[None]:
    """Have the stack's logs added to the reports of tests that fail meanwhile."""
    running_stacks.append(running)
    try:
        yield
    finally:
        running_stacks.remove(running)
