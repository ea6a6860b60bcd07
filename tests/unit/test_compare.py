"""What a comparison of two commits computes is what its table says."""

from __future__ import annotations

import asyncio
import itertools
from datetime import UTC, datetime
from pathlib import Path

import httpx
import pytest
import typer

from benchmarks.compare import command, neighbors, plots, report, scenarios
from benchmarks.compare.rows import ROWS, Bound, Reading, Row, Verdict, figure, read_rows
from benchmarks.compare.runs import OrderSeen, RunRecord, Sizes, cpu_ms_per_order, seen_orders
from benchmarks.compare.runs import waited_p95_ms as waited_p95
from benchmarks.compare.sides import Side, pinned_packages, unfit_packages
from benchmarks.compare.traffic import Answer, Request, RequestStream, asset_paths, p95_ms, refused
from benchmarks.footprint import MemorySample, PartUse, function_in
from benchmarks.load import Arrival, LoadGenerator, LoadPlan, Recording, Submission
from benchmarks.machine import Machine, calibration_seconds
from local.paths import StateDirectory

MACHINE = Machine(
    processors=2, processor="P", memory_gib=8, python="3.13.0", system="Linux", load_before=0.1
)


def use(cpu_seconds: float, share: float = 0.1) -> PartUse:
    return PartUse(processes=1, peak_memory_mib=1, cpu_seconds=cpu_seconds, share_of_machine=share)


def seen(began_at: float, end_to_end_ms: float | None, user: int = 0) -> OrderSeen:
    return OrderSeen(
        user=user,
        began_at_seconds=began_at,
        post_ms=10,
        end_to_end_ms=end_to_end_ms,
        status=None if end_to_end_ms is None else "confirmed",
        refusals=0,
    )


def record(
    side: str, pair: int, values: dict[str, float], scenario: str = "throughput"
) -> RunRecord:
    return RunRecord(
        scenario=scenario,
        side=side,
        commit={"against": "aaaaaaa", "now": "bbbbbbb"}[side],
        pair=pair,
        at=datetime(2026, 11, 27, pair, tzinfo=UTC),
        machine=MACHINE,
        calibration_seconds=[0.2, 0.3],
        scale=1.0,
        parameters={},
        values=values,
        footprint={"emulator": use(2.0), "LifecycleFunction": use(1.0), "client": use(9.0)},
        memory=[],
        orders={scenario: [seen(1.0, 900.0)], "singles": [seen(1.0, 900.0)], "crowd": []},
        requests={"reads": [answer(5)], "cancels": []},
    )


def answer(latency_ms: float, status: int = 200, at_seconds: float = 0.0) -> Answer:
    return Answer(at_seconds=at_seconds, latency_ms=latency_ms, status=status)


def side(name: str) -> Side:
    return Side(name, "aaaaaaa", Path(), Path(), StateDirectory.at("/nowhere"), {})


def reading_of(value: str, records: list[RunRecord]) -> Reading:
    (found,) = [r for r in read_rows(records, "against", "now") if r.row.value == value]
    return found


# --- rows


def test_ratio_is_the_median_of_the_pairs_and_not_of_the_medians() -> None:
    before, after = (100.0, 200.0, 400.0), (200.0, 100.0, 1200.0)
    records = [
        record(name, pair, {"orders_per_minute": value})
        for name, values in (("against", before), ("now", after))
        for pair, value in enumerate(values, start=1)
    ]
    reading = reading_of("orders_per_minute", records)
    assert (reading.first, reading.second, reading.ratio, reading.pairs) == (200.0, 200.0, 2.0, 3)


def test_run_without_its_partner_counts_for_the_median_only() -> None:
    records = [
        record("against", 1, {"post_p50_ms": 100.0}),
        record("now", 1, {"post_p50_ms": 50.0}),
        record("now", 2, {"post_p50_ms": 70.0}),
    ]
    reading = reading_of("post_p50_ms", records)
    assert (reading.second, reading.ratio, reading.pairs) == (60.0, 0.5, 1)


def test_row_of_the_start_takes_runs_of_every_scenario() -> None:
    records = [
        record("now", 1, {"first_p95_ms": 1000.0}, "burst"),
        record("now", 1, {"first_p95_ms": 3000.0}, "flood"),
        record("now", 1, {"first_p95_ms": 2000.0}, "fairness"),
    ]
    assert reading_of("first_p95_ms", records).second == 2000.0


