"""The rows of the table: what is read from a run, and what it must be."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from statistics import median

from benchmarks.compare.runs import RunRecord

# A row shows at least so many decimals of values below 10.
SMALL = 10


class Verdict(StrEnum):
    """How a row stands to its bounds."""

    AIM = "aim"
    MET = "met"
    MISSED = "missed"
    UNKNOWN = "not measured"
    NONE = ""


@dataclass(frozen=True)
class Bound:
    """A least or greatest figure: of the second side, or of its ratio to the first."""

    limit: float
    is_ratio: bool = False
    is_least: bool = False

    def holds(self, value: float | None, ratio: float | None) -> bool | None:
        """Tell whether the bound holds; None when its figure is not known."""
        figure = ratio if self.is_ratio else value
        if figure is None:
            return None
        return figure >= self.limit if self.is_least else figure <= self.limit

    def text(self, unit: str) -> str:
        """Return the bound as the table shows it."""
        sign = "≥" if self.is_least else "≤"
        return f"{sign} {figure(self.limit)}{' x' if self.is_ratio else _with_blank(unit)}"


@dataclass(frozen=True)
class Row:
    """One row: a value of a scenario's runs."""

    value: str
    label: str
    unit: str = ""
    must: Bound | None = None
    aim: Bound | None = None


@dataclass(frozen=True)
class Reading:
    """A row with the medians of both sides, and the median of the ratios of its pairs."""

    row: Row
    first: float | None
    second: float | None
    ratio: float | None
    pairs: int

    @property
    def verdict(self) -> Verdict:
        """Judge the second side."""
        if self.row.must is None:
            return Verdict.NONE
        is_met = self.row.must.holds(self.second, self.ratio)
        if is_met is None:
            return Verdict.UNKNOWN
        if is_met and self.row.aim is not None and self.row.aim.holds(self.second, self.ratio):
            return Verdict.AIM
        return Verdict.MET if is_met else Verdict.MISSED


def _most(limit: float) -> Bound:
    return Bound(limit)


def _ratio(limit: float) -> Bound:
    return Bound(limit, is_ratio=True)


def _times(limit: float) -> Bound:
    return Bound(limit, is_ratio=True, is_least=True)


_NEIGHBOR = _most(150)
_FLAT = _most(1.15)

ROWS: Mapping[str, Sequence[Row]] = {
    "throughput": (
        Row("orders_per_minute", "orders a minute", "", _times(1.6), _times(2.5)),
        Row("cpu_ms_per_order", "processor time per order", "ms", _ratio(0.6), _ratio(0.45)),
        Row("post_p50_ms", "POST p50", "ms", _most(80), _most(40)),
        Row("post_p95_ms", "POST p95", "ms", _most(250), _most(100)),
        Row("end_to_end_p50_ms", "end to end p50", "ms", _most(5000), _most(3500)),
        Row("end_to_end_p95_ms", "end to end p95", "ms", _most(8000), _most(5000)),
        Row("commit_to_client_p95_ms", "commit to client p95", "ms", _ratio(1), _most(150)),
        Row("throughput_lost", "orders lost", "", _most(0)),
    ),
    "burst": (
        Row("burst_refusals", "burst: refusals", "", _most(0)),
        Row("burst_failed", "burst: failed or lost", "", _most(0)),
        Row("burst_post_p95_ms", "burst: POST p95", "ms"),
        Row("burst_end_to_end_p95_ms", "burst: end to end p95", "ms"),
    ),
    "first": (
        Row("up_seconds", "start of the stack", "s"),
        Row("first_p95_ms", "first orders after the start, p95", "ms", _most(10_000), _most(6000)),
        Row("first_lost", "first orders: lost", "", _most(0)),
    ),
    "fairness": (
        Row("single_calm_p95_ms", "single order in calm, p95", "ms"),
        Row(
            "single_delay_p95_ms",
            "single order while another user's wait: p95 over calm",
            "ms",
            _most(1500),
            _most(500),
        ),
        Row("crowd_read_p95_ms", "read meanwhile, p95", "ms", _NEIGHBOR),
        Row("crowd_cancel_p95_ms", "cancel meanwhile, p95", "ms", _NEIGHBOR),
        Row("crowd_refusals", "reads and cancels refused meanwhile", "", _most(0)),
        Row("single_refusals", "single orders refused meanwhile", "", _most(0)),
        Row("crowd_missing", "the other user's orders: lost", "", _most(0)),
    ),
    "flood": (
        Row("flood_read_p95_ms", "read during a flood of another pool, p95", "ms", _NEIGHBOR),
        Row("flood_cancel_p95_ms", "cancel during a flood of another pool, p95", "ms", _NEIGHBOR),
        Row("flood_order_p95_ms", "POST during a flood of another pool, p95", "ms"),
        Row("flood_page_p95_ms", "health during a flood of another pool, p95", "ms"),
        Row("flood_refusals", "of all these refused", "", _most(0)),
    ),
    "history": (
        Row("history_orders", "orders of one user before the last ones"),
        Row("history_cost_growth", "cost of his last orders over his first", "x", _FLAT),
        Row("history_cost_over_newcomer", "the same over a newcomer's just then", "x"),
    ),
    "long": (
        Row("long_lost", "long run: lost", "", _most(0)),
        Row("long_failed", "long run: failed", "", _most(0)),
        Row("long_memory_growth", "long run: memory of a process, late over early", "x", _FLAT),
        Row("long_emulator_memory_growth", "the same of the emulator, which keeps all", "x"),
        Row("long_orders_per_minute", "long run: orders a minute"),
        Row("long_cpu_ms_per_order", "long run: processor time per order", "ms"),
    ),
}


def read_rows(records: Sequence[RunRecord], first: str, second: str) -> list[Reading]:
    """Return the rows of all scenarios that were run, from the runs of two sides."""
    scenarios = {record.scenario for record in records}
    return [
        _read(row, records, first, second)
        for scenario, rows in ROWS.items()
        if scenario in scenarios or scenario == "first"
        for row in rows
    ]


def _read(row: Row, records: Sequence[RunRecord], first: str, second: str) -> Reading:
    """Read a row from every run that has its value: a stack's start is a part of each run."""
    values = {
        (record.side, record.scenario, record.pair): record.values[row.value]
        for record in records
        if row.value in record.values
    }
    paired = [
        (values[first, scenario, pair], value)
        for (side, scenario, pair), value in values.items()
        if side == second and (first, scenario, pair) in values
    ]
    ratios = [after / before for before, after in paired if before]
    return Reading(
        row=row,
        first=_median_of(values, first),
        second=_median_of(values, second),
        ratio=median(ratios) if ratios else None,
        pairs=len(paired),
    )


def _median_of(values: Mapping[tuple[str, str, int], float], side: str) -> float | None:
    own = [value for (of_side, _, _), value in values.items() if of_side == side]
    return median(own) if own else None


def figure(value: float | None) -> str:
    """Return a figure with three places or so."""
    if value is None:
        return "-"
    if value == round(value) or abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.2f}" if abs(value) < SMALL else f"{value:.1f}"


def with_unit(value: float | None, unit: str) -> str:
    """Return a figure with its unit, and nothing but a dash for none."""
    return figure(value) if value is None else f"{figure(value)}{_with_blank(unit)}"


def _with_blank(unit: str) -> str:
    return f" {unit}" if unit else ""
