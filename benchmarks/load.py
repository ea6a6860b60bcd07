"""Generate load: clients that submit orders, listeners that note what they are told and when.

Every instant is `time.time()` of this machine, which is also the clock of the events' timestamps.
"""

from __future__ import annotations

import asyncio
import json
import random
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

CONNECT_SECONDS = 30
CONNECTING_AT_ONCE = 10
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


# An order at rest sells at a price that no market pays, and ends long after any measurement.
UNREACHABLE_PRICE = "100000"
REST_HOURS = 24


@dataclass(frozen=True)
class LoadPlan:
    """What to submit and how: `orders` in all, at most `clients` requests under way at once.

    The orders belong to `users` in turn, each of whom has `listeners` to all his orders. With
    `interval_seconds` each user submits one order every so many seconds, whatever became of the
    last one. Orders `at_rest` are limit orders that stay open; their end is not waited for.
    """

    orders: int
    clients: int
    listeners: int = 1
    deadline_seconds: float = 180.0
    slippage: str = "0.01"
    users: int = 1
    interval_seconds: float | None = None
    at_rest: bool = False


@dataclass(frozen=True)
class Submission:
    """One order's way in. `order_id` is None when no answer but a refusal came in time.

    An order of a paced plan begins when it is due, even if no client was free then.
    """

    client_order_id: str
    order_id: str | None
    began_at: float
    answered_at: float
    refusals: tuple[int, ...] = ()
    user_id: str = ""

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
    user_ids: tuple[str, ...]
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
    """What one listener of each user has got, by order, and the orders whose end it knows."""

    arrivals: dict[str, list[Arrival]]
    final: set[str]