def test_nothing_before_has_no_ratio() -> None:
    records = [record("against", 1, {"burst_refusals": 0}, "burst")]
    records.append(record("now", 1, {"burst_refusals": 3}, "burst"))
    assert reading_of("burst_refusals", records).ratio is None


def test_rows_of_scenarios_that_were_not_run_stay_away() -> None:
    labels = {r.row.value for r in read_rows([record("now", 1, {})], "against", "now")}
    assert labels == {row.value for name in ("throughput", "first") for row in ROWS[name]}


@pytest.mark.parametrize(
    ("bound", "value", "ratio", "holds"),
    [
        (Bound(80), 80.0, None, True),
        (Bound(80), 80.1, 0.1, False),
        (Bound(80), None, 0.1, None),
        (Bound(1.6, is_ratio=True, is_least=True), 1.0, 1.6, True),
        (Bound(1.6, is_ratio=True, is_least=True), 9.0, 1.5, False),
        (Bound(0.6, is_ratio=True), 9.0, 0.6, True),
        (Bound(0.6, is_ratio=True), 9.0, None, None),
    ],
)
def test_bound(bound: Bound, value: float | None, ratio: float | None, holds: bool | None) -> None:
    assert bound.holds(value, ratio) is holds


@pytest.mark.parametrize(
    ("second", "ratio", "verdict"),
    [
        (150.0, 1.0, Verdict.AIM),
        (151.0, 1.0, Verdict.MET),
        (100.0, 1.1, Verdict.MISSED),
        (None, None, Verdict.UNKNOWN),
    ],
)
def test_aim_needs_the_must(second: float | None, ratio: float | None, verdict: Verdict) -> None:
    row = Row("value", "label", "ms", Bound(1, is_ratio=True), Bound(150))
    assert Reading(row, 100.0, second, ratio, 1).verdict is verdict


def test_row_without_a_bound_is_not_judged() -> None:
    assert Reading(Row("value", "label"), 1.0, 2.0, 2.0, 1).verdict is Verdict.NONE


@pytest.mark.parametrize(
    ("value", "text"),
    [(None, "-"), (0.0, "0"), (1.5, "1.50"), (12.34, "12.3"), (1234.5, "1,234"), (3025.0, "3,025")],
)
def test_figure(value: float | None, text: str) -> None:
    assert figure(value) == text


def test_values_of_the_rows_are_named_once() -> None:
    values = [row.value for rows in ROWS.values() for row in rows]
    assert len(values) == len(set(values))
    assert set(ROWS) == set(command.SCENARIOS)


# --- runs


def test_every_second_pair_begins_with_the_other_side() -> None:
    runs = command._order_of_runs(["burst", "long"], [side("against"), side("now")], 3, 1)
    assert [(name, pair, one.name) for name, pair, one in runs] == [
        ("burst", 1, "against"),
        ("burst", 1, "now"),
        ("burst", 2, "now"),
        ("burst", 2, "against"),
        ("burst", 3, "against"),
        ("burst", 3, "now"),
        ("long", 1, "against"),
        ("long", 1, "now"),
    ]


def test_only_known_scenarios_are_chosen() -> None:
    assert command._chosen("burst, fairness") == ["burst", "fairness"]
    assert command._chosen("") == list(command.SCENARIOS)
    with pytest.raises(typer.BadParameter):
        command._chosen("bursts")


def test_scale_leaves_enough_to_measure() -> None:
    sizes = Sizes().scaled(0.04)
    assert (sizes.throughput, sizes.burst, sizes.waiting, sizes.users) == (20, 40, 80, 2)
    assert Sizes().scaled(0.001).throughput == 10


def test_cost_of_an_order_is_all_processes_of_the_stack() -> None:
    parts = {"emulator": use(2), "Postgres": use(1), "ended processes": use(1)}
    assert cpu_ms_per_order({**parts, "client": use(5), "other programs": use(7)}, 100) == 40.0


def test_order_without_an_end_lasts_until_the_end_of_the_run() -> None:
    assert waited_p95([seen(10.0, 500.0), seen(12.0, None)], until=20.0) == 8000.0


