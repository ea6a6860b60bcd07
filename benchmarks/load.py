"""Generate load: clients that submit orders, listeners that note what they are told and when.

Every instant is `time.time()` of this machine, which is also the clock of the events' timestamps.
"""

from __future__ import annotations

import asyncio
import json
import random
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import httpx
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

CONNECT_SECONDS = 30
POST_SECONDS = 60
# As a client that honors `Retry-After` does, though in smaller steps: 429 and 503 are no answers.
RETRY_STATUSES = frozenset({429, 500, 502, 503, 504})
RETRY_PAUSE_SECONDS = 0.25
LONGEST_RETRY_PAUSE_SECONDS = 5.0
# tokenIn, tokenOut, amountIn: both directions, and pools of several depths.
SWAPS = (
    ("SOL", "USDC", "1.5"),
    ("USDC", "SOL", "250"),
    ("ETH", "USDC", "0.1"),
    ("USDC", "JUP", "100"),
)


@dataclass(frozen=True)
class LoadPlan:
    """What to submit and how: `orders` in all, at most `clients` requests under way at once."""

    orders: int
    clients: int
    listeners: int = 1
    deadline_seconds: float = 180.0
    slippage: str = "0.01"


@dataclass(frozen=True)
class Submission:
    """One order's way in. `order_id` is None when no answer but a refusal came in time."""

    client_order_id: str
    order_id: str | None
    began_at: float
    answered_at: float
    refusals: tuple[int, ...] = ()

    @property
    def seconds(self) -> float:
        """From the beginning of the first request to the end of the answer."""
        return self.answered_at - self.began_at


@dataclass(frozen=True)
class Arrival:
    """One event as a listener got it."""

    seq: int
    status: str
    final: bool
    happened_at: float
    received_at: float
    failure_code: str | None = None


@dataclass
class Recording:
    """What the clients and the listeners saw of one run."""

    plan: LoadPlan
    user_id: str
    began_at: float = 0.0
    ended_at: float = 0.0
    submissions: list[Submission] = field(default_factory=list)
    arrivals: list[dict[str, list[Arrival]]] = field(default_factory=list)
    disconnects: int = 0

    @property
    def accepted(self) -> list[Submission]:
        """The submissions that were answered with an order."""
        return [submission for submission in self.submissions if submission.order_id]


@dataclass
class _Listener:
    """What one listener has got, by order, and the orders whose end it knows."""

    arrivals: dict[str, list[Arrival]]
    final: set[str]


