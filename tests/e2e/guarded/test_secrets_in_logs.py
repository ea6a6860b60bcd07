"""Nothing that opens anything is ever logged."""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterator
from urllib.parse import urlsplit

import httpx
import pytest
from tests.e2e.engine import market_order, wait_until
from tests.e2e.guarded.lab import Grant, Lab
from websockets.exceptions import InvalidStatus

from local.logs import FunctionLogs


def secrets_used(lab: Lab) -> Iterator[str]:
    """Do what involves secrets, in right and in wrong ways; yield each secret."""
    yield lab.token
    yield lab.stack.database_url
    password = urlsplit(lab.stack.database_url).password
    assert password
    yield password

    # Tickets: issued, used, used again, and for the order of an accepted POST
    issued = lab.http.post("api/stream-tickets").json()
    yield issued["ticket"]
    with lab.listening(issued["wsUrl"]):
        pass
    with pytest.raises(InvalidStatus), lab.listening(issued["wsUrl"]):
        pass
    order_ticket = httpx.URL(lab.place()["wsUrl"]).params["ticket"]
    yield order_ticket
    with (
        pytest.raises(InvalidStatus),
        lab.listening(orderId=str(uuid.uuid4()), ticket=order_ticket),
    ):
        pass

    # Tokens: of somebody else, forged, and in places where they do not belong
    other = lab.issuer.token("somebody-else")
    yield other
    assert lab.http.get("api/orders", headers={"Authorization": f"Bearer {other}x"}).is_error
    lab.http.get("api/orders", headers={"Authorization": f"Bearer {other}"})
    lab.http.get("api/orders", params={"access_token": other, "cursor": other[:90]})
    lab.http.get("docs", params={"access_token": other})
    lab.http.post("api/orders/execute", json={**market_order(userId=None), "token": other})
    with pytest.raises(InvalidStatus), lab.listening(ticket=other):
        pass

    # A database login that fails, and a database that is away
    wrong = f"wrong-{uuid.uuid4().hex}"
    yield wrong
    with lab.database_secret(lab.stack.database_url.replace(password, wrong)):
        for function in ("ApiFunction", "HealthFunction", "ReconcileFunction", "MigrateFunction"):
            lab.restart(function)
        assert lab.http.get("api/health").status_code == 503
        assert wrong not in lab.http.get("api/orders").text
        lab.invoke("ReconcileFunction", {})
        lab.invoke("MigrateFunction", {"RequestType": "Update"})
    for function in ("ApiFunction", "HealthFunction", "ReconcileFunction", "MigrateFunction"):
        lab.restart(function)
    secret = Grant("HealthRole", "ReadDatabaseSecret", "secretsmanager:GetSecretValue")
    with lab.without([secret]):
        assert lab.http.get("api/health").status_code == 503


SOURCES = {"Submit", "Api", "Pages", "Health", "WebSocket", "Reconcile", "Migrate", "Lifecycle"}


def test_logs_never_carry_what_opens_something(lab: Lab) -> None:
    # given
    started_ms = int(time.time() * 1000)
    secrets = list(secrets_used(lab))
    marker = lab.place()["orderId"]
    logs = FunctionLogs(lab.stack)
    wait_until(
        lambda: logs.since(started_ms, source="Submit", containing=marker),
        seconds=30,
        what="the last request is in the logs",
    )
    # when: from the beginning, so that the other tests' tokens are looked for, too
    wait_until(
        lambda: {line.source for line in logs.since(0)} >= SOURCES,
        seconds=30,
        what="every function has written to its log",
    )
    lines = logs.since(0)
    # then
    for secret in secrets:
        leaks = [f"{line.source}: {line.text[:300]}" for line in lines if secret in line.text]
        assert not leaks, f"a secret ({secret[:6]}...) is in the logs"
