"""The sides of a comparison: a commit's files, its environment, its stack."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from packaging.requirements import Requirement

from local import stack as stacks
from local.guard import stopped_with_this_process
from local.paths import REPOSITORY, StateDirectory
from local.stack import Stack

START_SECONDS = 600
STOP_SECONDS = 300
INSTALL_SECONDS = 900
LOG_TAIL_CHARACTERS = 3000
_PINNED = re.compile(r"^[A-Za-z0-9][^#\s]*==[^\\#\n]+", re.MULTILINE)


class SideError(Exception):
    """A side could not be built, started or stopped."""


@dataclass(frozen=True)
class Side:
    """One commit, ready to be started: its files and the Python that has its packages."""

    name: str
    commit: str
    folder: Path
    python: Path
    state: StateDirectory
    parameters: Mapping[str, str]


@contextmanager
def both_sides(
    commits: Mapping[str, str], parameters: Mapping[str, Mapping[str, str]]
) -> Iterator[list[Side]]:
    """Check out each commit, by the name of its side, for the length of the block."""
    with ExitStack() as stack:
        root = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="compare-")))
        sides = []
        for name, commit in commits.items():
            folder = stack.enter_context(_checked_out(commit, root / name / "code"))
            side = Side(
                name=name,
                commit=commit,
                folder=folder,
                python=_python_for(folder),
                state=StateDirectory.at(root / name / "state"),
                parameters=parameters.get(name, {}),
            )
            sides.append(side)
        yield sides


def commit_of(revision: str) -> str:
    """Return the short hash of a revision. Raises SideError when there is none."""
    return _git("rev-parse", "--short=7", f"{revision}^{{commit}}").strip()


def has_uncommitted_changes() -> bool:
    """Tell whether tracked files differ from HEAD."""
    return bool(_git("status", "--porcelain", "--untracked-files=no").strip())


@contextmanager
def running(side: Side) -> Iterator[Stack]:
    """Run the side's stack without any orders, on free ports, for the length of the block."""
    for directory in (side.state.postgres, side.state.emulator):
        shutil.rmtree(directory, ignore_errors=True)
    side.state.create()
    given = [f"--parameter={key}={value}" for key, value in side.parameters.items()]
    with stopped_with_this_process(side.state):
        try:
            _local(side, "up", "--emulator-port=0", "--postgres-port=0", *given)
            yield stacks.read_running(side.state)
        finally:
            _local(side, "down")


def unfit_packages(requirements: str) -> list[str]:
    """Return the pinned packages that this environment has not, or in another version."""
    return [
        f"{wanted.name}{wanted.specifier}"
        for wanted in map(Requirement, pinned_packages(requirements))
        if (wanted.marker is None or wanted.marker.evaluate()) and not _is_installed(wanted)
    ]


def pinned_packages(requirements: str) -> list[str]:
    """Return the requirements that a file with hashes pins, one text each."""
    return [found.strip() for found in _PINNED.findall(requirements)]


def _is_installed(wanted: Requirement) -> bool:
    try:
        return wanted.specifier.contains(version(wanted.name), prereleases=True)
    except PackageNotFoundError:
        return False


def _python_for(folder: Path) -> Path:
    """Return a Python with the packages of the folder's requirements, making one if need be."""
    requirements = (folder / "requirements.txt").read_text(encoding="utf-8")
    if not unfit_packages(requirements):
        return Path(sys.executable)
    _run(
        ["sh", "local/environment.sh"],
        folder,
        folder.with_name("environment.log"),
        INSTALL_SECONDS,
        {"PYTHON": sys.executable},
    )
    return folder / ".venv" / "bin" / "python"


def _local(side: Side, command: str, *arguments: str) -> None:
    _run(
        [str(side.python), "-m", "local", command, f"--state-dir={side.state.root}", *arguments],
        side.folder,
        side.state.root.with_name(f"{command}.log"),
        START_SECONDS if command == "up" else STOP_SECONDS,
    )


def _run(
    command: list[str],
    folder: Path,
    log: Path,
    timeout_seconds: float,
    variables: Mapping[str, str] | None = None,
) -> None:
    with log.open("w", encoding="utf-8") as output:
        try:
            subprocess.run(
                command,
                cwd=folder,
                env={**os.environ, **(variables or {})},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                timeout=timeout_seconds,
                check=True,
            )
        except (subprocess.CalledProcessError, subprocess.TimeoutExpired) as error:
            tail = log.read_text(encoding="utf-8", errors="replace")[-LOG_TAIL_CHARACTERS:]
            raise SideError(f"{error}\n{tail}") from error


@contextmanager
def _checked_out(commit: str, folder: Path) -> Iterator[Path]:
    _git("worktree", "add", "--quiet", "--detach", str(folder), commit)
    try:
        yield folder
    finally:
        _git("worktree", "remove", "--force", str(folder))


def _git(*arguments: str) -> str:
    try:
        done = subprocess.run(
            ["git", *arguments], cwd=REPOSITORY, capture_output=True, text=True, check=True
        )
    except subprocess.CalledProcessError as error:
        raise SideError(f"git {' '.join(arguments)}: {error.stderr.strip()}") from error
    return done.stdout
