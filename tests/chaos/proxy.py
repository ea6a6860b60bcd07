"""A reverse proxy between the functions and the emulator, whose faults a test switches.

Functions reach AWS at the address in `AWS_ENDPOINT_URL`. With the proxy's address there, single
calls can be refused, or answered by nobody, while the product's code stays as it is.
"""

from __future__ import annotations

import asyncio
import json
import random
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import Any, Self

from local.ports import HOST

START_SECONDS = 10
MAX_HEADER_BYTES = 256 * 1024


@dataclass(frozen=True)
class Request:
    """A request to AWS: `target` is the JSON protocols' operation, as `AWSStepFunctions.X`."""

    method: str
    path: str
    target: str
    body: bytes

    @property
    def operation(self) -> str:
        """The operation's name without its service."""
        return self.target.rpartition(".")[2]

    def json(self) -> Any:
        """The body of a request of the JSON protocols."""
        return json.loads(self.body or b"{}")


class Effect(Enum):
    """What becomes of a request.

    `REFUSE`: the service answers an error and does nothing. `CUT`: the connection breaks and
    nothing happens. `LOSE_ANSWER`: the service does it, and the connection breaks.
    """

    REFUSE = auto()
    CUT = auto()
    LOSE_ANSWER = auto()


@dataclass
class Fault:
    """Strike the requests that match, each with the probability; `struck` counts."""

    matches: Callable[[Request], bool]
    effects: tuple[Effect, ...] = (Effect.REFUSE,)
    probability: float = 1.0
    status: int = 500
    code: str = "InternalServerError"
    struck: int = 0

    def choose(self, request: Request, chance: random.Random) -> Effect | None:
        """Decide what becomes of a request; None leaves it alone."""
        if not self.matches(request) or chance.random() >= self.probability:
            return None
        self.struck += 1
        return chance.choice(self.effects)

    def answer(self) -> bytes:
        """Word the refusal as AWS does."""
        body = json.dumps({"__type": self.code, "message": "refused by the chaos run"}).encode()
        return (
            f"HTTP/1.1 {self.status} Refused\r\n"
            "Content-Type: application/x-amz-json-1.0\r\n"
            f"x-amzn-ErrorType: {self.code}\r\n"
            f"Content-Length: {len(body)}\r\n\r\n"
        ).encode() + body


@dataclass
class _Head:
    """The first lines of a request or an answer."""

    raw: bytes
    first: list[str]
    fields: dict[str, str]

    @property
    def length(self) -> int:
        return int(self.fields.get("content-length") or 0)

    @property
    def is_chunked(self) -> bool:
        return "chunked" in self.fields.get("transfer-encoding", "").lower()


