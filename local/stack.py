"""`stack.json`: where the running stack answers, for tools and for the next command."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic.alias_generators import to_camel

from local import processes
from local.errors import NotRunningError
from local.paths import StateDirectory, write_private


class StackProcesses(BaseModel):
    """Process ids of the two servers."""

    model_config = ConfigDict(extra="ignore")

    emulator: int
    postgres: int


class Stack(BaseModel):
    """A running stack. The keys of the file are camelCase.

    `http_url` is the base of the HTTP API (append `/api/orders`), `web_socket_url` the address of
    its stream, `database_url` carries the password. `pids` is absent for a stack on LocalStack.
    """

    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True, extra="ignore")

    http_url: str
    web_socket_url: str
    database_url: str
    emulator_url: str
    stack_name: str
    region: str
    pids: StackProcesses | None = None
    outputs: dict[str, str] = Field(default_factory=dict)
    parameters: dict[str, str] = Field(default_factory=dict)

    def is_alive(self) -> bool:
        """Tell whether both servers of this stack still run (true where they are not ours)."""
        if self.pids is None:
            return True
        pids = (self.pids.emulator, self.pids.postgres)
        return all(processes.find(pid) is not None for pid in pids)


def write(state: StateDirectory, stack: Stack) -> None:
    """Write `stack.json` in one step, readable by its owner only."""
    write_private(state.stack_file, stack.model_dump_json(by_alias=True, indent=2) + "\n")


def read(state: StateDirectory) -> Stack | None:
    """Read `stack.json`; None when there is none or it is not to be understood."""
    try:
        return Stack.model_validate_json(state.stack_file.read_text(encoding="utf-8"))
    except (FileNotFoundError, ValidationError):
        return None


def read_running(state: StateDirectory) -> Stack:
    """Read the stack that runs in `state`. Raises NotRunningError when none does."""
    stack = read(state)
    if stack is None or not stack.is_alive():
        raise NotRunningError(f"No stack runs in {state.root}.", hint="Start it with: make up")
    return stack


def remove(state: StateDirectory) -> None:
    """Remove `stack.json`."""
    state.stack_file.unlink(missing_ok=True)
