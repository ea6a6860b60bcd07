"""`make test` runs all of its parts."""

from __future__ import annotations

import sys

import pytest

from local.parts import Part, run_all, sum_of

# Stands for `make`: succeeds for every target but one called `broken`.
FAKE_MAKE = (sys.executable, "-c", "import sys; sys.exit(sys.argv[1] == 'broken')")


def test_parts_behind_a_failed_one_run_and_the_whole_fails(
    capfd: pytest.CaptureFixture[str],
) -> None:
    assert run_all(["broken", "sound"], FAKE_MAKE) == 1

    told = capfd.readouterr().out
    assert [line.split()[:2] for line in told.splitlines() if " s" in line][:2] == [
        ["broken", "failed"],
        ["sound", "passed"],
    ]


def test_parts_that_all_pass_pass_together() -> None:
    assert run_all(["one", "two"], FAKE_MAKE) == 0


def test_sum_says_how_many_failed_and_how_long_all_took() -> None:
    lines = sum_of([Part("unit", 0, 10.2), Part("e2e", 2, 400)])

    assert lines[-1] == "  1 of 2 failed in 410 s"