class LoadGenerator:
    """Run one plan against a running stack, for users of its own or for those that are named."""

    def __init__(
        self,
        http_url: str,
        web_socket_url: str,
        plan: LoadPlan,
        run_id: str,
        user_ids: Sequence[str] = (),
    ) -> None:
        self._orders_url = f"{http_url.rstrip('/')}/api/orders/execute"
        self._web_socket_url = web_socket_url
        self._plan = plan
        self._run_id = run_id
        own_ids = [f"bench-{run_id}-{number}" for number in range(plan.users)]
        self.recording = Recording(plan, user_ids=tuple(user_ids or own_ids))
        self._listeners = [_Listener({}, set()) for _ in range(plan.listeners)]
        self.recording.arrivals.extend(listener.arrivals for listener in self._listeners)
        self._deadline = 0.0
        self._progress = asyncio.Event()
        self._stopped = asyncio.Event()

    def stop(self) -> None:
        """Begin no further order; those under way are followed to their end."""
        self._stopped.set()

    def counts(self) -> tuple[int, int]:
        """Return how many orders are submitted, and the end of how many every listener knows."""
        ended = min((len(listener.final) for listener in self._listeners), default=0)
        return len(self.recording.submissions), ended

    async def run(self) -> Recording:
        """Submit every order and listen until all are final or the deadline has passed."""
        recording = self.recording
        async with AsyncExitStack() as stack:
            await self._connect_all(stack)
            recording.began_at = time.time()
            self._deadline = recording.began_at + self._plan.deadline_seconds
            await self._submit_all()
            if not self._plan.at_rest:
                await self._await_ends()
            recording.ended_at = time.time()
        return recording

    async def _connect_all(self, stack: AsyncExitStack) -> None:
        turns = asyncio.Semaphore(CONNECTING_AT_ONCE)

        async def connect_one(listener: _Listener, user_id: str) -> None:
            async with turns:
                await stack.enter_async_context(self._listening(listener, user_id))

        await asyncio.gather(
            *(
                connect_one(listener, user_id)
                for listener in self._listeners
                for user_id in self.recording.user_ids
            )
        )

    async def _await_ends(self) -> None:
        accepted = {submission.order_id for submission in self.recording.accepted}
        try:
            async with asyncio.timeout(self._deadline - time.time()):
                while not all(accepted <= listener.final for listener in self._listeners):
                    self._progress.clear()
                    await self._progress.wait()
        except TimeoutError:
            pass  # what is missing shows in the figures as lost

    async def _submit_all(self) -> None:
        numbers = iter(range(self._plan.orders))
        limits = httpx.Limits(
            max_connections=self._plan.clients, max_keepalive_connections=self._plan.clients
        )
        async with httpx.AsyncClient(timeout=POST_SECONDS, limits=limits, trust_env=False) as http:
            await asyncio.gather(*(self._client(http, numbers) for _ in range(self._plan.clients)))

    async def _client(self, http: httpx.AsyncClient, numbers: Iterator[int]) -> None:
        for number in numbers:
            due_at = await self._await_turn(number)
            if self._stopped.is_set() or time.time() >= self._deadline:
                return
            self.recording.submissions.append(await self._submit(http, number, due_at))

    async def _await_turn(self, number: int) -> float:
        """Wait until a paced order is due, or all is stopped. Return when it begins."""
        if self._plan.interval_seconds is None:
            return time.time()
        pause = self._plan.interval_seconds / len(self.recording.user_ids)
        due_at = self.recording.began_at + number * pause
        try:
            async with asyncio.timeout(max(0.0, min(due_at, self._deadline) - time.time())):
                await self._stopped.wait()
        except TimeoutError:
            pass
        return due_at

    async def _submit(self, http: httpx.AsyncClient, number: int, began_at: float) -> Submission:
        """Submit one order; its id makes it safe to ask again when the answer was no answer."""
        body = self._body(number)
        refusals: list[int] = []
        order_id: str | None = None
        while time.time() < self._deadline:
            status, reply = await self._post(http, body)
            if status == httpx.codes.ACCEPTED:
                order_id = str(reply["orderId"])
                break
            refusals.append(status)
            if status and status not in RETRY_STATUSES:
                break
            pause = min(RETRY_PAUSE_SECONDS * 2 ** len(refusals), LONGEST_RETRY_PAUSE_SECONDS)
            await asyncio.sleep(pause * random.uniform(0.5, 1))
        return Submission(
            body["clientOrderId"],
            order_id,
            began_at,
            time.time(),
            tuple(refusals),
            body["userId"],
        )

    def _body(self, number: int) -> dict[str, str]:
        token_in, token_out, amount_in = SWAPS[0 if self._plan.at_rest else number % len(SWAPS)]
        body = {
            "clientOrderId": f"{self._run_id}-{number}",
            "userId": self.recording.user_ids[number % len(self.recording.user_ids)],
            "tokenIn": token_in,
            "tokenOut": token_out,
            "amountIn": amount_in,
            "slippageTolerance": self._plan.slippage,
        }
        if not self._plan.at_rest:
            return body
        expires_at = datetime.now(UTC) + timedelta(hours=REST_HOURS)
        resting = {"limitPrice": UNREACHABLE_PRICE, "expiresAt": expires_at.isoformat()}
        return {**body, "type": "limit", **resting}

    async def _post(self, http: httpx.AsyncClient, body: dict[str, str]) -> tuple[int, Any]:
        try:
            response = await http.post(self._orders_url, json=body)
        except httpx.TransportError:
            return 0, None
        return response.status_code, response.json() if response.is_success else None

    @asynccontextmanager
    async def _listening(self, listener: _Listener, user_id: str) -> AsyncIterator[None]:
        """Hold a stream of all the user's orders open and note what arrives."""
        subscribed = asyncio.Event()
        listening = asyncio.create_task(self._listen(listener, user_id, subscribed))
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

    async def _listen(self, listener: _Listener, user_id: str, subscribed: asyncio.Event) -> None:
        """Read the stream; when it breaks, connect again and ask for what was missed."""
        async for connection in connect(
            self._web_socket_url, open_timeout=CONNECT_SECONDS, proxy=None, max_queue=None
        ):
            try:
                for subscription in self._subscriptions(listener, user_id):
                    await connection.send(json.dumps(subscription))
                async for frame in connection:
                    self._note(listener, json.loads(frame), time.time(), subscribed)
            except ConnectionClosed:
                pass
            self.recording.disconnects += 1

    def _subscriptions(self, listener: _Listener, user_id: str) -> Iterator[dict[str, Any]]:
        yield {"action": "subscribe", "userId": user_id}
        for submission in self.recording.accepted:
            order_id = submission.order_id
            if order_id and submission.user_id == user_id and order_id not in listener.final:
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
