"""Clients that keep asking until they are answered, and listeners that come back when cut off."""

from __future__ import annotations

import asyncio
import json
import random
import time
import uuid
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
from tests.chaos.evidence import Acceptance, Arrival, Subscriber
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidMessage

from local.stack import Stack

Json = dict[str, Any]

# tokenIn, tokenOut, amountIn: both directions, and pools of several depths.
SWAPS = (
    ("SOL", "USDC", "1.5"),
    ("USDC", "SOL", "250"),
    ("ETH", "USDC", "0.1"),
    ("USDC", "JUP", "100"),
)
REQUEST_SECONDS = 20.0
PATIENCE_SECONDS = 180.0
RETRY_PAUSE_SECONDS = (0.2, 1.5)
# Clients at once: what the engine refuses for now holds back the orders that come after.
CLIENTS = 32
RETRY_STATUSES = frozenset({429, 500, 502, 503, 504})
# A user's stream replays the 50 newest orders, so nobody has more; a connection takes 100 topics.
ORDERS_PER_USER = 40
DIRECT_LISTENER_EVERY = 20
CANCEL_EVERY = 25
OPEN_SECONDS = 15.0
RECONNECT_SECONDS = (0.2, 1.0)
SUBSCRIBE_AGAIN_SECONDS = 10.0
SUBSCRIBE_AT_ONCE = 4
SILENCE_SECONDS = 30.0
REST_SECONDS = (5.0, 25.0)
NEVER = float("-inf")
# An order whose every attempt fails would try for a minute otherwise.
FATED_RETRIES = 1


@dataclass(frozen=True)
class LoadPlan:
    """How many orders, how many a second, and what befalls them.

    `fates` are prefixes of clientOrderIds that the mock venues obey, taken in turn; an empty one
    is no fate. Every `resting_every`th order is a limit or sniper order (0: none).
    """

    orders: int
    rate_per_second: float
    fates: Sequence[str] = ("",)
    resting_every: int = 0
    seed: int = 1


@dataclass
class Load:
    """What the clients have been told so far."""

    plan: LoadPlan
    run_id: str
    accepted: list[Acceptance] = field(default_factory=list)
    given_up: list[str] = field(default_factory=list)
    refused_requests: Counter[str] = field(default_factory=Counter)
    listeners: list[Listener] = field(default_factory=list)

    @property
    def user_prefix(self) -> str:
        """What the names of this run's users begin with."""
        return f"chaos-{self.run_id}-"

    @property
    def subscribers(self) -> list[Subscriber]:
        """Everybody who listens."""
        return [listener.subscriber for listener in self.listeners]


class Listener:
    """Hold a WebSocket connection, and open it again for what was missed whenever it breaks.

    It listens to a user (by subscription), to orders (by subscriptions on one connection) or to
    one order (by the address it connects to).
    """

    def __init__(
        self, name: str, url: str, *, user_id: str | None = None, order_id: str | None = None
    ) -> None:
        self.subscriber = Subscriber(name)
        self._url = httpx.URL(url)
        self._user_id = user_id
        self._direct_order_id = order_id
        self._topics: dict[str, float] = {}
        self._confirmed: set[str] = set()
        self._last: Counter[str] = Counter()
        self._final: set[str] = set()
        self._chance = random.Random(name)
        self._connection: ClientConnection | None = None
        if user_id is not None:
            self._topics[user_id] = NEVER
        if order_id is not None:
            self.subscriber.order_ids.add(order_id)

    def follow(self, order_id: str) -> None:
        """Listen to an order too."""
        self.subscriber.order_ids.add(order_id)
        if self._user_id is None and self._direct_order_id is None:
            self._topics.setdefault(order_id, NEVER)

    def cut(self) -> None:
        """Lose the connection, as when the network does."""
        if self._connection is not None:
            self._connection.transport.abort()

    async def run(self) -> None:
        """Listen until canceled."""
        while True:
            try:
                async with connect(
                    self._address(), open_timeout=OPEN_SECONDS, proxy=None, max_queue=None
                ) as connection:
                    await self._listen(connection)
            except (OSError, TimeoutError, ConnectionClosed, InvalidHandshake, InvalidMessage):
                pass  # as any client: wait a little, come again
            self.subscriber.reconnects += 1
            await asyncio.sleep(self._chance.uniform(*RECONNECT_SECONDS))

    def _address(self) -> str:
        if self._direct_order_id is None:
            return str(self._url)
        query = {
            "orderId": self._direct_order_id,
            "afterSeq": str(self._last[self._direct_order_id]),
        }
        return str(self._url.copy_merge_params(query))

    async def _listen(self, connection: ClientConnection) -> None:
        self._connection = connection
        self._confirmed.clear()
        self._topics = dict.fromkeys(self._topics, NEVER)
        subscribing = asyncio.create_task(self._subscribe(connection))
        try:
            async for frame in connection:
                # A function that dies over a message makes the emulator send a line of plain text.
                with suppress(ValueError):
                    self._note(json.loads(frame))
        finally:
            subscribing.cancel()
            await asyncio.gather(subscribing, return_exceptions=True)

    async def _subscribe(self, connection: ClientConnection) -> None:
        """Ask for every topic until it is confirmed, a few at a time.

        Orders whose end is known need no more, and a connection without an answer to anything is
        not worth keeping.
        """
        patience = time.monotonic() + SILENCE_SECONDS
        while time.monotonic() < patience or self._confirmed:
            now = time.monotonic()
            needed = [t for t in self._topics if t not in self._confirmed | self._final]
            asked = [t for t in needed if now - self._topics[t] <= SUBSCRIBE_AGAIN_SECONDS]
            free = max(0, SUBSCRIBE_AT_ONCE - len(asked))
            for topic in [t for t in needed if t not in asked][:free]:
                self._topics[topic] = now
                await connection.send(json.dumps(self._request(topic)))
            if not needed and self._direct_order_id is None:
                patience = now + SILENCE_SECONDS
            await asyncio.sleep(0.1)
        await connection.close()

    def _request(self, topic: str) -> Json:
        if topic == self._user_id:
            return {"action": "subscribe", "userId": topic}
        return {"action": "subscribe", "orderId": topic, "afterSeq": self._last[topic]}

    def _note(self, message: Json) -> None:
        if message.get("type") == "subscribed":
            self._confirmed.add(message.get("orderId") or message.get("userId") or "")
        elif "seq" in message:
            arrival = Arrival.of(message)
            self.subscriber.arrivals.append(arrival)
            self._last[arrival.order_id] = max(arrival.seq, self._last[arrival.order_id])
            if message["final"]:
                self._final.add(arrival.order_id)


