"""Where a stack keeps what it keeps: everything below one state directory."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parent.parent
DEFAULT_STATE_DIRECTORY = REPOSITORY / ".local"
DEFAULT_TEMPLATE = REPOSITORY / "template.yaml"


@dataclass(frozen=True)
class StateDirectory:
    """The files of one stack. Two stacks with different roots share nothing."""

    root: Path

    @classmethod
    def at(cls, path: Path | str) -> StateDirectory:
        """Name the state directory at `path` (made absolute; nothing is created)."""
        return cls(Path(path).expanduser().absolute())

    @property
    def stack_file(self) -> Path:
        """The running stack's URLs and process ids, for tools."""
        return self.root / "stack.json"

    @property
    def ports_file(self) -> Path:
        """The ports that the servers last ran on."""
        return self.root / "ports.json"

    @property
    def lock_file(self) -> Path:
        """Held while a command starts or stops this stack."""
        return self.root / "lock"

    @property
    def postgres(self) -> Path:
        """Postgres: its data, password and log."""
        return self.root / "postgres"

    @property
    def emulator(self) -> Path:
        """The emulator: its saved state, S3 objects, temporary files and log."""
        return self.root / "emulator"

    @property
    def deploy(self) -> Path:
        """What `sam` makes and logs."""
        return self.root / "deploy"

    def create(self) -> None:
        """Create the root, readable by its owner (it holds the database password)."""
        self.root.mkdir(parents=True, exist_ok=True)


def make_private(path: Path) -> None:
    """Let only the owner read `path`."""
    path.chmod(0o600)


def write_private(path: Path, text: str) -> None:
    """Write `path` in one step, readable by its owner only."""
    unfinished = path.with_name(f".{path.name}.{os.getpid()}")
    unfinished.touch(mode=0o600)
    unfinished.write_text(text, encoding="utf-8")
    unfinished.replace(path)
