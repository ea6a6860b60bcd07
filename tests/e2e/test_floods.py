"""A client that floods one pool shuts nobody out of the others."""

from __future__ import annotations

import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest
from tests.e2e.engine import Engine, Json, market_order, new_user
from tests.support.deadlines import patience
from tests.support.flood import CONNECTIONS, Flood, flooding
from tests.support.times import in_an_hour

from order_engine.domain.statuses import FINAL_STATUSES

PAUSE_SECONDS = 0.1
ROUNDS_AT_MOST = 60
ANSWER_SECONDS = 10.0
"""Below the functions' time-out; how fast it is, is for measurements to say."""
CALLING_OFF_AT_ONCE = 4


@pytest.fixture
def resting(engine: Engine) -> list[str]:
    """The ids of orders at rest, for the rounds to cancel."""
    order: Json = {"type": "limit", "limitPrice": "1000000", "expiresAt": in_an_hour()}
    return [engine.place(**order)["orderId"] for _ in range(ROUNDS_AT_MOST)]


@pytest.fixture
def flood_user(engine: Engine) -> Iterator[str]:
    """A user whose orders are called off at the end, so that later tests find an idle engine."""
    user = new_user()
    yield user
    left = [row["id"] for row in engine.orders_of(user) if row["status"] not in FINAL_STATUSES]
    with ThreadPoolExecutor(CALLING_OFF_AT_ONCE) as pool:
        list(pool.map(lambda order_id: engine.http.delete(f"api/orders/{order_id}"), left))


type Answers = dict[str, list[tuple[int, float]]]


def visits(engine: Engine, resting: list[str], flood: Flood) -> Answers:
    """Read, cancel and ask for health while the flood goes on: status and seconds of each."""
    requests: dict[str, Callable[[str], httpx.Response]] = {
        "order": lambda order_id: engine.http.get(f"api/orders/{order_id}"),
        "list": lambda _: engine.http.get("api/orders?status=open&limit=5"),
        "quotes": lambda _: engine.http.get("api/quotes?tokenIn=SOL&tokenOut=USDC&amountIn=1"),
        "cancel": lambda order_id: engine.http.delete(f"api/orders/{order_id}"),
        "health": lambda _: engine.http.get("api/health"),
    }
    answers: Answers = defaultdict(list)
    for order_id in resting:
        if not flood.goes_on:
            break
        for name, request in requests.items():
            started = time.monotonic()
            response = request(order_id)
            answers[name].append((response.status_code, time.monotonic() - started))
        time.sleep(PAUSE_SECONDS)
    return answers


def assert_nobody_was_shut_out(answers: Answers, flood: Flood) -> None:
    # Each connection of the flood has waited for an answer, whichever it got in the end.
    assert sum(flood.answers.values()) >= CONNECTIONS, flood.answers
    for name, given in answers.items():
        statuses = Counter(status for status, _ in given)
        assert statuses == {200: len(given)}, (name, statuses, flood.answers)
        seconds = sorted(seconds for _, seconds in given)
        p95 = seconds[int(len(seconds) * 0.95) - 1]
        assert p95 < patience(ANSWER_SECONDS), (name, seconds, flood.answers)
    assert min(map(len, answers.values())) >= 3, flood.answers


def test_flood_of_the_documentation_leaves_reads_cancels_and_health_alone(
    engine: Engine, resting: list[str]
) -> None:
    with flooding(f"{engine.stack.http_url.rstrip('/')}/docs/swagger-ui-bundle.js") as flood:
        answers = visits(engine, resting, flood)

    assert flood.answers["200"] > 0
    assert_nobody_was_shut_out(answers, flood)


def test_flood_of_orders_leaves_reads_cancels_and_health_alone(
    engine: Engine, resting: list[str], flood_user: str
) -> None:
    order: Json = market_order(userId=flood_user)
    with flooding(f"{engine.stack.http_url.rstrip('/')}/api/orders/execute", order) as flood:
        answers = visits(engine, resting, flood)

    assert flood.answers["202"] > 0
    assert_nobody_was_shut_out(answers, flood)