class LoadGenerator:
    """Place the orders of a plan, and have every order listened to in two or three ways."""

    def __init__(self, stack: Stack, plan: LoadPlan) -> None:
        self.load = Load(plan, uuid.uuid4().hex[:8])
        self._stack = stack
        self._plan = plan
        self._chance = random.Random(plan.seed)
        self._tasks: list[asyncio.Task[None]] = []
        self._loop = asyncio.get_running_loop()
        self._by_user: dict[str, Listener] = {}
        self._by_batch: dict[int, Listener] = {}
        self._clients = asyncio.Semaphore(CLIENTS)

    async def place_all(self) -> None:
        """Place every order; return when each is accepted (or refused for good)."""
        limits = httpx.Limits(max_connections=64, max_keepalive_connections=16)
        async with (
            httpx.AsyncClient(
                base_url=self._stack.http_url.rstrip("/") + "/",
                timeout=REQUEST_SECONDS,
                limits=limits,
                trust_env=False,
            ) as http,
            asyncio.TaskGroup() as group,
        ):
            began_at = time.monotonic()
            for number in range(self._plan.orders):
                due_at = began_at + number / self._plan.rate_per_second
                await asyncio.sleep(max(0.0, due_at - time.monotonic()))
                group.create_task(self._live(http, number))

    def cut_sockets(self) -> None:
        """Cut off every listener; may be called from any thread."""
        for listener in list(self.load.listeners):
            self._loop.call_soon_threadsafe(listener.cut)

    async def stop_listening(self) -> None:
        """Close every listener's connection. Raises what ended a listener before."""
        for task in self._tasks:
            task.cancel()
        for ended in await asyncio.gather(*self._tasks, return_exceptions=True):
            if isinstance(ended, Exception):
                raise ended

    def listen_late(self, order_ids: Sequence[str]) -> None:
        """Have orders listened to by somebody who comes when all is over."""
        for order_id in order_ids:
            name = f"late listener of {order_id[:8]}"
            self._open(Listener(name, self._stack.web_socket_url, order_id=order_id))

    async def _live(self, http: httpx.AsyncClient, number: int) -> None:
        """Be the client of one order."""
        user_id = f"{self.load.user_prefix}{number // ORDERS_PER_USER}"
        listener = self._by_user.get(user_id)
        if listener is None:
            listener = Listener(f"listener of {user_id}", self._url, user_id=user_id)
            self._by_user[user_id] = self._open(listener)
        async with self._clients:
            order_id = await self._place(http, self._body(number, user_id), listener)
        if order_id is None:
            return
        batch = number // ORDERS_PER_USER
        if batch not in self._by_batch:
            self._by_batch[batch] = self._open(Listener(f"listener of batch {batch}", self._url))
        self._by_batch[batch].follow(order_id)
        if number % DIRECT_LISTENER_EVERY == 0:
            await asyncio.sleep(self._chance.uniform(0, 2))
            self._open(Listener(f"listener of order {number}", self._url, order_id=order_id))
        if number % CANCEL_EVERY == CANCEL_EVERY - 1:
            await asyncio.sleep(self._chance.uniform(0, 1.5))
            await self._cancel(http, order_id)

    @property
    def _url(self) -> str:
        return self._stack.web_socket_url

    def _open(self, listener: Listener) -> Listener:
        self.load.listeners.append(listener)
        self._tasks.append(asyncio.create_task(listener.run()))
        return listener

    def _body(self, number: int, user_id: str) -> Json:
        plan = self._plan
        token_in, token_out, amount_in = SWAPS[number % len(SWAPS)]
        fate = plan.fates[number % len(plan.fates)]
        prefix = f"{fate}-" if fate else ""
        body: Json = {
            "clientOrderId": f"{prefix}{self.load.run_id}-{number}",
            "userId": user_id,
            "tokenIn": token_in,
            "tokenOut": token_out,
            "amountIn": amount_in,
            "slippageTolerance": "0.05",
        }
        if fate:
            body["maxRetries"] = FATED_RETRIES
        if plan.resting_every and number % plan.resting_every == plan.resting_every - 1:
            body |= RESTING[(number // plan.resting_every) % len(RESTING)](self._expiry())
        return body

    def _expiry(self) -> str:
        rest = timedelta(seconds=self._chance.uniform(*REST_SECONDS))
        return (datetime.now(UTC) + rest).isoformat().replace("+00:00", "Z")

    async def _place(
        self, http: httpx.AsyncClient, body: Mapping[str, Any], listener: Listener
    ) -> str | None:
        """Ask until there is an answer: the clientOrderId makes it the same order each time."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        while time.monotonic() < deadline:
            status, reply = await self._request(http, "POST", "api/orders/execute", body)
            if status == httpx.codes.ACCEPTED:
                order_id = str(reply["orderId"])
                self.load.accepted.append(Acceptance(body["clientOrderId"], order_id))
                listener.follow(order_id)
                return order_id
            self.load.refused_requests[str(status or "no answer")] += 1
            if status and status not in RETRY_STATUSES:
                await self._give_up(http, body, f"{status} {reply}")
                return None
            await asyncio.sleep(self._chance.uniform(*RETRY_PAUSE_SECONDS))
        self.load.given_up.append(f"{body['clientOrderId']}: no order in {PATIENCE_SECONDS:.0f} s")
        return None

    async def _give_up(self, http: httpx.AsyncClient, body: Mapping[str, Any], why: str) -> None:
        """Note a refusal; one that came too late, for its time has passed, is no violation.

        Unless the order was stored when it was first sent: then the same order is due again.
        """
        client_order_id = body["clientOrderId"]
        path = f"api/orders/by-client-id/{client_order_id}"
        for _ in range(20):
            status, _ = await self._request(http, "GET", f"{path}?userId={body['userId']}", None)
            if status and status not in RETRY_STATUSES:
                break
            await asyncio.sleep(1)
        if status == httpx.codes.NOT_FOUND and "expiresAt" in why:
            self.load.refused_requests["too late"] += 1
        else:
            stored = "but stored" if status == httpx.codes.OK else "not stored"
            self.load.given_up.append(f"{client_order_id}: {why} ({stored})")

    async def _cancel(self, http: httpx.AsyncClient, order_id: str) -> None:
        for _ in range(5):
            status, _ = await self._request(http, "DELETE", f"api/orders/{order_id}", None)
            if status and status not in RETRY_STATUSES:
                return
            await asyncio.sleep(self._chance.uniform(*RETRY_PAUSE_SECONDS))

    async def _request(
        self, http: httpx.AsyncClient, method: str, path: str, body: Mapping[str, Any] | None
    ) -> tuple[int, Any]:
        try:
            response = await http.request(method, path, json=body)
        except httpx.TransportError:
            return 0, None
        with suppress(ValueError):
            return response.status_code, response.json()
        return response.status_code, response.text


def _marketable_limit(expires_at: str) -> Json:
    return {"type": "limit", "limitPrice": "0.000001", "expiresAt": expires_at}


def _expiring_limit(expires_at: str) -> Json:
    return {"type": "limit", "limitPrice": "1000000", "expiresAt": expires_at}


def _sniper_of_open_pool(expires_at: str) -> Json:
    return {
        "type": "sniper",
        "expiresAt": expires_at,
        "trigger": {"type": "poolCreated", "allowExisting": True},
    }


RESTING: Sequence[Callable[[str], Json]] = (
    _marketable_limit,
    _expiring_limit,
    _sniper_of_open_pool,
)