def test_orders_are_seen_as_their_clients_saw_them() -> None:
    recording = Recording(LoadPlan(orders=2, clients=1), user_ids=("u0", "u1"))
    recording.submissions = [
        Submission("c1", None, 5.0, 6.0, (429, 429), "u1"),
        Submission("c0", "o0", 1.0, 1.5, (), "u0"),
    ]
    recording.arrivals = [{"o0": [Arrival(1, "confirmed", True, 3.0, 3.5)]}]
    first, second = seen_orders(recording)
    assert (first.user, first.post_ms, first.end_to_end_ms) == (0, 500.0, 2500.0)
    assert (second.user, second.status, second.refusals) == (1, None, 2)


def test_orders_wait_until_the_last_one_is_started() -> None:
    recording = Recording(LoadPlan(orders=2, clients=1), user_ids=("u",), ended_at=99.0)
    assert neighbors.waiting_until(recording) == 99.0
    recording.arrivals = [
        {
            "o0": [Arrival(2, "routing", False, 3.0, 3.5), Arrival(5, "confirmed", True, 9.0, 9.5)],
            "o1": [Arrival(2, "routing", False, 7.0, 7.5)],
        }
    ]
    assert neighbors.waiting_until(recording) == 7.0


def test_pool_whose_users_were_all_refused_has_no_latency() -> None:
    assert neighbors.worst_of([10.0, 30.0]) == 30.0
    assert neighbors.worst_of([10.0, None]) is None


def test_memory_growth_compares_late_with_early() -> None:
    samples = [
        MemorySample(at_seconds=second, mib_per_process={"Postgres": 10 + second / 10})
        for second in range(101)
    ]
    assert scenarios.memory_growth(samples) == {"Postgres": pytest.approx(19 / 13.5, abs=0.01)}
    assert scenarios.memory_growth([]) == {}


def test_worker_is_named_by_its_function() -> None:
    folder = "/state/tmp/ministack-lambda-order-engine-RaydiumFunction-07DCFD9EDD369-jzl9h0d4"
    assert function_in(f"/usr/bin/python {folder}/_worker.py") == "RaydiumFunction"
    assert function_in("/usr/bin/python -m uvicorn") == "other workers"


def test_calibration_takes_processor_time() -> None:
    assert calibration_seconds() > 0


# --- sides


def test_pinned_packages_are_read_without_their_hashes() -> None:
    text = (
        "# made by uv\n"
        "uv==0.8.1 \\\n    --hash=sha256:aa \\\n    --hash=sha256:bb\n"
        "colorama==0.4.6 ; sys_platform == 'win32' \\\n    --hash=sha256:cc\n"
        "    # via click\n"
    )
    assert pinned_packages(text) == ["uv==0.8.1", "colorama==0.4.6 ; sys_platform == 'win32'"]


def test_environment_fits_its_own_requirements_and_no_others() -> None:
    pins = f"httpx=={httpx.__version__} \\\n    --hash=sha256:aa\n"
    assert unfit_packages(pins + "nowhere==1 ; sys_platform == 'nowhere'\n") == []
    assert unfit_packages(pins + "httpx==0.0.1\nnowhere==1\n") == ["httpx==0.0.1", "nowhere==1"]


# --- traffic


def test_refused_requests_are_counted_and_not_timed() -> None:
    answers = [answer(10), answer(9000, 429), answer(20, 409), answer(5, 503), answer(30_000, 0)]
    assert p95_ms(answers) == 20.0
    assert refused(answers) == 3


def test_assets_are_those_that_the_api_itself_serves() -> None:
    base = "http://127.0.0.1:4566/api-id/"
    page = (
        '<link href="docs/style.css"><script src="./docs/a.js"></script><a href="https://else/x">'
        '<script src="docs/a.js"></script>'
    )
    assert asset_paths(page, base) == ["/docs/style.css", "/docs/a.js"]


