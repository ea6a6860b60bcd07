"""Processes of a stack: is it still ours, and stop it for good."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from pathlib import Path

import psutil

STATE_DIRECTORY_VARIABLE = "ORDER_ENGINE_STATE_DIRECTORY"


def is_alive(process: psutil.Process) -> bool:
    """Tell whether `process` still runs (a zombie does not)."""
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def find(pid: int) -> psutil.Process | None:
    """Return the living process `pid`, or None."""
    try:
        process = psutil.Process(pid)
    except (psutil.NoSuchProcess, ValueError):
        return None
    return process if is_alive(process) else None


def marked_with(root: Path) -> Iterator[psutil.Process]:
    """Find every process that was started for the state directory `root`.

    Children inherit the mark in their environment, so orphans of a killed parent are found too,
    and a process id that the system has given to somebody else is not.
    """
    for process in psutil.process_iter():
        if process.pid == os.getpid():
            continue
        try:
            marked = process.environ().get(STATE_DIRECTORY_VARIABLE) == str(root)
        except (psutil.Error, OSError):
            continue
        if marked and is_alive(process):
            yield process


def working_in(directory: Path, name: str) -> Iterator[psutil.Process]:
    """Find the processes called `name` whose working directory is `directory`."""
    for process in psutil.process_iter(["name"]):
        if not (process.info["name"] or "").startswith(name):
            continue
        try:
            works_there = Path(process.cwd()) == directory
        except (psutil.Error, OSError):
            continue
        if works_there and is_alive(process):
            yield process


def stop(process: psutil.Process, signal_number: int, *, patience_seconds: float) -> bool:
    """Signal `process` and wait for its end. Tell whether it ended in time."""
    try:
        process.send_signal(signal_number)
        process.wait(timeout=patience_seconds)
    except psutil.NoSuchProcess:
        return True
    except psutil.TimeoutExpired:
        return not is_alive(process)
    return True


def kill_all(victims: Iterable[psutil.Process], *, patience_seconds: float = 5) -> int:
    """Kill the processes at once and wait for their end. Return how many there were."""
    doomed = list(victims)
    for process in doomed:
        try:
            process.kill()
        except psutil.NoSuchProcess:
            continue
    psutil.wait_procs(doomed, timeout=patience_seconds)
    return len(doomed)
