"""What can go wrong on a laptop, told so that the reader knows what to do next."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

# The functions run on this very Python, so it must be one of the template's Lambda runtimes.
PYTHON_VERSIONS = ((3, 12), (3, 13))
LEAST_FREE_BYTES = 1_000_000_000


class LocalRuntimeError(Exception):
    """A fault of the laptop's own, with the way out of it.

    `hint` says what the reader can do; `log` is the file with the details.
    """

    def __init__(self, message: str, *, hint: str = "", log: Path | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.log = log


class PortTakenError(LocalRuntimeError):
    """Another program listens on a port that the stack needs."""


class DiskFullError(LocalRuntimeError):
    """The disk has no room for the stack's data."""


class StartFailedError(LocalRuntimeError):
    """A part of the stack ended, or did not answer in time, while it started."""


class DeployFailedError(LocalRuntimeError):
    """`sam build` or `sam deploy` ended with an error."""


class NotRunningError(LocalRuntimeError):
    """A command needs a running stack and there is none."""


class BusyError(LocalRuntimeError):
    """Another command is starting or stopping the same stack."""


def require_python(version: tuple[int, int] = sys.version_info[:2]) -> None:
    """Check that this interpreter can run the functions. Raises LocalRuntimeError."""
    if version not in PYTHON_VERSIONS:
        raise LocalRuntimeError(
            f"Python {version[0]}.{version[1]} runs this, and the functions need 3.13 or 3.12.",
            hint="Make the environment with one of these: make up PYTHON=/path/to/python3.13",
        )


def require_free_space(directory: Path, least_bytes: int = LEAST_FREE_BYTES) -> None:
    """Check that `directory`'s disk has room for the stack. Raises DiskFullError."""
    free_bytes = shutil.disk_usage(directory).free
    if free_bytes < least_bytes:
        raise DiskFullError(
            f"Only {free_bytes / 1e6:,.0f} MB are free on the disk of {directory}; "
            f"the stack needs {least_bytes / 1e6:,.0f} MB.",
            hint="Free some space, or keep the stack elsewhere: make up STATE_DIR=/elsewhere",
        )


def tells_full_disk(text: str) -> bool:
    """Tell whether a program's output says that the disk is full."""
    return "No space left on device" in text or "Check free disk space" in text


def log_tail(log: Path, lines: int = 15) -> str:
    """Read the last lines of a log file, or nothing when it cannot be read."""
    try:
        text = log.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
    return "\n".join(text.splitlines()[-lines:])
