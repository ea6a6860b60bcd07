"""The scenarios in which one kind of load is all there is: pace, burst, cold start, long runs."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean

from benchmarks.compare.runs import Run
from benchmarks.figures import LoadFigures, load_figures
from benchmarks.footprint import CLIENT, EMULATOR, MemorySample
from benchmarks.load import LoadPlan
from benchmarks.machine import calibration_seconds

# Shares of a run between which memory is compared: workers have grown warm, and the end.
EARLY = (0.25, 0.45)
LATE = (0.8, 1.0)


async def first_orders(run: Run) -> None:
    """Submit the first orders of a stack that has just been started."""
    sizes = run.sizes
    plan = sizes.plan(sizes.first)
    figures = load_figures(await run.load("first", plan))
    run.value("first_p95_ms", figures.end_to_end.p95_ms)
    run.value("first_lost", missing(figures, sizes.first))


async def throughput(run: Run) -> None:
    """Submit orders from some clients, each its next one when the last is answered."""
    sizes = run.sizes
    plan = sizes.plan(sizes.throughput)
    recording, cpu_ms = await run.measured_load("throughput", plan)
    figures = load_figures(recording)
    run.value("orders_per_minute", figures.confirmed_per_minute)
    run.value("cpu_ms_per_order", cpu_ms)
    run.value("post_p50_ms", figures.post.p50_ms)
    run.value("post_p95_ms", figures.post.p95_ms)
    run.value("end_to_end_p50_ms", figures.end_to_end.p50_ms)
    run.value("end_to_end_p95_ms", figures.end_to_end.p95_ms)
    run.value("commit_to_client_p95_ms", figures.commit_to_client.p95_ms)
    run.value("throughput_lost", missing(figures, sizes.throughput))


async def burst(run: Run) -> None:
    """Submit many orders from many clients, who repeat what is refused."""
    sizes = run.sizes
    plan = sizes.plan(sizes.burst, clients=sizes.burst_clients)
    recording, cpu_ms = await run.measured_load("burst", plan)
    figures = load_figures(recording)
    run.value("burst_refusals", sum(figures.refusals_by_status.values()))
    run.value("burst_failed", sum(figures.failed_by_code.values()) + missing(figures, sizes.burst))
    run.value("burst_post_p95_ms", figures.post.p95_ms)
    run.value("burst_end_to_end_p95_ms", figures.end_to_end.p95_ms)
    run.value("burst_cpu_ms_per_order", cpu_ms)


async def history(run: Run) -> None:
    """Measure what an order costs a newcomer, and the same user after many orders.

    The machine's speed drifts between the two, so each is divided by a calibration beside it.
    """
    sizes = run.sizes
    regular = ("compare-regular",)
    leg = LoadPlan(orders=sizes.leg, clients=sizes.clients, deadline_seconds=sizes.deadline_seconds)
    early = await _calibrated_cost(run, "history: the first orders", leg, regular)
    filling = LoadPlan(
        orders=sizes.history - sizes.leg,
        clients=sizes.clients,
        deadline_seconds=sizes.long_deadline_seconds,
    )
    filled = load_figures(await run.load("history: filling", filling, regular))
    late = await _calibrated_cost(run, "history: the last orders", leg, regular)
    newcomer = await _calibrated_cost(run, "history: a newcomer", leg, ("compare-newcomer",))
    run.value("history_orders", sizes.leg + filled.confirmed)
    run.value("history_cost_growth", round(late / early, 3))
    run.value("history_cost_over_newcomer", round(late / newcomer, 3))


async def long_run(run: Run) -> None:
    """Submit very many orders; none may be lost, and no process may grow."""
    sizes = run.sizes
    plan = sizes.plan(sizes.long, deadline_seconds=sizes.long_deadline_seconds)
    recording, cpu_ms = await run.measured_load("long", plan)
    figures = load_figures(recording)
    run.value("long_lost", missing(figures, sizes.long))
    run.value("long_failed", sum(figures.failed_by_code.values()))
    run.value("long_cpu_ms_per_order", cpu_ms)
    run.value("long_orders_per_minute", figures.confirmed_per_minute)
    growth = memory_growth(run.memory)
    own = [ratio for part, ratio in growth.items() if part not in (CLIENT, EMULATOR)]
    run.value("long_memory_growth", max(own, default=None))
    run.value("long_emulator_memory_growth", growth.get(EMULATOR))


async def _calibrated_cost(run: Run, name: str, plan: LoadPlan, users: Sequence[str]) -> float:
    before = calibration_seconds()
    _, cpu_ms = await run.measured_load(name, plan, users)
    speed = (before + calibration_seconds()) / 2
    run.value(f"{name}, CPU ms per order", cpu_ms)
    run.value(f"{name}, calibration s", round(speed, 3))
    return cpu_ms / speed


def missing(figures: LoadFigures, orders: int) -> int:
    """Count the orders that were never taken in or whose end nobody was told."""
    return orders - figures.accepted + figures.lost


def memory_growth(samples: Sequence[MemorySample]) -> dict[str, float]:
    """Return how many times its early memory a process of each part has late in a run."""
    if not samples:
        return {}
    ends_at = samples[-1].at_seconds
    early = _mean_memory(samples, ends_at * EARLY[0], ends_at * EARLY[1])
    late = _mean_memory(samples, ends_at * LATE[0], ends_at * LATE[1])
    return {
        part: round(late[part] / early[part], 3)
        for part in early
        if part in late and early[part] > 0
    }


def _mean_memory(
    samples: Sequence[MemorySample], from_seconds: float, to_seconds: float
) -> dict[str, float]:
    chosen = [s.mib_per_process for s in samples if from_seconds <= s.at_seconds <= to_seconds]
    parts = {part for sample in chosen for part in sample}
    return {part: fmean(one[part] for one in chosen if part in one) for part in parts}
