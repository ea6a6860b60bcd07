"""Run a scenario: load, faults, the wait for the end, and the check of what is left."""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from dataclasses import dataclass

import psycopg
from tests.chaos import invariants
from tests.chaos.evidence import Evidence
from tests.chaos.invariants import Violation
from tests.chaos.load import Load, LoadGenerator, LoadPlan
from tests.chaos.rig import Rig
from tests.chaos.scenarios import Disruption, Scenario

FINAL_SECONDS = 60.0
# How much longer to look, to tell what is late from what never ends.
OVERTIME_SECONDS = 120.0
DELIVERY_SECONDS = 15.0
# The reconciler passes every minute, and looks at what is ten seconds old.
NOTING_SECONDS = 80.0
POLL_SECONDS = 0.5
HASTE_SECONDS = 4.0
WARM_UP_ORDERS = 12
WARM_UP_SECONDS = 180.0
LATE_LISTENERS = 30


@dataclass(frozen=True)
class RunPlan:
    """How to run scenarios.

    `hasten`: invoke the reconciler instead of waiting for its schedule. `final_seconds`: how long
    after the faults an order may take to its end, and an event to its subscribers.
    """

    orders: int
    rate_per_second: float
    seed: int = 1
    resting_every: int = 0
    hasten: bool = False
    final_seconds: float = FINAL_SECONDS


@dataclass(frozen=True)
class Outcome:
    """What came of a scenario. Times are seconds since the faults ended."""

    scenario: Scenario
    orders: int
    statuses: Counter[str]
    events: int
    arrivals: int
    subscribers: int
    reconnects: int
    tally: Counter[str]
    refused_requests: Counter[str]
    restarted: int
    load_seconds: float
    final_after_seconds: float | None
    delivered_after_seconds: float | None
    violations: tuple[Violation, ...]


async def run_scenario(rig: Rig, scenario: Scenario, plan: RunPlan) -> Outcome:
    """Run one scenario on a running rig."""
    orders = min(plan.orders, scenario.most_orders or plan.orders)
    await _warm_up(rig)
    generator = LoadGenerator(
        rig.stack,
        LoadPlan(orders, plan.rate_per_second, scenario.fates, plan.resting_every, plan.seed),
    )
    load = generator.load
    disruption = Disruption(
        orders / plan.rate_per_second,
        load.user_prefix,
        random.Random(plan.seed),
        generator.cut_sockets,
    )
    began_at = time.monotonic()
    disrupting = asyncio.create_task(asyncio.to_thread(scenario.disrupt, rig, disruption))
    try:
        await generator.place_all()
    finally:
        disruption.over.set()
        await disrupting
    settling = _Settling(rig, load, plan)
    unfinished = await settling.until_final()
    if not scenario.loses_stream:
        generator.listen_late(_sample(load, plan.seed))
        await settling.until_delivered()
        await settling.until_noted()
    await generator.stop_listening()
    evidence = await asyncio.to_thread(_collect, rig, load, unfinished)
    violations = [
        *(Violation("not accepted", "-", refusal) for refusal in load.given_up),
        *(
            violation
            for violation in invariants.check(evidence)
            if not (scenario.loses_stream and violation.rule == "missed by a subscriber")
        ),
    ]
    return Outcome(
        scenario=scenario,
        orders=len(load.accepted),
        statuses=Counter(order.status for order in evidence.orders),
        events=len(evidence.events),
        arrivals=sum(len(subscriber.arrivals) for subscriber in evidence.subscribers),
        subscribers=len(evidence.subscribers),
        reconnects=sum(subscriber.reconnects for subscriber in evidence.subscribers),
        tally=disruption.tally,
        refused_requests=load.refused_requests,
        restarted=sum(order.restarts > 0 for order in evidence.orders),
        load_seconds=settling.began_at - began_at,
        final_after_seconds=settling.final_after_seconds,
        delivered_after_seconds=settling.delivered_after_seconds,
        violations=tuple(violations),
    )


class _Settling:
    """The time after the faults."""

    def __init__(self, rig: Rig, load: Load, plan: RunPlan) -> None:
        self.began_at = time.monotonic()
        self.final_after_seconds: float | None = None
        self.delivered_after_seconds: float | None = None
        self._rig = rig
        self._load = load
        self._plan = plan
        self._hastened_at = 0.0

    @property
    def _seconds(self) -> float:
        return time.monotonic() - self.began_at

    async def until_final(self) -> dict[str, str]:
        """Wait until every order is final; return those that were not when the time was up."""
        unfinished: dict[str, str] | None = None
        while True:
            still_open = await asyncio.to_thread(self._open_orders)
            if still_open == {}:
                self.final_after_seconds = self._seconds
                return unfinished or {}
            if unfinished is None and self._seconds > self._plan.final_seconds:
                unfinished = still_open or {"?": "the database does not answer"}
            if self._seconds > self._plan.final_seconds + OVERTIME_SECONDS:
                return unfinished or {}
            await self._pause()

    async def until_delivered(self) -> None:
        """Wait until every subscriber has every event, or the time is up."""
        counts = await asyncio.to_thread(self._rig.event_counts, self._load.user_prefix)
        deadline = max(self._plan.final_seconds, self._seconds + DELIVERY_SECONDS)
        waiting = self._load.subscribers
        while waiting := [one for one in waiting if not invariants.is_satisfied(one, counts)]:
            if self._seconds > deadline:
                return
            await self._pause()
        self.delivered_after_seconds = self._seconds

    async def until_noted(self) -> None:
        """Wait until every event is marked as streamed, or the reconciler has passed without it.

        A function notes its last events with its next statement; after ten seconds the reconciler
        does.
        """
        deadline = self._seconds + NOTING_SECONDS
        while self._seconds < deadline:
            events = await asyncio.to_thread(self._rig.stored_events, self._load.user_prefix)
            if all(event.is_streamed for event in events):
                return
            await self._pause()

    async def _pause(self) -> None:
        if self._plan.hasten and time.monotonic() - self._hastened_at > HASTE_SECONDS:
            self._hastened_at = time.monotonic()
            await asyncio.to_thread(self._rig.invoke, "ReconcileFunction", {})
        await asyncio.sleep(POLL_SECONDS)

    def _open_orders(self) -> dict[str, str] | None:
        try:
            return self._rig.open_orders(self._load.user_prefix)
        except psycopg.OperationalError:
            return None


def _sample(load: Load, seed: int) -> list[str]:
    order_ids = sorted({acceptance.order_id for acceptance in load.accepted})
    return random.Random(seed).sample(order_ids, min(LATE_LISTENERS, len(order_ids)))


def _collect(rig: Rig, load: Load, unfinished: dict[str, str]) -> Evidence:
    orders = rig.stored_orders(load.user_prefix)
    return Evidence(
        accepted=load.accepted,
        orders=orders,
        events=rig.stored_events(load.user_prefix),
        chain=rig.chain_rows(order.order_id for order in orders),
        subscribers=load.subscribers,
        unfinished=unfinished,
    )


async def _warm_up(rig: Rig) -> None:
    """Have every function's first workers started before anything is measured."""
    generator = LoadGenerator(rig.stack, LoadPlan(WARM_UP_ORDERS, 6.0))
    await generator.place_all()
    deadline = time.monotonic() + WARM_UP_SECONDS
    while await asyncio.to_thread(rig.open_orders, generator.load.user_prefix):
        if time.monotonic() > deadline:
            raise TimeoutError("the warm-up orders did not end")
        await asyncio.sleep(POLL_SECONDS)
    await generator.stop_listening()
