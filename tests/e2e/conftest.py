"""The end-to-end tests share one stack, deployed once."""

from __future__ import annotations

from collections.abc import Generator, Iterator

import pytest
from tests.e2e.engine import Engine
from tests.e2e.stacks import own_stack, running_stacks

from local.stack import Stack

WARM_UP_SECONDS = 120


@pytest.fixture(scope="session")
def stack() -> Iterator[Stack]:
    with own_stack("e2e") as stack:
        yield stack


@pytest.fixture(scope="session")
def engine(stack: Stack) -> Iterator[Engine]:
    """The stack's engine, its functions warmed up by one order."""
    engine = Engine(stack)
    engine.final_order(engine.place()["orderId"], seconds=WARM_UP_SECONDS)
    yield engine
    engine.close()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Add what the stack logged meanwhile to the report of a test that failed."""
    report = yield
    if report.failed:
        for running in running_stacks:
            report.sections.extend(running.logs_since(call.start))
    return report
