"""Stop a test's servers when the test run itself is killed."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from local.paths import REPOSITORY, StateDirectory

# `cat` ends when this process does, however it ends: the system closes the pipe.
_SCRIPT = 'cat >/dev/null; exec "$@"'


@contextmanager
def stopped_with_this_process(state: StateDirectory) -> Iterator[None]:
    """Have `down` run for `state` if this process ends inside the block without leaving it."""
    down = [sys.executable, "-m", "local", "down", "--state-dir", str(state.root)]
    guard = subprocess.Popen(
        ["/bin/sh", "-c", _SCRIPT, "guard", *down],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        cwd=REPOSITORY,
        # Not among those who are interrupted with the test run.
        start_new_session=True,
    )
    try:
        yield
    finally:
        guard.kill()
        guard.communicate()