class _Server:
    """Answer over real sockets, slowly, and count how many requests are under way."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self.under_way = 0
        self.most = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while await reader.readline():
            while (await reader.readline()).strip():
                pass
            self.under_way += 1
            self.most = max(self.most, self.under_way)
            await asyncio.sleep(self._seconds)
            self.under_way -= 1
            writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")
            await writer.drain()
        writer.close()


async def _stream(
    server: _Server, requests: int, per_second: float, connections: int
) -> list[Answer]:
    listening = await asyncio.start_server(server.serve, "127.0.0.1", 0)
    async with listening:
        port = listening.sockets[0].getsockname()[1]
        stream = RequestStream(
            f"http://127.0.0.1:{port}",
            itertools.repeat(Request("GET", "/"), requests),
            per_second=per_second,
            connections=connections,
        )
        await stream.run()
        return stream.answers


def test_stream_sends_each_request_when_it_is_due() -> None:
    answers = asyncio.run(_stream(_Server(0), 5, per_second=20, connections=2))
    times = sorted(one.at_seconds for one in answers)
    gaps = [after - before for before, after in itertools.pairwise(times)]
    assert gaps == pytest.approx([0.05] * 4)
    assert {one.status for one in answers} == {200}


def test_wait_for_a_free_connection_is_a_part_of_the_latency() -> None:
    server = _Server(0.05)
    answers = asyncio.run(_stream(server, 4, per_second=1000, connections=1))
    assert server.most == 1
    assert max(one.latency_ms for one in answers) >= 190


# --- load


def test_users_take_turns_and_orders_at_rest_have_a_price() -> None:
    plan = LoadPlan(orders=4, clients=1, users=2, at_rest=True)
    generator = LoadGenerator("http://127.0.0.1:1", "ws://127.0.0.1:1", plan, "run")
    bodies = [generator._body(number) for number in range(4)]
    assert [body["userId"] for body in bodies] == [
        "bench-run-0",
        "bench-run-1",
        "bench-run-0",
        "bench-run-1",
    ]
    assert {body["type"] for body in bodies} == {"limit"}
    assert len({body["clientOrderId"] for body in bodies}) == 4


def test_paced_order_begins_when_it_is_due() -> None:
    plan = LoadPlan(orders=4, clients=1, users=2, interval_seconds=4.0)
    generator = LoadGenerator("http://127.0.0.1:1", "ws://127.0.0.1:1", plan, "run")
    generator.recording.began_at = 1000.0
    assert asyncio.run(generator._await_turn(3)) == 1006.0


# --- report


def test_report_has_all_of_a_comparison(tmp_path: Path) -> None:
    values = {"orders_per_minute": 900.0, "post_p50_ms": 1.0, "post_p95_ms": 2.0}
    crowd = {"crowd_began_at_seconds": 0.0, "crowd_waited_until_seconds": 5.0}
    for name, factor in (("against", 1.0), ("now", 2.0)):
        faster = {**values, "orders_per_minute": 900.0 * factor}
        report.store(tmp_path, record(name, 1, faster))
        report.store(tmp_path, record(name, 1, crowd, "fairness"))
    records = report.load_records(tmp_path)
    assert len(records) == 4
    assert report.is_stored(tmp_path, "throughput", 1, "now")
    assert not report.is_stored(tmp_path, "throughput", 2, "now")
    text = report.markdown(records)
    assert "| orders a minute | 900 | 1,800 | 2 x | ≥ 1.60 x | ≥ 2.50 x | met | 1 |" in text
    assert "aaaaaaa: 2 runs, calibration 0.20 to 0.30 s, median 0.25 s." in text
    drawn = plots.draw(records, tmp_path)
    assert [file.name for file in drawn] == ["figures.png", "fairness.png"]
    assert all(file.stat().st_size > 10_000 for file in drawn)


def test_runs_of_other_commits_or_sizes_do_not_mix(tmp_path: Path) -> None:
    report.store(tmp_path, record("now", 1, {}))
    commits = {"against": "aaaaaaa", "now": "bbbbbbb"}
    report.require_same(tmp_path, commits, 1.0)
    with pytest.raises(ValueError, match="bbbbbbb"):
        report.require_same(tmp_path, {**commits, "now": "ccccccc"}, 1.0)
    with pytest.raises(ValueError, match="another folder"):
        report.require_same(tmp_path, commits, 0.04)


def test_one_side_alone_has_a_table_and_no_plots(tmp_path: Path) -> None:
    report.store(tmp_path, record("now", 1, {"orders_per_minute": 900.0}))
    records = report.load_records(tmp_path)
    assert "| orders a minute | - | 900 | - |" in report.markdown(records)
    assert plots.draw(records, tmp_path) == []


def test_cost_by_kind_is_per_order() -> None:
    assert plots.cpu_by_kind([record("now", 1, {})]) == {"emulator": 2000.0, "Lifecycle": 1000.0}


def test_small_costs_are_added_up() -> None:
    cost = plots.without_small({"emulator": 99.0, "Pages": 0.5, "Triggers": 0.5})
    assert cost == {"emulator": 99.0, "the rest": 1.0}
