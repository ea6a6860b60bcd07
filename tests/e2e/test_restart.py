"""Stopping and starting the stack keeps its orders."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import pytest
from tests.e2e.engine import Engine, Json
from tests.e2e.stacks import PROFILE, RunningStack, free_state, noted

from local import runtime
from local.ports import free_port


@dataclass(frozen=True)
class Restart:
    """An order from before, and the engine from after."""

    before: Json
    engine: Engine


@pytest.fixture(scope="module")
def restart() -> Iterator[Restart]:
    """A stack on which an order was confirmed, and which was then stopped and started."""
    with free_state("restart") as state:
        settings = runtime.Settings(
            emulator_port=free_port(), postgres_port=free_port(), parameters=PROFILE
        )
        try:
            first = runtime.up(state, settings)
            with noted(RunningStack(first, state)):
                engine = Engine(first)
                before = engine.final_order(engine.place()["orderId"], seconds=120)
                engine.close()
            runtime.down(state)
            second = runtime.up(state, settings)
            with noted(RunningStack(second, state)):
                engine = Engine(second)
                yield Restart(before, engine)
                engine.close()
        finally:
            runtime.down(state)


def test_order_from_before_is_unchanged(restart: Restart) -> None:
    assert restart.engine.order(restart.before["orderId"]) == restart.before


def test_order_from_before_is_replayed_to_a_new_listener(restart: Restart) -> None:
    with restart.engine.listening(orderId=restart.before["orderId"]) as listener:
        assert listener.events_until_final(restart.before["orderId"]) == restart.before["events"]


def test_order_from_after_is_confirmed(restart: Restart) -> None:
    order = restart.engine.place()
    assert restart.engine.final_order(order["orderId"])["status"] == "confirmed"
