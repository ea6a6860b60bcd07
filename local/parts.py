"""Run every part of `make test`, whatever becomes of the one before, and say what came of each."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Part:
    """One part that has run: its name, its exit code, and how long it took."""

    name: str
    exit_code: int
    seconds: float


def run_all(names: Sequence[str], make: Sequence[str] = ("make", "--no-print-directory")) -> int:
    """Make each target in turn, print the sum, and return 1 when any of them failed."""
    parts = []
    for name in names:
        started = time.monotonic()
        result = subprocess.run([*make, name], check=False)
        parts.append(Part(name, result.returncode, time.monotonic() - started))
    for line in sum_of(parts):
        print(line, flush=True)
    return int(any(part.exit_code for part in parts))


def sum_of(parts: Sequence[Part]) -> list[str]:
    """Return the lines that say what came of the parts."""
    lines = [
        f"  {part.name:<12} {'failed' if part.exit_code else 'passed':<8} {part.seconds:7.0f} s"
        for part in parts
    ]
    failed = sum(1 for part in parts if part.exit_code)
    verdict = f"{failed} of {len(parts)} failed" if failed else "all passed"
    return ["", *lines, f"  {verdict} in {sum(part.seconds for part in parts):.0f} s"]


if __name__ == "__main__":
    sys.exit(run_all(sys.argv[1:]))
