"""The end-to-end tests share one stack, deployed once."""

from __future__ import annotations

from collections.abc import Generator, Iterator

import pytest
from botocore.exceptions import BotoCoreError, ClientError
from tests.e2e.engine import Engine
from tests.e2e.stacks import own_stack, running_stacks
from tests.support.deadlines import slowness

from local.stack import Stack

WARM_UP_SECONDS = 120


def pytest_report_header() -> str:
    return f"slowness of this machine: {slowness():.1f} (deadlines are multiplied by it)"


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
            try:
                report.sections.extend(running.logs_since(call.start))
            except (BotoCoreError, ClientError, OSError) as error:
                # A stack in trouble may not tell of it; the failure itself is what counts.
                report.sections.append(("log of the functions", f"cannot be read: {error}"))
    return report
