"""Requests at a steady rate: probes that measure what others feel, and floods."""

from __future__ import annotations

import asyncio
import re
import ssl
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urljoin

import httpx
from pydantic import BaseModel, ConfigDict
from pydantic.alias_generators import to_camel

from benchmarks.figures import percentile_ms

ANSWER_SECONDS = 30.0
MOST_ASSETS = 20
# The URLs are plain HTTP. To read the certificate authorities for each client would take a tenth of
# a second in which no request is sent.
NO_AUTHORITIES = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
_LINK = re.compile(r'(?:src|href)="([^"]+)"')


@dataclass(frozen=True)
class Request:
    """One request to send."""

    method: str
    path: str
    body: dict[str, Any] | None = None


class Answer(BaseModel):
    """How a request was answered: status 0 when it was not, within 30 seconds."""

    model_config = ConfigDict(frozen=True, alias_generator=to_camel, populate_by_name=True)

    at_seconds: float
    latency_ms: float
    status: int

    @property
    def is_refused(self) -> bool:
        """Tell whether the request was turned away, or the server was at fault."""
        return self.status in (0, httpx.codes.TOO_MANY_REQUESTS) or self.status >= 500


class RequestStream:
    """Send requests, each when it is due, over so many connections at most.

    A latency counts from the moment when the request was due, a wait for a free connection
    included.
    """

    def __init__(
        self,
        http_url: str,
        requests: Iterable[Request],
        *,
        per_second: float,
        connections: int,
    ) -> None:
        self._base_url = http_url.rstrip("/")
        self._requests = iter(requests)
        self._pause_seconds = 1 / per_second
        self._connections = connections
        self._stopped = asyncio.Event()
        self.answers: list[Answer] = []

    def stop(self) -> None:
        """Send no further request."""
        self._stopped.set()

    async def run(self) -> None:
        """Send until stopped, or until no request is left."""
        limits = httpx.Limits(
            max_connections=self._connections, max_keepalive_connections=self._connections
        )
        due_times = self._due_times(time.time())
        async with (
            httpx.AsyncClient(
                timeout=ANSWER_SECONDS, limits=limits, trust_env=False, verify=NO_AUTHORITIES
            ) as http,
            asyncio.TaskGroup() as tasks,
        ):
            for _ in range(self._connections):
                tasks.create_task(self._connection(http, due_times))

    def _due_times(self, first_at: float) -> Iterator[float]:
        while True:
            yield first_at
            first_at += self._pause_seconds

    async def _connection(self, http: httpx.AsyncClient, due_times: Iterator[float]) -> None:
        for due_at, request in zip(due_times, self._requests, strict=False):
            try:
                async with asyncio.timeout(max(0.0, due_at - time.time())):
                    await self._stopped.wait()
            except TimeoutError:
                pass
            if self._stopped.is_set():
                return
            self.answers.append(await self._ask(http, request, due_at))

    async def _ask(self, http: httpx.AsyncClient, request: Request, due_at: float) -> Answer:
        try:
            response = await http.request(
                request.method, self._base_url + request.path, json=request.body
            )
            status = response.status_code
        except httpx.TransportError:
            status = 0
        latency_ms = round((time.time() - due_at) * 1000, 1)
        return Answer(at_seconds=due_at, latency_ms=latency_ms, status=status)


def p95_ms(answers: Sequence[Answer]) -> float | None:
    """Return the 95th percentile of the requests that were not refused."""
    served = sorted(answer.latency_ms / 1000 for answer in answers if not answer.is_refused)
    return percentile_ms(served, 95)


def refused(answers: Sequence[Answer]) -> int:
    """Count the refused requests."""
    return sum(answer.is_refused for answer in answers)


async def page_paths(http_url: str) -> list[str]:
    """Return the paths of the documentation page and of all that it loads from the API itself."""
    base = f"{http_url.rstrip('/')}/"
    async with httpx.AsyncClient(timeout=ANSWER_SECONDS, trust_env=False) as http:
        page = await http.get(f"{base}docs")
    page.raise_for_status()
    return ["/docs", *asset_paths(page.text, base)]


def asset_paths(page: str, base_url: str) -> list[str]:
    """Return what a page at `docs` loads from below the base URL, as paths below it."""
    urls = dict.fromkeys(urljoin(f"{base_url}docs", link) for link in _LINK.findall(page))
    below = [url.removeprefix(base_url) for url in urls if url.startswith(base_url)]
    return [f"/{path}" for path in below if path][:MOST_ASSETS]
