"""The figures that the measurements print are what their names say."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from benchmarks.cold_start import handlers
from benchmarks.figures import load_figures, percentile_ms
from benchmarks.footprint import CLIENT, ENDED, Footprint
from benchmarks.load import Arrival, LoadPlan, Recording, Submission
from local.stack import StackProcesses

LIFE = ("pending", "routing", "building", "submitted", "confirmed")


def submission(order_id: str | None, *, began_at: float = 0.0, seconds: float = 0.1) -> Submission:
    return Submission(f"client-{order_id}", order_id, began_at, began_at + seconds)


def life(*seqs: int, delay: float = 0.01, last: str = "confirmed") -> list[Arrival]:
    names = [*LIFE[:-1], last]
    return [
        Arrival(
            seq=seq,
            status=names[seq - 1],
            final=seq == len(names),
            happened_at=float(seq),
            received_at=seq + delay,
            failure_code="TX_EXPIRED" if names[seq - 1] == "failed" else None,
        )
        for seq in seqs
    ]


def recording(*lives: dict[str, list[Arrival]], orders: int = 1) -> Recording:
    plan = LoadPlan(orders=orders, clients=1, listeners=len(lives))
    made = Recording(plan, user_ids=("user",), ended_at=10.0, arrivals=list(lives))
    made.submissions = [submission(f"order-{number}") for number in range(orders)]
    return made


@pytest.mark.parametrize(
    ("percent", "expected"), [(50, 2000.0), (95, 4000.0), (100, 4000.0), (1, 1000.0)]
)
def test_percentile_is_the_nearest_rank(percent: int, expected: float) -> None:
    assert percentile_ms([1.0, 2.0, 3.0, 4.0], percent) == expected


def test_percentile_of_nothing_is_unknown() -> None:
    assert percentile_ms([], 50) is None


def test_order_without_a_final_event_is_lost() -> None:
    figures = load_figures(recording({"order-0": life(1, 2, 3)}))
    assert (figures.lost, figures.confirmed) == (1, 0)


def test_order_whose_end_one_listener_missed_is_lost() -> None:
    figures = load_figures(recording({"order-0": life(1, 2, 3, 4, 5)}, {"order-0": life(1, 2)}))
    assert figures.lost == 1


def test_final_order_with_a_gap_is_incomplete() -> None:
    figures = load_figures(recording({"order-0": life(1, 2, 4, 5)}))
    assert (figures.incomplete, figures.lost) == (1, 0)


def test_event_behind_a_later_one_is_out_of_order() -> None:
    figures = load_figures(recording({"order-0": life(1, 3, 2, 4, 5)}))
    assert (figures.out_of_order, figures.incomplete) == (1, 0)


def test_event_that_comes_again_is_a_duplicate_and_no_disorder() -> None:
    figures = load_figures(recording({"order-0": life(1, 2, 3, 1, 2, 3, 4, 5)}))
    assert (figures.duplicates, figures.out_of_order) == (3, 0)


def test_failed_order_counts_by_its_code() -> None:
    figures = load_figures(recording({"order-0": life(1, 2, 3, 4, 5, last="failed")}))
    assert figures.failed_by_code == {"TX_EXPIRED": 1}
    assert figures.lost == 0


def test_end_to_end_runs_from_the_post_to_the_confirmation() -> None:
    figures = load_figures(recording({"order-0": life(1, 2, 3, 4, 5, delay=0.5)}))
    assert figures.end_to_end.p50_ms == 5500.0
    assert figures.commit_to_client.p95_ms == 500.0


def test_rate_runs_to_the_last_confirmation() -> None:
    made = recording({f"order-{n}": life(1, 2, 3, 4, 5, delay=1.0) for n in range(3)}, orders=3)
    assert load_figures(made).confirmed_per_minute == 30.0


def test_cold_starts_are_measured_of_every_handler_by_its_name() -> None:
    found = {name: (folder, module) for name, folder, module in handlers()}

    assert found["lifecycle"] == ("functions/lifecycle", "app")
    assert {name for name, (folder, _) in found.items() if folder == "functions/api"} == {
        *("submit", "api", "pages", "health")
    }
    assert len(found) == 11


def test_work_of_a_process_that_began_and_ended_between_samples_counts() -> None:
    nobody = 2**30
    footprint = Footprint(StackProcesses(emulator=os.getpid(), postgres=nobody))
    busy = "import time\nwhile time.process_time() < 0.3: pass"
    subprocess.run([sys.executable, "-c", busy], check=True)
    footprint.stop()
    parts = footprint.parts()
    sampled = parts["other workers"].cpu_seconds if "other workers" in parts else 0.0
    assert 0.25 <= parts[ENDED].cpu_seconds + sampled < 1.5
    assert parts[CLIENT].processes == 1
    assert footprint.memory[0].mib_per_process[CLIENT] > 1
