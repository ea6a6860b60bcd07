"""How the end-to-end tests find out what a stack can be sent at once."""

from __future__ import annotations

from collections.abc import Callable

import httpx
import pytest
from tests.e2e import crowd
from tests.e2e.crowd import calls_at_once


@pytest.fixture
def answered_up_to(monkeypatch: pytest.MonkeyPatch) -> Callable[[int, int], list[int]]:
    """Play a stack that is brisk up to a size, from a certain round of each size on."""

    def play(most: int, first_brisk_round: int) -> list[int]:
        rounds: list[int] = []

        def is_brisk(_call: Callable[[], object], at_once: int) -> bool:
            rounds.append(at_once)
            return at_once <= most and rounds.count(at_once) >= first_brisk_round

        monkeypatch.setattr(crowd, "_is_brisk", is_brisk)
        return rounds

    return play


def test_stack_that_answers_all_is_sent_the_most() -> None:
    assert calls_at_once(lambda: None, 20) == 20


def test_stack_that_never_answers_is_sent_one_at_a_time() -> None:
    def time_out() -> None:
        raise httpx.ReadTimeout("no answer")

    assert calls_at_once(time_out, 20) == 1


def test_stack_that_stays_slow_is_sent_what_it_took(
    answered_up_to: Callable[[int, int], list[int]],
) -> None:
    answered_up_to(5, 1)

    assert calls_at_once(lambda: None, 20) == 4


def test_round_on_cold_workers_is_followed_by_one_on_warm_ones(
    answered_up_to: Callable[[int, int], list[int]],
) -> None:
    rounds = answered_up_to(20, 2)

    assert calls_at_once(lambda: None, 3) == 3
    assert rounds == [1, 1, 2, 2, 3, 3]
