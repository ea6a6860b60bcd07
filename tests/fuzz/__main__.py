"""Fuzz the running stack: `make fuzz`."""

from __future__ import annotations

import argparse
import random
import sys
import time
from pathlib import Path

from tests.fuzz.fuzzing import fuzz

from local import stack
from local.paths import DEFAULT_STATE_DIRECTORY, StateDirectory

EXAMPLES = 600
"""Per operation; with the ones that cover every bound of the document some 5,500 requests."""


def main() -> int:
    """Send the requests and print what came of them; 1 for anything amiss."""
    options = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    options.add_argument("--state-dir", type=Path, default=DEFAULT_STATE_DIRECTORY)
    options.add_argument("--examples", type=int, default=EXAMPLES, help="per operation")
    options.add_argument("--seed", type=int, default=random.randrange(2**32))
    given = options.parse_args()
    running = stack.read_running(StateDirectory.at(given.state_dir))
    started = time.monotonic()
    outcome = fuzz(running.http_url, examples=given.examples, seed=given.seed)
    minutes = (time.monotonic() - started) / 60
    if not outcome.is_faultless:
        print(outcome.report)
    print(outcome.table())
    found = "no fault" if outcome.is_faultless else "FAULTS"
    blamed = outcome.server_errors
    print(
        f"\n{outcome.requests} requests in {minutes:.1f} min: {blamed} server errors, "
        f"{found} found (seed {given.seed})"
    )
    return 0 if outcome.is_faultless and not outcome.server_errors else 1


if __name__ == "__main__":
    sys.exit(main())
