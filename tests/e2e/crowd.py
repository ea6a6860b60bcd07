"""How many requests at once the stack's api function can be sent, found by trying."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import httpx

BRISK_SECONDS = 4.0
"""A reply within this time leaves room below the function's timeout, which is 15 s."""
ROUNDS = 4


def calls_at_once(call: Callable[[], object], at_most: int) -> int:
    """Return how many of the calls at once are all answered briskly: 1, 2, 4 ... `at_most`.

    Each step starts as many new workers as there are already, so that the pool is warm afterwards
    for what it is then sent. A round on cold workers is slow, and may fail: only the one that
    follows on warm ones counts. A stack that stays slow is sent no more than it took.
    """
    answered, trying = 1, 1
    while _is_brisk_once_warm(call, trying):
        answered, trying = trying, min(2 * trying, at_most)
        if answered == at_most:
            break
    return answered


def _is_brisk_once_warm(call: Callable[[], object], at_once: int) -> bool:
    return any(_is_brisk(call, at_once) for _ in range(ROUNDS))


def _is_brisk(call: Callable[[], object], at_once: int) -> bool:
    with ThreadPoolExecutor(at_once) as pool:
        return all(pool.map(lambda _: _is_answered_briskly(call), range(at_once)))


def _is_answered_briskly(call: Callable[[], object]) -> bool:
    started = time.monotonic()
    try:
        call()
    except (AssertionError, httpx.TimeoutException):
        return False
    return time.monotonic() - started < BRISK_SECONDS
