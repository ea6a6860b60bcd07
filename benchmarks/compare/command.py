"""The command: run every scenario on both sides in turn, then show and store what came out."""

from __future__ import annotations

import asyncio
import time
import traceback
from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import httpx
import typer
from rich.console import Console
from websockets.exceptions import WebSocketException

from benchmarks.compare import neighbors, report, scenarios
from benchmarks.compare.report import NEW_SIDE, OLD_SIDE
from benchmarks.compare.runs import Run, RunRecord, Sizes
from benchmarks.compare.sides import (
    Side,
    SideError,
    both_sides,
    commit_of,
    has_uncommitted_changes,
    running,
)
from benchmarks.machine import calibration_seconds, this_machine
from benchmarks.own_stack import BENCH_DIRECTORY, PROFILE

console = Console(highlight=False, soft_wrap=True)
error_console = Console(stderr=True, highlight=False, soft_wrap=True)

Scenario = Callable[[Run], Awaitable[None]]
SCENARIOS: Mapping[str, Scenario | None] = {
    "first": None,  # a part of every run
    "throughput": scenarios.throughput,
    "burst": scenarios.burst,
    "fairness": neighbors.fairness,
    "flood": neighbors.flood,
    "history": scenarios.history,
    "long": scenarios.long_run,
}
# What can befall one run; the others go on.
FAILURES = (SideError, OSError, ExceptionGroup, httpx.HTTPError, WebSocketException)
# A narrower table would break its words.
TABLE_COLUMNS = 150
LONG_SCENARIOS = frozenset({"history", "long"})


def compare(
    against: Annotated[str, typer.Option(help="The commit to compare with.")] = "72bd83d",
    pairs: Annotated[int, typer.Option(min=1, help="Runs of each scenario on each side.")] = 3,
    long_pairs: Annotated[
        int, typer.Option(min=1, help="The same for history and long, a quarter of an hour each.")
    ] = 1,
    only: Annotated[str, typer.Option(help=f"Of {','.join(SCENARIOS)}; empty: all.")] = "",
    scale: Annotated[
        float, typer.Option(min=0.001, max=10, help="Times the usual sizes: 0.04 is a trial.")
    ] = 1.0,
    parameter: Annotated[
        list[str] | None,
        typer.Option(help="A template parameter of the present side, Key=Value; repeatable."),
    ] = None,
    results: Annotated[
        Path | None, typer.Option(help="A folder; runs that are in it already are not repeated.")
    ] = None,
) -> None:
    """Compare the present commit with another one: figures, verdicts and plots.

    What is not committed is not measured. Each run has a fresh stack; sides take turns.
    """
    chosen = _chosen(only)
    directory = results or BENCH_DIRECTORY / "compare" / f"{datetime.now(UTC):%Y%m%dT%H%M%S}"
    sizes = Sizes().scaled(scale) if scale != 1 else Sizes()
    own_parameters = dict(pair.partition("=")[::2] for pair in parameter or [])
    if has_uncommitted_changes():
        console.print("[yellow]What is not committed is not measured.[/yellow]")
    try:
        commits = {OLD_SIDE: commit_of(against), NEW_SIDE: commit_of("HEAD")}
        report.require_same(directory, commits, scale)
        console.print(f"Machine: {this_machine()}")
        console.print(f"{commits[OLD_SIDE]} against {commits[NEW_SIDE]}; results in {directory}")
        parameters = {OLD_SIDE: PROFILE, NEW_SIDE: {**PROFILE, **own_parameters}}
        with both_sides(commits, parameters) as sides:
            runs = _order_of_runs(chosen, sides, pairs, long_pairs)
            failed = _run_all(runs, directory, sizes, scale)
    except (SideError, ValueError) as error:
        error_console.print(str(error), markup=False)
        raise typer.Exit(1) from error
    if report.load_records(directory):
        show(directory)
    if failed:
        error_console.print(f"Failed runs: {', '.join(failed)}; again: --results {directory}")
        raise typer.Exit(1)


def _run_all(
    runs: list[tuple[str, int, Side]], directory: Path, sizes: Sizes, scale: float
) -> list[str]:
    """Do the runs that are not stored yet; return the names of those that failed."""
    failed = []
    for name, pair, side in runs:
        if report.is_stored(directory, name, pair, side.name):
            continue
        try:
            report.store(directory, _run(name, pair, side, sizes, scale))
        except FAILURES as error:
            failed.append(f"{name} {pair} {side.name}")
            error_console.print("".join(traceback.format_exception(error)), markup=False)
    return failed


def show(directory: Path) -> None:
    """Print the table of a folder with results, and write it and its plots beside them."""
    # Half a second of imports that no run needs.
    from benchmarks.compare import plots

    records = report.load_records(directory)
    text = report.markdown(records)
    (directory / "report.md").write_text(text, encoding="utf-8")
    for remark in report.remarks(records):
        console.print(remark)
    wide = Console(highlight=False, width=max(console.width, TABLE_COLUMNS))
    wide.print(report.screen_table(records))
    for file in [directory / "report.md", *plots.draw(records, directory)]:
        console.print(f"Written: {file}")


def _order_of_runs(
    chosen: list[str], sides: list[Side], pairs: int, long_pairs: int
) -> list[tuple[str, int, Side]]:
    """Return the runs in their order: in every second pair the other side goes first."""
    return [
        (name, pair, side)
        for name in chosen
        for pair in range(1, (long_pairs if name in LONG_SCENARIOS else pairs) + 1)
        for side in (sides if pair % 2 else sides[::-1])
    ]


def _run(name: str, pair: int, side: Side, sizes: Sizes, scale: float) -> RunRecord:
    title = f"{name}, pair {pair}, {side.commit}"
    began_at = time.monotonic()

    def note(text: str) -> None:
        console.print(f"  [dim]{time.monotonic() - began_at:5.0f} s[/dim]  {text}")

    console.print(f"[bold]{title}[/bold]")
    machine = this_machine()
    speeds = [calibration_seconds()]
    starts_at = time.monotonic()
    with running(side) as stack:
        up_seconds = time.monotonic() - starts_at
        note("the stack runs")
        run = Run(stack=stack, sizes=sizes, note=note)
        run.value("up_seconds", round(up_seconds, 1))
        asyncio.run(_first_and_then(run, SCENARIOS[name]))
        speeds.append(calibration_seconds())
    note(f"done; calibration {speeds[0]:.2f} and {speeds[1]:.2f} s")
    return RunRecord(
        scenario=name,
        side=side.name,
        commit=side.commit,
        pair=pair,
        at=datetime.now(UTC),
        machine=machine,
        calibration_seconds=speeds,
        scale=scale,
        parameters=stack.parameters,
        values=run.values,
        footprint=run.footprint,
        memory=run.memory,
        orders=run.orders,
        requests=run.requests,
    )


async def _first_and_then(run: Run, scenario: Scenario | None) -> None:
    await scenarios.first_orders(run)
    if scenario is not None:
        await scenario(run)


def _chosen(only: str) -> list[str]:
    names = [name.strip() for name in only.split(",") if name.strip()] or list(SCENARIOS)
    unknown = sorted(set(names) - set(SCENARIOS))
    if unknown:
        raise typer.BadParameter(
            f"{', '.join(unknown)}: not of {', '.join(SCENARIOS)}", param_hint="--only"
        )
    return names