class LoadGenerator:
    """Run one plan against a running stack."""

    def __init__(self, http_url: str, web_socket_url: str, plan: LoadPlan, run_id: str) -> None:
        self._orders_url = f"{http_url.rstrip('/')}/api/orders/execute"
        self._web_socket_url = web_socket_url
        self._plan = plan
        self._run_id = run_id
        self._recording = Recording(plan, user_id=f"bench-{run_id}")
        self._final: list[set[str]] = []
        self._progress = asyncio.Event()

    async def run(self) -> Recording:
        """Submit every order and listen until all are final or the deadline has passed."""
        recording = self._recording
        async with AsyncExitStack() as stack:
            for _ in range(self._plan.listeners):
                await stack.enter_async_context(self._listening())
            recording.began_at = time.time()
            deadline = asyncio.get_running_loop().time() + self._plan.deadline_seconds
            await self._submit_all()
            accepted = {submission.order_id for submission in recording.accepted}
            try:
                async with asyncio.timeout_at(deadline):
                    while not all(accepted <= final for final in self._final):
                        self._progress.clear()
                        await self._progress.wait()
            except TimeoutError:
                pass  # what is missing shows in the figures as lost
            recording.ended_at = time.time()
        return recording

    async def _submit_all(self) -> None:
        numbers = iter(range(self._plan.orders))
        limits = httpx.Limits(
            max_connections=self._plan.clients, max_keepalive_connections=self._plan.clients
        )
        async with httpx.AsyncClient(timeout=POST_SECONDS, limits=limits, trust_env=False) as http:
            await asyncio.gather(*(self._client(http, numbers) for _ in range(self._plan.clients)))

    async def _client(self, http: httpx.AsyncClient, numbers: Iterator[int]) -> None:
        for number in numbers:
            self._recording.submissions.append(await self._submit(http, number))

    async def _submit(self, http: httpx.AsyncClient, number: int) -> Submission:
        """Submit one order; its id makes it safe to ask again when the answer was no answer."""
        client_order_id = f"{self._run_id}-{number}"
        token_in, token_out, amount_in = SWAPS[number % len(SWAPS)]
        body = {
            "clientOrderId": client_order_id,
            "userId": self._recording.user_id,
            "tokenIn": token_in,
            "tokenOut": token_out,
            "amountIn": amount_in,
            "slippageTolerance": self._plan.slippage,
        }
        refusals: list[int] = []
        began_at = time.time()
        while time.time() - began_at < self._plan.deadline_seconds:
            status, reply = await self._post(http, body)
            if status == httpx.codes.ACCEPTED:
                order_id = str(reply["orderId"])
                return Submission(client_order_id, order_id, began_at, time.time(), tuple(refusals))
            refusals.append(status)
            if status and status not in RETRY_STATUSES:
                break
            pause = min(RETRY_PAUSE_SECONDS * 2 ** len(refusals), LONGEST_RETRY_PAUSE_SECONDS)
            await asyncio.sleep(pause * random.uniform(0.5, 1))
        return Submission(client_order_id, None, began_at, time.time(), tuple(refusals))

    async def _post(self, http: httpx.AsyncClient, body: dict[str, str]) -> tuple[int, Any]:
        try:
            response = await http.post(self._orders_url, json=body)
        except httpx.TransportError:
            return 0, None
        return response.status_code, response.json() if response.is_success else None

    @asynccontextmanager
    async def _listening(self) -> AsyncIterator[None]:
        """Hold a stream of all the run's orders open and note what arrives."""
        listener = _Listener({}, set())
        self._recording.arrivals.append(listener.arrivals)
        self._final.append(listener.final)
        subscribed = asyncio.Event()
        listening = asyncio.create_task(self._listen(listener, subscribed))
        waiting = asyncio.create_task(subscribed.wait())
        try:
            async with asyncio.timeout(CONNECT_SECONDS):
                await asyncio.wait({listening, waiting}, return_when=asyncio.FIRST_COMPLETED)
            if listening.done():
                listening.result()
            yield
        finally:
            for task in (listening, waiting):
                task.cancel()
            await asyncio.gather(listening, waiting, return_exceptions=True)

    async def _listen(self, listener: _Listener, subscribed: asyncio.Event) -> None:
        """Read the stream; when it breaks, connect again and ask for what was missed."""
        async for connection in connect(
            self._web_socket_url, open_timeout=CONNECT_SECONDS, proxy=None, max_queue=None
        ):
            try:
                for subscription in self._subscriptions(listener):
                    await connection.send(json.dumps(subscription))
                async for frame in connection:
                    self._note(listener, json.loads(frame), time.time(), subscribed)
            except ConnectionClosed:
                pass
            self._recording.disconnects += 1

    def _subscriptions(self, listener: _Listener) -> Iterator[dict[str, Any]]:
        yield {"action": "subscribe", "userId": self._recording.user_id}
        for submission in self._recording.accepted:
            order_id = submission.order_id
            if order_id and order_id not in listener.final:
                after_seq = max((a.seq for a in listener.arrivals.get(order_id, ())), default=0)
                yield {"action": "subscribe", "orderId": order_id, "afterSeq": after_seq}

    def _note(
        self,
        listener: _Listener,
        message: dict[str, Any],
        received_at: float,
        subscribed: asyncio.Event,
    ) -> None:
        if message.get("type") == "subscribed":
            subscribed.set()
        if "seq" not in message:
            return
        arrival = Arrival(
            seq=message["seq"],
            status=message["status"],
            final=message["final"],
            happened_at=datetime.fromisoformat(message["timestamp"]).timestamp(),
            received_at=received_at,
            failure_code=(message.get("failure") or {}).get("code"),
        )
        listener.arrivals.setdefault(message["orderId"], []).append(arrival)
        if arrival.final:
            listener.final.add(message["orderId"])
            self._progress.set()
