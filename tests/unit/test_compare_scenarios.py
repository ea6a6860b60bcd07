"""Each scenario of a comparison, in small, against an exchange that answers at once."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest
import uvicorn

from benchmarks.compare import command, scenarios
from benchmarks.compare.rows import ROWS
from benchmarks.compare.runs import Run, Sizes
from local.stack import Stack, StackProcesses

Message = dict[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

STEP_SECONDS = 0.002
LIFE = ("pending", "routing", "submitted", "confirmed")
SIZES = Sizes(
    users=3,
    clients=3,
    first=6,
    throughput=12,
    burst=12,
    burst_clients=6,
    waiting=100,
    single_users=2,
    single_interval_seconds=0.1,
    idle_seconds=0.5,
    calm_margin_seconds=0.1,
    reads_per_second=50,
    cancels_per_second=50,
    resting=100,
    flood_seconds=0.5,
    flood_connections=4,
    history=16,
    leg=4,
    long=12,
    deadline_seconds=10,
    long_deadline_seconds=10,
)


class Exchange:
    """Take orders in over HTTP, and push their lives over WebSockets, as an ASGI application."""

    def __init__(self, refusals: int = 0) -> None:
        self._refusals = refusals
        self._sockets: dict[str, list[Send]] = {}
        self._lives: set[asyncio.Task[None]] = set()
        self._next_order = 0
        self.requests: list[tuple[str, str]] = []

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket":
            await self._listen(receive, send)
            return
        method, path = scope["method"], scope["path"]
        self.requests.append((method, path))
        body = await _body(receive)
        status, answer = self._answer(method, path, body)
        headers = [(b"content-type", b"application/json")]
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": answer})

    def _answer(self, method: str, path: str, body: bytes) -> tuple[int, bytes]:
        if path == "/docs":
            return 200, b'<link href="docs/style.css">'
        if method != "POST":
            return 200, b"{}"
        if self._refusals:
            self._refusals -= 1
            return 429, b"{}"
        self._next_order += 1
        order = {**json.loads(body), "orderId": f"order-{self._next_order}"}
        if order.get("type") != "limit":
            life = asyncio.create_task(self._live(order))
            self._lives.add(life)
            life.add_done_callback(self._lives.discard)
        return 202, json.dumps(order).encode()

    async def _live(self, order: Message) -> None:
        for seq, status in enumerate(LIFE, start=1):
            event = {
                "type": f"order.{status}",
                "orderId": order["orderId"],
                "seq": seq,
                "status": status,
                "final": status == LIFE[-1],
                "timestamp": datetime.now(UTC).isoformat(),
            }
            for send in self._sockets.get(order["userId"], []):
                await send({"type": "websocket.send", "text": json.dumps(event)})
            await asyncio.sleep(STEP_SECONDS)

    async def _listen(self, receive: Receive, send: Send) -> None:
        users: list[str] = []
        await receive()
        await send({"type": "websocket.accept"})
        while (message := await receive())["type"] == "websocket.receive":
            user_id = json.loads(message["text"])["userId"]
            users.append(user_id)
            self._sockets.setdefault(user_id, []).append(send)
            await send({"type": "websocket.send", "text": '{"type": "subscribed"}'})
        for user_id in users:
            self._sockets[user_id].remove(send)


async def _body(receive: Receive) -> bytes:
    whole = b""
    while True:
        message = await receive()
        whole += bytes(message.get("body", b""))
        if not message.get("more_body"):
            return whole


@asynccontextmanager
async def _served(exchange: Exchange) -> AsyncIterator[Stack]:
    config = uvicorn.Config(
        exchange,
        host="127.0.0.1",
        port=0,
        log_level="error",
        ws="websockets-sansio",
        lifespan="off",
    )
    server = uvicorn.Server(config)
    serving = asyncio.create_task(server.serve())
    async with asyncio.timeout(10):
        while not server.started:
            await asyncio.sleep(0.01)
    port = server.servers[0].sockets[0].getsockname()[1]
    try:
        yield Stack(
            http_url=f"http://127.0.0.1:{port}",
            web_socket_url=f"ws://127.0.0.1:{port}/live",
            database_url="",
            emulator_url="",
            stack_name="exchange",
            region="",
            pids=StackProcesses(emulator=os.getpid(), postgres=os.getpid()),
        )
    finally:
        server.should_exit = True
        await serving


async def _run(name: str, exchange: Exchange) -> Run:
    async with _served(exchange) as stack:
        run = Run(stack=stack, sizes=SIZES, note=lambda _: None)
        await scenarios.first_orders(run)
        scenario = command.SCENARIOS[name]
        if scenario is not None:
            await scenario(run)
        return run


@pytest.mark.parametrize("name", command.SCENARIOS)
def test_scenario_measures_all_of_its_rows(name: str) -> None:
    run = asyncio.run(_run(name, Exchange()))
    wanted = {row.value for row in ROWS[name]} - {"up_seconds"}
    # Memory needs samples of more than a second.
    unknown = {"long_memory_growth", "long_emulator_memory_growth"}
    assert wanted - set(run.values) <= unknown
    for row in ROWS[name]:
        if "lost" in row.label or "refus" in row.label:
            assert run.values[row.value] == 0


def test_burst_counts_refusals_and_loses_nothing() -> None:
    async def burst() -> Run:
        async with _served(Exchange(refusals=5)) as stack:
            run = Run(stack=stack, sizes=SIZES, note=lambda _: None)
            await scenarios.burst(run)
            return run

    values = asyncio.run(burst()).values
    assert (values["burst_refusals"], values["burst_failed"]) == (5, 0)


def test_order_that_nobody_takes_in_is_missing() -> None:
    async def burst() -> Run:
        async with _served(Exchange(refusals=1000)) as stack:
            sizes = replace(SIZES, deadline_seconds=1)
            run = Run(stack=stack, sizes=sizes, note=lambda _: None)
            await scenarios.burst(run)
            return run

    assert asyncio.run(burst()).values["burst_failed"] == 12


def test_flood_asks_for_pages_with_their_assets() -> None:
    exchange = Exchange()
    asyncio.run(_run("flood", exchange))
    assert ("GET", "/docs/style.css") in exchange.requests
    assert exchange.requests.count(("GET", "/docs")) > 1
