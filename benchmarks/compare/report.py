"""The table of a comparison, on the screen and as Markdown, and the records it is made of."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median

from rich.table import Table

from benchmarks.compare.rows import Reading, figure, read_rows, with_unit
from benchmarks.compare.runs import RunRecord
from benchmarks.footprint import OTHERS

RECORDS = "runs"
OLD_SIDE = "against"
NEW_SIDE = "now"
SIDES = (OLD_SIDE, NEW_SIDE)
# The share that other programs may take of the machine before figures say little about this one.
BUSY_SHARE = 0.15


def store(directory: Path, record: RunRecord) -> Path:
    """Write a run's record into the folder of its comparison."""
    file = _file(directory, record.scenario, record.pair, record.side)
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(record.model_dump_json(by_alias=True) + "\n", encoding="utf-8")
    return file


def is_stored(directory: Path, scenario: str, pair: int, side: str) -> bool:
    """Tell whether a comparison has this run already."""
    return _file(directory, scenario, pair, side).exists()


def require_same(directory: Path, commits: Mapping[str, str], scale: float) -> None:
    """Check that a folder has no runs of other commits or sizes. Raises ValueError."""
    for record in load_records(directory):
        if (record.commit, record.scale) != (commits[record.side], scale):
            raise ValueError(
                f"{directory} has runs of {record.commit}, scaled by {record.scale}:"
                " choose another folder"
            )


def _file(directory: Path, scenario: str, pair: int, side: str) -> Path:
    return directory / RECORDS / f"{scenario}-{pair}-{side}.json"


def load_records(directory: Path) -> list[RunRecord]:
    """Read all records of a comparison, in the order of the runs."""
    files = (directory / RECORDS).glob("*.json")
    records = [RunRecord.model_validate_json(file.read_text(encoding="utf-8")) for file in files]
    return sorted(records, key=lambda record: record.at)


def _cells(reading: Reading) -> tuple[str, ...]:
    row = reading.row
    return (
        row.label,
        with_unit(reading.first, row.unit),
        with_unit(reading.second, row.unit),
        "-" if reading.ratio is None else f"{figure(reading.ratio)} x",
        row.must.text(row.unit) if row.must else "",
        row.aim.text(row.unit) if row.aim else "",
        reading.verdict.value,
        str(reading.pairs),
    )


def screen_table(records: Sequence[RunRecord]) -> Table:
    """Return the table for the screen."""
    table = Table(title="Medians of the runs; the ratio is the median of the pairs'")
    for number, heading in enumerate(_headings(records)):
        table.add_column(heading, justify="left" if number == 0 else "right")
    for reading in read_rows(records, *SIDES):
        table.add_row(*_cells(reading))
    return table


def markdown(records: Sequence[RunRecord]) -> str:
    """Return the whole report as Markdown."""
    headings = _headings(records)
    rows = [_cells(reading) for reading in read_rows(records, *SIDES)]
    lines = [
        "# Comparison",
        "",
        *(f"- {remark}" for remark in remarks(records)),
        "",
        _markdown_row(headings),
        "|---|" + "---:|" * (len(headings) - 1),
        *map(_markdown_row, rows),
        "",
        "The figures are medians of the runs, the ratio is the median of the pairs' ratios.",
        "",
        "![Pace, latencies and processor time](figures.png)",
        "",
        "![One user with many orders, ten with one order each](fairness.png)",
    ]
    return "\n".join(lines) + "\n"


def remarks(records: Sequence[RunRecord]) -> list[str]:
    """Return what is needed to judge the table: machine, calibration, what disturbed it."""
    lines = [f"Machine: {records[-1].machine}. {records[0].at:%Y-%m-%d}."]
    for side in sorted({record.side for record in records}):
        own = [record for record in records if record.side == side]
        speeds = [seconds for record in own for seconds in record.calibration_seconds]
        lines.append(
            f"{_title(own[0])}: {len(own)} runs, calibration {min(speeds):.2f} to"
            f" {max(speeds):.2f} s, median {median(speeds):.2f} s."
        )
    scales = {record.scale for record in records}
    if scales != {1.0}:
        lines.append("A trial: the sizes were scaled, so these are not the table's figures.")
    disturbed = [
        f"{record.scenario} {record.pair} {record.side}"
        for record in records
        if OTHERS in record.footprint and record.footprint[OTHERS].share_of_machine > BUSY_SHARE
    ]
    if disturbed:
        lines.append(f"Other programs were at work during: {', '.join(disturbed)}.")
    return lines


def _headings(records: Sequence[RunRecord]) -> list[str]:
    titles = {record.side: _title(record) for record in records}
    names = [titles.get(side, side) for side in SIDES]
    return ["", *names, "ratio", "must", "aim", "verdict", "pairs"]


def _title(record: RunRecord) -> str:
    return record.commit if record.side == OLD_SIDE else f"{record.side} ({record.commit})"


def _markdown_row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"
