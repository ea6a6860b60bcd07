"""Measure a stack under load: throughput, latencies, losses, memory."""

from __future__ import annotations

import asyncio
import sys
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer
from pydantic import BaseModel, ConfigDict
from pydantic.alias_generators import to_camel
from rich.console import Console
from rich.table import Table

from benchmarks import cold_start
from benchmarks.compare.command import compare
from benchmarks.figures import Distribution, LoadFigures, load_figures
from benchmarks.footprint import OTHERS, PartUse, footprint
from benchmarks.ledger_check import StoredFigures, stored_figures
from benchmarks.load import LoadGenerator, LoadPlan
from benchmarks.machine import Machine, this_machine
from benchmarks.own_stack import BENCH_DIRECTORY, own_stack
from local import stack as stacks
from local.paths import StateDirectory
from local.stack import Stack

WARM_UP_ORDERS = 120
BURST_DEADLINE_SECONDS = 300.0
# The share that other programs may take of the machine before figures say little about this one.
BUSY_SHARE = 0.15

console = Console(highlight=False)
app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, help=__doc__)

OrdersOption = Annotated[int, typer.Option("--orders", min=1, help="Orders to submit.")]
ClientsOption = Annotated[int, typer.Option("--clients", min=1, help="Requests at once.")]
ListenersOption = Annotated[int, typer.Option("--listeners", min=1, help="WebSocket listeners.")]
WarmUpOption = Annotated[int, typer.Option("--warm-up", min=0, help="Orders before measuring.")]
StateOption = Annotated[
    Path | None,
    typer.Option("--state-dir", help="Measure the stack that runs there, not one of its own."),
]
ParameterOption = Annotated[
    list[str] | None,
    typer.Option("--parameter", help="A template parameter of its own stack; repeatable."),
]


class RunResult(BaseModel):
    """One run with everything that is needed to judge it."""

    model_config = ConfigDict(frozen=True, alias_generator=to_camel, populate_by_name=True)

    name: str
    at: datetime
    machine: Machine
    parameters: dict[str, str]
    figures: LoadFigures
    stored: StoredFigures
    footprint: dict[str, PartUse]


@app.callback(invoke_without_command=True)
def everything(context: typer.Context) -> None:
    """Measure load, burst and cold start, one after the other, on one stack."""
    if context.invoked_subcommand is not None:
        return
    with _stack(None, None) as running:
        _run_load(running, orders=500, clients=20, listeners=1, warm_up=WARM_UP_ORDERS)
        _run_burst(running, orders=1000, warm_up=0)
        cold_start.print_imports(cold_start.measure_imports())
        cold_start.print_invocations(cold_start.measure_invocations(running))


@app.command()
def load(
    orders: OrdersOption = 500,
    clients: ClientsOption = 20,
    listeners: ListenersOption = 1,
    warm_up: WarmUpOption = WARM_UP_ORDERS,
    state_dir: StateOption = None,
    parameter: ParameterOption = None,
) -> None:
    """Submit market orders from a number of clients and follow each to its end."""
    with _stack(state_dir, parameter) as running:
        _run_load(running, orders=orders, clients=clients, listeners=listeners, warm_up=warm_up)


@app.command()
def burst(
    orders: OrdersOption = 1000,
    warm_up: WarmUpOption = WARM_UP_ORDERS,
    state_dir: StateOption = None,
    parameter: ParameterOption = None,
) -> None:
    """Submit all orders at the same moment and follow each to its end."""
    with _stack(state_dir, parameter) as running:
        _run_burst(running, orders=orders, warm_up=warm_up)


@app.command(name="cold-start")
def cold_start_command(
    runs: Annotated[int, typer.Option("--runs", min=1, help="Runs, of which the median.")] = 7,
    imports_only: Annotated[
        bool, typer.Option("--imports-only", help="Without a stack: only the imports.")
    ] = False,
) -> None:
    """Measure each function's import, and its first invocation on a fresh worker."""
    cold_start.print_imports(cold_start.measure_imports(runs))
    if not imports_only:
        with _stack(None, None) as running:
            cold_start.print_invocations(cold_start.measure_invocations(running, runs))


app.command()(compare)


@contextmanager
def _stack(state_dir: Path | None, parameters: list[str] | None) -> Iterator[Stack]:
    if state_dir is not None:
        yield stacks.read_running(StateDirectory.at(state_dir))
        return
    pairs = (pair.partition("=") for pair in parameters or [])
    with own_stack({key: value for key, _, value in pairs}) as running:
        yield running


def _run_load(stack: Stack, *, orders: int, clients: int, listeners: int, warm_up: int) -> None:
    _warm_up(stack, warm_up, clients)
    plan = LoadPlan(orders=orders, clients=clients, listeners=listeners)
    _measure(f"{orders} orders by {clients} clients", stack, plan)


def _run_burst(stack: Stack, *, orders: int, warm_up: int) -> None:
    _warm_up(stack, warm_up, clients=20)
    plan = LoadPlan(orders=orders, clients=orders, deadline_seconds=BURST_DEADLINE_SECONDS)
    _measure(f"a burst of {orders} orders at once", stack, plan)


