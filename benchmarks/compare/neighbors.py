"""The scenarios in which one user is a burden, and others are measured meanwhile."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from contextlib import asynccontextmanager

from benchmarks.compare.runs import OrderSeen, Run, waited_p95_ms
from benchmarks.compare.scenarios import missing
from benchmarks.compare.traffic import Answer, Request, RequestStream, p95_ms, page_paths, refused
from benchmarks.figures import load_figures
from benchmarks.load import SWAPS, LoadPlan, Recording

PROBE_CONNECTIONS = 8
SINGLE_CLIENTS = 60
# The pools that are flooded one after the other; what a flood leaves waiting comes last.
FLOODS = ("pages", "reads", "orders")
_POOL_OF = {"read": "reads", "cancel": "reads", "order": "orders", "page": "pages"}


async def fairness(run: Run) -> None:
    """Let ten users trade calmly, and one other bring thousands of orders at once."""
    sizes = run.sizes
    order_ids = await _orders_at_rest(run, sizes.resting)
    last_seconds = sizes.idle_seconds + sizes.deadline_seconds
    singles = run.generator(
        LoadPlan(
            orders=int(sizes.single_users * last_seconds / sizes.single_interval_seconds),
            clients=SINGLE_CLIENTS,
            users=sizes.single_users,
            interval_seconds=sizes.single_interval_seconds,
            deadline_seconds=last_seconds,
        )
    )
    crowd = LoadPlan(
        orders=sizes.waiting,
        clients=sizes.burst_clients,
        deadline_seconds=sizes.deadline_seconds,
    )
    async with asyncio.TaskGroup() as tasks:
        single_run = tasks.create_task(run.follow("singles", singles))
        probes = _probes(run, order_ids)
        async with _sending(probes):
            await asyncio.sleep(sizes.idle_seconds)
            crowded, _ = await run.measured_load("crowd", crowd)
        singles.stop()
    singles_ended_at = single_run.result().ended_at
    begins_at, ends_at = crowded.began_at, waiting_until(crowded)
    calm = [
        order
        for order in run.orders["singles"]
        if order.began_at_seconds < begins_at - sizes.calm_margin_seconds
    ]
    busy = _orders_between(run.orders["singles"], begins_at, ends_at)
    calm_p95_ms = waited_p95_ms(calm, singles_ended_at)
    busy_p95_ms = waited_p95_ms(busy, singles_ended_at)
    run.value("crowd_missing", missing(load_figures(crowded), sizes.waiting))
    run.value("crowd_began_at_seconds", begins_at)
    run.value("crowd_waited_until_seconds", ends_at)
    run.value("single_calm_p95_ms", calm_p95_ms)
    run.value("single_busy_p95_ms", busy_p95_ms)
    if calm_p95_ms is not None and busy_p95_ms is not None:
        run.value("single_delay_p95_ms", round(busy_p95_ms - calm_p95_ms, 1))
    run.value("single_refusals", sum(order.refusals for order in busy))
    _note_probes(run, "crowd", probes, begins_at, ends_at)


async def flood(run: Run) -> None:
    """Let one client flood the pages, the reads and the orders in turn while others go on."""
    sizes = run.sizes
    # Each connection takes a target that it no longer cancels when its probe is stopped.
    per_flood = int(sizes.flood_seconds * sizes.cancels_per_second) + PROBE_CONNECTIONS
    targets = len(FLOODS) * per_flood
    order_ids = await _orders_at_rest(run, targets)
    floods = {
        "pages": [Request("GET", path) for path in await page_paths(run.stack.http_url)],
        "reads": [Request("GET", f"/api/orders/{order_id}") for order_id in order_ids],
    }
    cancels = iter(order_ids)
    refusals = 0
    latencies_ms: dict[str, list[float | None]] = {victim: [] for victim in _POOL_OF}
    for flooded in FLOODS:
        run.note(f"flood of {flooded}")
        requests = floods.get(flooded)
        stream = RequestStream(
            run.stack.http_url,
            itertools.cycle(requests) if requests else _market_orders("compare-flood"),
            per_second=sizes.flood_per_second,
            connections=sizes.flood_connections,
        )
        probes = _probes(run, order_ids, cancels) | {
            "order": _probe(run, _market_orders("compare-beside-a-flood"), 1.0),
            "page": _probe(run, itertools.repeat(Request("GET", "/api/health")), 1.0),
        }
        with run.watched():
            async with _sending({**probes, "flood": stream}):
                await asyncio.sleep(sizes.flood_seconds)
        run.requests[f"flood of {flooded}"] = stream.answers
        run.value(f"flood of {flooded}, answered", len(stream.answers))
        for victim, probe in probes.items():
            run.requests[f"{victim} during a flood of {flooded}"] = probe.answers
            # A pool that is flooded makes its own users wait: only the others are measured.
            if flooded != _POOL_OF[victim]:
                latency_ms = p95_ms(probe.answers)
                run.value(f"{victim} during a flood of {flooded}, p95 ms", latency_ms)
                latencies_ms[victim].append(latency_ms)
                refusals += refused(probe.answers)
    for victim, values in latencies_ms.items():
        run.value(f"flood_{victim}_p95_ms", worst_of(values))
    run.value("flood_refusals", refusals)


def worst_of(latencies_ms: Sequence[float | None]) -> float | None:
    """Return the greatest latency; None when somewhere nobody was served, for which none stands."""
    known = [latency_ms for latency_ms in latencies_ms if latency_ms is not None]
    return max(known, default=None) if len(known) == len(latencies_ms) else None


async def _orders_at_rest(run: Run, count: int) -> list[str]:
    """Store limit orders that no price meets; return their ids."""
    plan = LoadPlan(orders=count, clients=5, at_rest=True, users=run.sizes.single_users)
    recording = await run.load("orders at rest", plan)
    return [submission.order_id for submission in recording.accepted if submission.order_id]


def _probes(
    run: Run, order_ids: Sequence[str], cancels: Iterable[str] | None = None
) -> dict[str, RequestStream]:
    reads = (Request("GET", f"/api/orders/{order_id}") for order_id in itertools.cycle(order_ids))
    deletes = (
        Request("DELETE", f"/api/orders/{order_id}")
        for order_id in (order_ids if cancels is None else cancels)
    )
    return {
        "read": _probe(run, reads, run.sizes.reads_per_second),
        "cancel": _probe(run, deletes, run.sizes.cancels_per_second),
    }


def _probe(run: Run, requests: Iterable[Request], per_second: float) -> RequestStream:
    return RequestStream(
        run.stack.http_url, requests, per_second=per_second, connections=PROBE_CONNECTIONS
    )


def _market_orders(user_id: str) -> Iterator[Request]:
    for token_in, token_out, amount_in in itertools.cycle(SWAPS):
        body = {
            "userId": user_id,
            "tokenIn": token_in,
            "tokenOut": token_out,
            "amountIn": amount_in,
            "slippageTolerance": "0.01",
        }
        yield Request("POST", "/api/orders/execute", body)


@asynccontextmanager
async def _sending(streams: dict[str, RequestStream]) -> AsyncIterator[None]:
    """Send requests for the length of the block."""
    tasks = [asyncio.create_task(stream.run()) for stream in streams.values()]
    try:
        yield
    finally:
        for stream in streams.values():
            stream.stop()
        for task in tasks:
            with contextlib.suppress(asyncio.CancelledError):
                await task


def _note_probes(
    run: Run,
    name: str,
    probes: dict[str, RequestStream],
    begins_at: float,
    ends_at: float,
) -> None:
    refusals = 0
    for victim, probe in probes.items():
        run.requests[f"{victim}s"] = probe.answers
        busy = answers_between(probe.answers, begins_at, ends_at)
        run.value(f"{name}_{victim}_p95_ms", p95_ms(busy))
        refusals += refused(busy)
    run.value(f"{name}_refusals", refusals)


def waiting_until(recording: Recording) -> float:
    """Return when the last order of a recording was started: until then some of them waited."""
    started = [
        arrival.happened_at
        for arrivals in recording.arrivals
        for life in arrivals.values()
        for arrival in life
        if arrival.status == "routing"
    ]
    return max(started, default=recording.ended_at)


def answers_between(answers: Sequence[Answer], begins_at: float, ends_at: float) -> list[Answer]:
    """Return the answers to requests that were due in a span of time."""
    return [answer for answer in answers if begins_at <= answer.at_seconds <= ends_at]


def _orders_between(
    orders: Sequence[OrderSeen], begins_at: float, ends_at: float
) -> list[OrderSeen]:
    return [order for order in orders if begins_at <= order.began_at_seconds <= ends_at]