@dataclass
class FaultProxy:
    """Forward to the emulator's port on this machine; runs in a thread of its own."""

    upstream_port: int
    seed: int = 0
    port: int = 0
    requests: int = 0
    observers: list[Callable[[Request, int], None]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._faults: tuple[Fault, ...] = ()
        self._chance = random.Random(self.seed)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._server: asyncio.Server | None = None

    @property
    def url(self) -> str:
        """The endpoint to give to the functions."""
        return f"http://{HOST}:{self.port}"

    def __enter__(self) -> Self:
        self._thread.start()
        self._run(self._listen()).result(START_SECONDS)
        return self

    def __exit__(self, *_: object) -> None:
        self._run(self._close()).result(START_SECONDS)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(START_SECONDS)
        self._loop.close()

    def add(self, fault: Fault) -> None:
        """Let a fault strike from now on."""
        self._faults = (*self._faults, fault)

    def remove(self, fault: Fault) -> None:
        """Let it strike no longer."""
        self._faults = tuple(active for active in self._faults if active is not fault)

    @contextmanager
    def striking(self, fault: Fault) -> Iterator[Fault]:
        """Let a fault strike for the length of the block."""
        self.add(fault)
        try:
            yield fault
        finally:
            self.remove(fault)

    def _run(self, work: Any) -> Future[Any]:
        return asyncio.run_coroutine_threadsafe(work, self._loop)

    async def _listen(self) -> None:
        self._server = await asyncio.start_server(
            self._serve, HOST, self.port, limit=MAX_HEADER_BYTES, backlog=1024
        )
        self.port = self._server.sockets[0].getsockname()[1]

    async def _close(self) -> None:
        if self._server is not None:
            self._server.close()
        current = asyncio.current_task()
        tasks = [task for task in asyncio.all_tasks() if task is not current]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        relay = _Relay(self.upstream_port)
        try:
            while (head := await _read_head(reader)) is not None:
                answer = await self._answer(relay, head, await _read_body(reader, head))
                if answer is None:
                    return
                writer.write(answer)
                await writer.drain()
        except (OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass  # the emulator or the function is gone: so is the other's connection, below
        finally:
            relay.close()
            with suppress(OSError, RuntimeError):
                writer.transport.abort()

    async def _answer(self, relay: _Relay, head: _Head, body: bytes) -> bytes | None:
        """Have a request answered; None: by nobody."""
        self.requests += 1
        request = _request_of(head, body)
        fault, effect = self._fate_of(request)
        if fault is not None and effect is Effect.REFUSE:
            return fault.answer()
        if effect is Effect.CUT:
            return None
        status, answer = await relay.forward(head.raw + body)
        for observer in self.observers:
            observer(request, status)
        return None if effect is Effect.LOSE_ANSWER else answer

    def _fate_of(self, request: Request) -> tuple[Fault | None, Effect | None]:
        for fault in self._faults:
            if effect := fault.choose(request, self._chance):
                return fault, effect
        return None, None


class _Relay:
    """The connection to the emulator that belongs to one of a function's."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._reader: asyncio.StreamReader | None = None
        self._writer: asyncio.StreamWriter | None = None

    async def forward(self, request: bytes) -> tuple[int, bytes]:
        """Return the answer's status and the answer. Raises OSError, IncompleteReadError."""
        reader, writer = await self._connected()
        writer.write(request)
        await writer.drain()
        head = await _read_head(reader)
        if head is None:
            raise ConnectionResetError
        return int(head.first[1]), head.raw + await _read_body(reader, head)

    def close(self) -> None:
        """Break the connection, if there is one."""
        if self._writer is not None:
            with suppress(OSError, RuntimeError):
                self._writer.transport.abort()

    async def _connected(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        # An idle connection that the emulator has closed is no fault of this request.
        if self._reader is None or self._writer is None or self._reader.at_eof():
            self.close()
            self._reader, self._writer = await asyncio.open_connection(
                HOST, self._port, limit=MAX_HEADER_BYTES
            )
        return self._reader, self._writer


async def _read_head(reader: asyncio.StreamReader) -> _Head | None:
    """Read up to the empty line; None when the other side has closed."""
    try:
        raw = await reader.readuntil(b"\r\n\r\n")
    except asyncio.IncompleteReadError as error:
        if error.partial:
            raise
        return None
    first, *lines = raw.decode("latin-1").split("\r\n")
    fields = {}
    for line in lines:
        name, colon, value = line.partition(":")
        if colon:
            fields[name.strip().lower()] = value.strip()
    return _Head(raw, first.split(" ", 2), fields)


async def _read_body(reader: asyncio.StreamReader, head: _Head) -> bytes:
    if not head.is_chunked:
        return await reader.readexactly(head.length)
    parts = []
    while True:
        line = await reader.readline()
        size = int(line.split(b";")[0], 16)
        parts += [line, await reader.readexactly(size + 2)]
        if size == 0:
            return b"".join(parts)


def _request_of(head: _Head, body: bytes) -> Request:
    method, path, *_ = head.first
    return Request(method, path, head.fields.get("x-amz-target", ""), body)


# What to strike


def starts_of(state_machine_arn: str) -> Callable[[Request], bool]:
    """Match the starts of a state machine's executions."""

    def matches(request: Request) -> bool:
        return (
            request.target == "AWSStepFunctions.StartExecution"
            and request.json().get("stateMachineArn") == state_machine_arn
        )

    return matches


def event_writes_to(table: str) -> Callable[[Request], bool]:
    """Match the writes of events into the order stream."""

    def matches(request: Request) -> bool:
        if not request.target.startswith("DynamoDB_") or b"event#" not in request.body:
            return False
        asked = request.json()
        if request.operation == "PutItem":
            return bool(asked.get("TableName") == table)
        return request.operation == "TransactWriteItems" and any(
            action.get("Put", {}).get("TableName") == table for action in asked["TransactItems"]
        )

    return matches


def posts_to_connections(request: Request) -> bool:
    """Match what `publish` sends to WebSocket connections."""
    return request.method == "POST" and "/@connections/" in request.path


def puts_into(table: str) -> Callable[[Request], bool]:
    """Match single writes into a table."""

    def matches(request: Request) -> bool:
        return (
            request.operation == "PutItem"
            and request.target.startswith("DynamoDB_")
            and request.json().get("TableName") == table
        )

    return matches
