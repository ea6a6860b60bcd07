"""What a run of a scenario has: a stack, sizes, what it notes down."""

from __future__ import annotations

import asyncio
import contextlib
import uuid
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime

from pydantic import BaseModel, ConfigDict
from pydantic.alias_generators import to_camel

from benchmarks.compare.traffic import Answer
from benchmarks.figures import percentile_ms
from benchmarks.footprint import (
    CLIENT,
    OTHERS,
    MemorySample,
    PartUse,
    footprint,
)
from benchmarks.load import LoadGenerator, LoadPlan, Recording, Submission
from benchmarks.machine import Machine
from local.stack import Stack

PROGRESS_SECONDS = 10.0


@dataclass(frozen=True)
class Sizes:
    """How large the scenarios are."""

    users: int = 50
    clients: int = 20
    first: int = 120
    throughput: int = 500
    burst: int = 1000
    burst_clients: int = 60
    waiting: int = 2000
    single_users: int = 10
    single_interval_seconds: float = 5.0
    idle_seconds: float = 45.0
    # An order that began so short before others crowd in is not one of a calm time any more.
    calm_margin_seconds: float = 8.0
    reads_per_second: float = 2.0
    cancels_per_second: float = 1.0
    resting: int = 200
    flood_seconds: float = 30.0
    flood_connections: int = 40
    flood_per_second: float = 100.0
    history: int = 10_000
    leg: int = 200
    long: int = 10_000
    deadline_seconds: float = 420.0
    long_deadline_seconds: float = 2400.0

    def plan(
        self, orders: int, *, clients: int | None = None, deadline_seconds: float | None = None
    ) -> LoadPlan:
        """Return a load of so many orders by all users, at the usual size where none is given."""
        return LoadPlan(
            orders=orders,
            clients=clients or self.clients,
            users=self.users,
            deadline_seconds=deadline_seconds or self.deadline_seconds,
        )

    def scaled(self, factor: float) -> Sizes:
        """Return sizes that are so many times as large, for a trial."""

        def of(count: int, least: int = 10) -> int:
            return max(least, round(count * factor))

        return replace(
            self,
            users=min(self.users, of(self.users, least=2)),
            # Fewer would leave workers cold for what comes then.
            first=of(self.first, least=2 * self.clients),
            throughput=of(self.throughput),
            burst=of(self.burst),
            waiting=of(self.waiting),
            resting=of(self.resting, least=60),
            history=of(self.history, least=40),
            leg=of(self.leg),
            long=of(self.long),
            idle_seconds=max(10.0, self.idle_seconds * factor),
            flood_seconds=max(5.0, self.flood_seconds * factor),
        )


class _Noted(BaseModel):
    model_config = ConfigDict(frozen=True, alias_generator=to_camel, populate_by_name=True)


class OrderSeen(_Noted):
    """One order as its client saw it; no `end_to_end_ms` when its end was not seen."""

    user: int
    began_at_seconds: float
    post_ms: float
    end_to_end_ms: float | None
    status: str | None
    refusals: int


class RunRecord(_Noted):
    """One run of one scenario on one side, with everything that was measured."""

    scenario: str
    side: str
    commit: str
    pair: int
    at: datetime
    machine: Machine
    calibration_seconds: list[float]
    scale: float
    parameters: dict[str, str]
    values: dict[str, float]
    footprint: dict[str, PartUse]
    memory: list[MemorySample]
    orders: dict[str, list[OrderSeen]]
    requests: dict[str, list[Answer]]


@dataclass
class Run:
    """A scenario's run on a running stack."""

    stack: Stack
    sizes: Sizes
    note: Callable[[str], None]
    values: dict[str, float] = field(default_factory=dict)
    footprint: dict[str, PartUse] = field(default_factory=dict)
    memory: list[MemorySample] = field(default_factory=list)
    orders: dict[str, list[OrderSeen]] = field(default_factory=dict)
    requests: dict[str, list[Answer]] = field(default_factory=dict)

    def value(self, name: str, value: float | None) -> None:
        """Note a figure; one that could not be measured stays away."""
        if value is not None:
            self.values[name] = value

    def generator(self, plan: LoadPlan, user_ids: Sequence[str] = ()) -> LoadGenerator:
        """Return a load generator for this stack."""
        stack = self.stack
        run_id = uuid.uuid4().hex[:12]
        return LoadGenerator(stack.http_url, stack.web_socket_url, plan, run_id, user_ids)

    async def load(self, name: str, plan: LoadPlan, user_ids: Sequence[str] = ()) -> Recording:
        """Run a plan, say how far it is, and note each order."""
        return await self.follow(name, self.generator(plan, user_ids))

    async def follow(self, name: str, generator: LoadGenerator) -> Recording:
        """Run a generator, say how far it is, and note each order."""
        saying = asyncio.create_task(self._say_progress(name, generator))
        try:
            recording = await generator.run()
        finally:
            saying.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await saying
        self.orders[name] = seen_orders(recording)
        return recording

    async def measured_load(
        self, name: str, plan: LoadPlan, user_ids: Sequence[str] = ()
    ) -> tuple[Recording, float]:
        """Run a plan while the processes are watched; return the milliseconds per order, too."""
        with self.watched():
            recording = await self.load(name, plan, user_ids)
        return recording, cpu_ms_per_order(self.footprint, len(recording.accepted))

    @contextlib.contextmanager
    def watched(self) -> Iterator[None]:
        """Watch the processes for the length of the block; the last one watched is noted."""
        with footprint(self.stack) as use:
            yield
        self.footprint = use.parts()
        self.memory = use.memory

    async def _say_progress(self, name: str, generator: LoadGenerator) -> None:
        while True:
            await asyncio.sleep(PROGRESS_SECONDS)
            submitted, ended = generator.counts()
            self.note(f"{name}: {submitted} answered, {ended} ended")


def cpu_ms_per_order(parts: dict[str, PartUse], orders: int) -> float:
    """Return the processor time of all processes of a stack, per order."""
    seconds = sum(use.cpu_seconds for part, use in parts.items() if part not in (CLIENT, OTHERS))
    return round(1000 * seconds / max(1, orders), 2)


def seen_orders(recording: Recording) -> list[OrderSeen]:
    """Return each order as its client saw it, in the order of their beginnings."""
    numbers = {user_id: number for number, user_id in enumerate(recording.user_ids)}
    ordered = sorted(recording.submissions, key=lambda submission: submission.began_at)
    return [_seen_order(recording, submission, numbers) for submission in ordered]


def _seen_order(recording: Recording, submission: Submission, numbers: dict[str, int]) -> OrderSeen:
    arrivals = (
        recording.arrivals[0].get(submission.order_id or "", []) if recording.arrivals else []
    )
    final = next((arrival for arrival in arrivals if arrival.final), None)
    ended_after = final.received_at - submission.began_at if final else None
    return OrderSeen(
        user=numbers.get(submission.user_id, 0),
        began_at_seconds=submission.began_at,
        post_ms=round(submission.seconds * 1000, 1),
        end_to_end_ms=None if ended_after is None else round(ended_after * 1000, 1),
        status=final.status if final else None,
        refusals=len(submission.refusals),
    )


def waited_p95_ms(orders: Sequence[OrderSeen], until: float) -> float | None:
    """Return the 95th percentile of the orders' lives; one without an end lasted until `until`."""
    lives = sorted(
        until - order.began_at_seconds
        if order.end_to_end_ms is None
        else order.end_to_end_ms / 1000
        for order in orders
    )
    return percentile_ms(lives, 95)
