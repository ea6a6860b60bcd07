"""How long tests wait: what is right on an idle machine, times how slow this one is now.

A wait for a condition ends as soon as the condition holds, so a longer deadline costs nothing
where all is well. What the engine promises (a function's timeout, two seconds for a sniper order)
is no such deadline and is never stretched.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import time
from functools import cache

_IDLE_SECONDS = 0.75
"""What `_run_once` takes on the idle machine of docs/measurements.md."""
_RUNS = 3
_MOST = 6.0
_WORK = "sum(number * number for number in range(4_000_000))"


@cache
def slowness() -> float:
    """Measure once how many times slower than an idle one this machine is: 1 to 6."""
    return min(max(statistics.median(_run_once() for _ in range(_RUNS)) / _IDLE_SECONDS, 1), _MOST)


def patience(seconds: float) -> float:
    """Return how long to wait here for what takes less than so long on an idle machine."""
    return seconds * slowness()


def _run_once() -> float:
    """Start one process per processor, as a stack under load does, and time them."""
    started = time.monotonic()
    workers = [
        subprocess.Popen([sys.executable, "-I", "-c", _WORK]) for _ in range(os.cpu_count() or 1)
    ]
    for worker in workers:
        worker.wait()
    return time.monotonic() - started
