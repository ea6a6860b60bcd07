"""The plots of a comparison: pace, latencies and processor time; and who waits for whom."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from statistics import fmean, median

from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from benchmarks.compare.report import SIDES
from benchmarks.compare.runs import OrderSeen, RunRecord
from benchmarks.footprint import CLIENT, OTHERS

COLORS = ("#8a8f98", "#2563eb")
CROWD_COLOR = "#c8ccd2"
DOTS_PER_INCH = 130
SMALL_SHARE = 0.01


def draw(records: Sequence[RunRecord], directory: Path) -> list[Path]:
    """Draw what the records allow; return the files."""
    drawn = []
    paced = [record for record in records if record.scenario == "throughput"]
    if {record.side for record in paced} == set(SIDES):
        drawn.append(_save(_figures(paced), directory / "figures.png"))
    crowded = [record for record in records if record.scenario == "fairness"]
    if {record.side for record in crowded} == set(SIDES):
        drawn.append(_save(_fairness(crowded), directory / "fairness.png"))
    return drawn


def _save(figure: Figure, file: Path) -> Path:
    figure.savefig(file, dpi=DOTS_PER_INCH)
    return file


def _figures(records: Sequence[RunRecord]) -> Figure:
    figure = Figure(figsize=(12, 8), layout="constrained")
    ((pace, posts), (lives, cpu)) = figure.subplots(2, 2)
    by_side = {side: [r for r in records if r.side == side] for side in SIDES}
    titles = [f"{side}\n{own[0].commit}" for side, own in by_side.items()]
    _bars(pace, by_side, {"": "orders_per_minute"}, titles)
    pace.set(title="Orders a minute", ylabel="orders a minute")
    _bars(posts, by_side, {"p50": "post_p50_ms", "p95": "post_p95_ms"}, titles)
    posts.set(title="POST", ylabel="ms")
    lives_of = {"p50": "end_to_end_p50_ms", "p95": "end_to_end_p95_ms"}
    _bars(lives, by_side, lives_of, titles)
    lives.set(title="End to end", ylabel="ms")
    _stacked_cpu(cpu, by_side, titles)
    return figure


def _bars(
    axes: Axes,
    by_side: dict[str, list[RunRecord]],
    values: dict[str, str],
    titles: Sequence[str],
) -> None:
    """Draw the median of each value as a bar for each side, and each run as a dot."""
    width = 0.8 / len(by_side)
    for number, (records, title) in enumerate(zip(by_side.values(), titles, strict=True)):
        places = [place + (number - (len(by_side) - 1) / 2) * width for place in range(len(values))]
        runs = [[r.values[v] for r in records if v in r.values] for v in values.values()]
        medians = [median(run) if run else 0.0 for run in runs]
        bars = axes.bar(places, medians, width * 0.9, color=COLORS[number], label=title)
        axes.bar_label(bars, fmt="{:,.0f}", padding=2)
        for place, run in zip(places, runs, strict=True):
            axes.plot([place] * len(run), run, "k.", markersize=4)
    axes.set_xticks(range(len(values)), list(values))
    axes.margins(y=0.3)
    axes.legend(fontsize="small")


def _stacked_cpu(axes: Axes, by_side: dict[str, list[RunRecord]], titles: Sequence[str]) -> None:
    """Draw the milliseconds of each kind of process per order, on top of each other."""
    costs = [without_small(cpu_by_kind(records)) for records in by_side.values()]
    kinds = sorted({kind for cost in costs for kind in cost}, key=lambda k: -costs[0].get(k, 0.0))
    tops = [0.0] * len(costs)
    for number, kind in enumerate(kinds):
        heights = [cost.get(kind, 0.0) for cost in costs]
        axes.bar(titles, heights, 0.6, bottom=tops, label=kind, color=colormaps["tab20"](number))
        tops = [top + height for top, height in zip(tops, heights, strict=True)]
    for place, top in enumerate(tops):
        axes.text(place, top, f"{top:,.0f}", ha="center", va="bottom")
    axes.set(title="Processor time per order", ylabel="ms")
    axes.set_ylim(0, 1.1 * max(tops))
    axes.set_xlim(-0.6, len(costs) + 0.4)
    handles, labels = axes.get_legend_handles_labels()
    axes.legend(handles[::-1], labels[::-1], fontsize="x-small", loc="upper right")


def cpu_by_kind(records: Sequence[RunRecord]) -> dict[str, float]:
    """Return the mean milliseconds per order of each kind of a stack's processes."""
    kinds = {kind for record in records for kind in record.footprint} - {CLIENT, OTHERS}
    return {
        kind.removesuffix("Function"): fmean(
            1000 * record.footprint[kind].cpu_seconds / max(1, len(record.orders["throughput"]))
            if kind in record.footprint
            else 0.0
            for record in records
        )
        for kind in kinds
    }


def without_small(cost: dict[str, float]) -> dict[str, float]:
    """Return the same sum with kinds that nobody would see on a plot added up."""
    least = SMALL_SHARE * sum(cost.values())
    large = {kind: value for kind, value in cost.items() if value >= least}
    return {**large, "the rest": sum(cost.values()) - sum(large.values())}


def _fairness(records: Sequence[RunRecord]) -> Figure:
    """Draw the lives of all orders of the first pair over time, a panel for each side."""
    figure = Figure(figsize=(12, 8), layout="constrained")
    panels = figure.subplots(2, 1, sharey=True, sharex=True)
    for axes, side in zip(panels, SIDES, strict=True):
        record = next(record for record in records if record.side == side)
        began_at = record.values["crowd_began_at_seconds"]
        _scatter(
            axes, record.orders["crowd"], began_at, CROWD_COLOR, "the user with many orders", 6
        )
        singles = record.orders["singles"]
        _scatter(axes, singles, began_at, COLORS[1], "ten users, an order every few seconds", 14)
        for name, color in (("reads", "#16a34a"), ("cancels", "#dc2626")):
            answers = record.requests[name]
            axes.scatter(
                [answer.at_seconds - began_at for answer in answers],
                [answer.latency_ms / 1000 for answer in answers],
                s=5,
                color=color,
                label=name,
            )
        waited_until = record.values["crowd_waited_until_seconds"] - began_at
        axes.axvspan(0, waited_until, color="#fef3c7", zorder=0, label="orders of one user wait")
        axes.set_yscale("log")
        axes.yaxis.set_major_formatter("{x:g}")
        axes.set(title=f"{side} ({record.commit})", ylabel="from request to its end, s")
        axes.grid(visible=True, alpha=0.3)
    handles, labels = panels[-1].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=len(labels))
    panels[-1].set_xlabel("seconds since one user began to bring his orders")
    return figure


def _scatter(
    axes: Axes, orders: Sequence[OrderSeen], zero: float, color: str, label: str, size: int
) -> None:
    ended = [order for order in orders if order.end_to_end_ms is not None]
    axes.scatter(
        [order.began_at_seconds - zero for order in ended],
        [(order.end_to_end_ms or 0.0) / 1000 for order in ended],
        s=size,
        color=color,
        label=label,
    )
