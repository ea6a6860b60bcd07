"""Run the scenarios: `python -m tests.chaos [scenario ...]`, each on a fresh stack."""

from __future__ import annotations

import asyncio
import json
import os
import platform
import sys
import time
from collections import Counter
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

REPOSITORY = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(REPOSITORY / "layers" / "order_engine"))

from tests.chaos.rig import Rig, running_rig  # noqa: E402 - the path comes first
from tests.chaos.runs import Outcome, RunPlan, run_scenario  # noqa: E402
from tests.chaos.scenarios import SCENARIOS, Scenario  # noqa: E402

from local.logs import FunctionLogs  # noqa: E402
from local.paths import DEFAULT_STATE_DIRECTORY  # noqa: E402

RESULTS = DEFAULT_STATE_DIRECTORY / "chaos"
SHOWN_VIOLATIONS = 40

WIDTH = 150

console = Console(highlight=False, width=WIDTH)


def main(
    names: Annotated[
        list[str] | None, typer.Argument(help=f"Scenarios: {', '.join(SCENARIOS)}. None: all.")
    ] = None,
    orders: Annotated[int, typer.Option(min=1, help="Orders for each scenario.")] = 1000,
    rate: Annotated[float, typer.Option(min=0.1, help="Orders a second.")] = 8.0,
    seed: Annotated[int, typer.Option(help="Seed of the load and of the faults.")] = 1,
    resting_every: Annotated[
        int, typer.Option(min=0, help="Every n-th order is a limit or sniper order (0: none).")
    ] = 10,
    *,
    hasten: Annotated[
        bool, typer.Option("--hasten", help="Invoke the reconciler, not wait for its schedule.")
    ] = False,
) -> None:
    """Break things while orders run, and check that none is lost, doubled or kept from anyone."""
    if unknown := set(names or ()) - set(SCENARIOS):
        raise typer.BadParameter(f"no such scenario: {', '.join(sorted(unknown))}")
    plan = RunPlan(orders, rate, seed, resting_every, hasten)
    outcomes = [run(SCENARIOS[name], plan) for name in names or SCENARIOS]
    show(outcomes)
    RESULTS.mkdir(parents=True, exist_ok=True)
    file = RESULTS / f"{datetime.now(UTC):%Y%m%d-%H%M%S}.json"
    file.write_text(json.dumps([report(outcome, plan) for outcome in outcomes], indent=1))
    console.print(f"Written to {file.relative_to(REPOSITORY)}")
    if any(outcome.violations for outcome in outcomes):
        raise typer.Exit(1)


def run(scenario: Scenario, plan: RunPlan) -> Outcome:
    """Run a scenario on a stack of its own and tell how it went."""
    console.rule(f"{scenario.title} ({scenario.name})")
    began_at_ms = int(time.time() * 1000)
    with running_rig(parameters=scenario.parameters) as rig:
        outcome = asyncio.run(run_scenario(rig, scenario, plan))
        if outcome.violations:
            keep_logs(rig, scenario, began_at_ms)
    console.print(f"  {counts(outcome.tally) or 'nothing broken but the venues'}")
    for violation in outcome.violations[:SHOWN_VIOLATIONS]:
        console.print(f"  [red]{violation}[/red]", markup=True)
    if len(outcome.violations) > SHOWN_VIOLATIONS:
        console.print(f"  [red]and {len(outcome.violations) - SHOWN_VIOLATIONS} more[/red]")
    show([outcome])
    return outcome


def keep_logs(rig: Rig, scenario: Scenario, since_ms: int) -> None:
    """Write down what the functions have logged: the stack is about to go."""
    RESULTS.mkdir(parents=True, exist_ok=True)
    file = RESULTS / f"{scenario.name}.log"
    with file.open("w", encoding="utf-8") as log:
        for line in FunctionLogs(rig.stack).since(since_ms):
            log.write(f"{line.moment:%H:%M:%S.%f} {line.source}: {line.text}\n")
    console.print(f"  The functions' logs: {file.relative_to(REPOSITORY)}")


def show(outcomes: list[Outcome]) -> None:
    """Print the table."""
    table = Table(title="Chaos")
    for heading in ("Scenario", "How the orders ended"):
        table.add_column(heading)
    for heading in (
        "Orders",
        "Restarted",
        "Events",
        "Subscribers",
        "Reconnects",
        "Final after s",
        "Delivered after s",
        "Violations",
    ):
        table.add_column(heading, justify="right")
    for outcome in outcomes:
        violations = len(outcome.violations)
        table.add_row(
            outcome.scenario.title,
            counts(outcome.statuses),
            str(outcome.orders),
            str(outcome.restarted),
            str(outcome.events),
            str(outcome.subscribers),
            str(outcome.reconnects),
            seconds(outcome.final_after_seconds),
            seconds(outcome.delivered_after_seconds),
            f"[red]{violations}[/red]" if violations else "[green]0[/green]",
        )
    console.print(table)


def counts(counter: Mapping[str, int]) -> str:
    """Word counts, the largest first."""
    return ", ".join(f"{name} {count}" for name, count in Counter(counter).most_common())


def seconds(value: float | None) -> str:
    """Word a time; none is what did not happen."""
    return "never" if value is None else f"{value:.1f}"


def report(outcome: Outcome, plan: RunPlan) -> dict[str, Any]:
    """Return everything about a run that is needed to judge it."""
    return {
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "scenario": outcome.scenario.name,
        "machine": {
            "processors": os.cpu_count(),
            "python": platform.python_version(),
            "system": f"{platform.system()} {platform.machine()}",
            "loadAfter": round(os.getloadavg()[0], 1),
        },
        "ratePerSecond": plan.rate_per_second,
        "seed": plan.seed,
        "restingEvery": plan.resting_every,
        "hastened": plan.hasten,
        "orders": outcome.orders,
        "statuses": dict(outcome.statuses),
        "restarted": outcome.restarted,
        "events": outcome.events,
        "arrivals": outcome.arrivals,
        "subscribers": outcome.subscribers,
        "reconnects": outcome.reconnects,
        "broken": dict(outcome.tally),
        "refusedRequests": dict(outcome.refused_requests),
        "loadSeconds": round(outcome.load_seconds, 1),
        "finalAfterSeconds": outcome.final_after_seconds,
        "deliveredAfterSeconds": outcome.delivered_after_seconds,
        "violations": [str(violation) for violation in outcome.violations],
    }


if __name__ == "__main__":
    started_at = time.monotonic()
    try:
        typer.run(main)
    finally:
        console.print(f"{time.monotonic() - started_at:.0f} s")