def _warm_up(stack: Stack, orders: int, clients: int) -> None:
    if not orders:
        return
    began = time.monotonic()
    generator = _generator(stack, LoadPlan(orders=orders, clients=clients))
    figures = load_figures(asyncio.run(generator.run()))
    console.print(
        f"Warm-up: {figures.confirmed} of {orders} orders confirmed"
        f" in {time.monotonic() - began:.1f} s, cold workers included."
    )


def _measure(name: str, stack: Stack, plan: LoadPlan) -> RunResult:
    machine = this_machine()
    generator = _generator(stack, plan)
    with footprint(stack) as use:
        recording = asyncio.run(generator.run())
    result = RunResult(
        name=name,
        at=datetime.now(UTC),
        machine=machine,
        parameters=stack.parameters,
        figures=load_figures(recording),
        stored=stored_figures(stack, recording.user_ids),
        footprint=use.parts(),
    )
    print_result(result)
    if result.footprint[OTHERS].share_of_machine > BUSY_SHARE:
        console.print(
            "[yellow]Other programs were at work: measure again when it is quiet.[/yellow]"
        )
    console.print(f"Written to {_write(result)}")
    return result


def _generator(stack: Stack, plan: LoadPlan) -> LoadGenerator:
    return LoadGenerator(stack.http_url, stack.web_socket_url, plan, uuid.uuid4().hex[:12])


def print_result(result: RunResult) -> None:
    """Print one run as a table."""
    figures, stored = result.figures, result.stored
    table = Table(title=result.name, title_justify="left", show_header=False)
    table.add_column(style="bold")
    table.add_column(justify="right")
    rows = {
        "confirmed per minute": f"{figures.confirmed_per_minute:,.0f}",
        "accepted / confirmed": f"{figures.accepted} / {figures.confirmed}",
        "failed by code": _counts(figures.failed_by_code),
        "lost (no final event)": str(figures.lost),
        "incomplete / out of order": f"{figures.incomplete} / {figures.out_of_order}",
        "events delivered twice / disconnects": f"{figures.duplicates} / {figures.disconnects}",
        "orders with more than one attempt": str(figures.orders_with_retries),
        "POST p50 / p95 / max": _distribution(figures.post),
        "end to end p50 / p95 / max": _distribution(figures.end_to_end),
        "commit to client p50 / p95 / max": _distribution(figures.commit_to_client),
        "POSTs refused and repeated, by status": _counts(figures.refusals_by_status),
        "given up": str(figures.refused),
        "stored by status": _counts(stored.orders_by_status),
        "events stored / not streamed": f"{stored.events} / {stored.unstreamed_events}",
        "below minimum / landed twice / unlanded": (
            f"{stored.below_minimum} / {stored.landed_twice} / {stored.confirmed_without_landing}"
        ),
    }
    for label, value in rows.items():
        table.add_row(label, value)
    console.print(table)
    print_footprint(result)


def print_footprint(result: RunResult) -> None:
    """Print what the parts took, and the sum of it, as a table."""
    table = Table(title="What it took", title_justify="left")
    table.add_column("part")
    for heading in ("processes", "peak memory MiB", "CPU s", "CPU ms per order", "of the machine"):
        table.add_column(heading, justify="right")
    uses = result.footprint
    for part in sorted(uses, key=lambda name: -uses[name].cpu_seconds):
        _add_use(table, part, uses[part], result.figures.orders)
    total = PartUse(
        processes=sum(use.processes for use in uses.values()),
        peak_memory_mib=sum(use.peak_memory_mib for use in uses.values()),
        cpu_seconds=sum(use.cpu_seconds for use in uses.values()),
        share_of_machine=sum(use.share_of_machine for use in uses.values()),
    )
    table.add_section()
    _add_use(table, "all", total, result.figures.orders)
    console.print(table)


def _add_use(table: Table, part: str, use: PartUse, orders: int) -> None:
    table.add_row(
        part,
        str(use.processes),
        f"{use.peak_memory_mib:,.0f}",
        f"{use.cpu_seconds:.1f}",
        f"{use.cpu_seconds * 1000 / orders:.0f}",
        f"{use.share_of_machine:.0%}",
    )


def _distribution(distribution: Distribution) -> str:
    values = (distribution.p50_ms, distribution.p95_ms, distribution.max_ms)
    return " / ".join("-" if value is None else f"{value:,.0f}" for value in values) + " ms"


def _counts(counts: dict[str, int] | dict[int, int]) -> str:
    return ", ".join(f"{key}: {count}" for key, count in sorted(counts.items())) or "none"


def _write(result: RunResult) -> Path:
    directory = BENCH_DIRECTORY / "results"
    directory.mkdir(parents=True, exist_ok=True)
    file = directory / f"{result.at:%Y%m%dT%H%M%S}-{result.figures.orders}.json"
    file.write_text(result.model_dump_json(by_alias=True, indent=2) + "\n", encoding="utf-8")
    return file


def main() -> None:
    """Run the command line."""
    app(prog_name=f"{Path(sys.executable).name} -m benchmarks")
