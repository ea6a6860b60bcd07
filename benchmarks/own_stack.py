"""The stack that the measurements run on: their own, fresh, beside any other one."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from local import runtime
from local.paths import DEFAULT_STATE_DIRECTORY, StateDirectory
from local.stack import Stack

BENCH_DIRECTORY = DEFAULT_STATE_DIRECTORY / "bench"

# What similar systems simulate: a quote takes 200 ms, a swap 2 s.
PROFILE: Mapping[str, str] = {
    "MockQuoteLatencyMs": "200",
    "MockBuildLatencyMs": "50",
    "MockSendLatencyMs": "50",
    "MockCheckLatencyMs": "20",
    "MockLandingMs": "2000",
    "MockSlotMs": "400",
    "MockExpiryBlocks": "150",
    "MockVolatility": "normal",
    "MockFaults": "{}",
}


@contextmanager
def own_stack(parameters: Mapping[str, str]) -> Iterator[Stack]:
    """Run a stack without any orders, on free ports, for the length of the block."""
    state = StateDirectory.at(BENCH_DIRECTORY)
    runtime.down(state)  # what a killed measurement has left behind
    for directory in (state.postgres, state.emulator):
        shutil.rmtree(directory, ignore_errors=True)
    with runtime.running_stack(state.root, parameters={**PROFILE, **parameters}) as stack:
        yield stack
