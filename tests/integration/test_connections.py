import socket
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from typing import Any

import pytest
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from tests.support.management_api import ManagementApi, management_api, seconds_of

from order_engine.adapters import websocket_gateway as connections_module
from order_engine.adapters.websocket_gateway import (
    CONNECT_TIMEOUT_SECONDS,
    READ_TIMEOUT_SECONDS,
    Connections,
)
from order_engine.streaming.ports import PostOutcome

Connect = Callable[..., Connections]

CONNECTION = "L0SM9cOFvHcCIhw="


@pytest.fixture
def api(monkeypatch: pytest.MonkeyPatch) -> Iterator[ManagementApi]:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    with management_api() as api:
        yield api


@pytest.fixture
def connect(api: ManagementApi) -> Iterator[Connect]:
    """Return what makes connections to the API, and close them after the test."""
    with ExitStack() as made:

        def connect(*options: Any) -> Connections:
            return made.enter_context(closing(Connections(api.url, *options)))

        yield connect


def test_message_is_posted_to_the_connection(api: ManagementApi, connect: Connect) -> None:
    connections = connect()

    assert connections.post(CONNECTION, '{"text":"é"}') is PostOutcome.DELIVERED

    assert api.inbox[CONNECTION] == [{"text": "é"}]
    method, path, _ = api.requests[0]
    assert (method, path) == (
        "POST",
        "/_aws/execute-api/orderstream/live/@connections/L0SM9cOFvHcCIhw%3D",
    )


def test_requests_are_signed_for_the_service(api: ManagementApi, connect: Connect) -> None:
    def sign(method: str, url: str, body: bytes) -> dict[str, str]:
        request = AWSRequest(method, url, data=body)
        SigV4Auth(Credentials("test", "secret"), "execute-api", "us-east-1").add_auth(request)
        return dict(request.headers.items())

    connect().post(CONNECTION, "{}")
    connect(sign).post(CONNECTION, "{}")

    own, expected = (headers["authorization"] for _, _, headers in api.requests)
    assert "/us-east-1/execute-api/aws4_request" in own
    assert own.split("Signature=")[0] == expected.split("Signature=")[0]


@pytest.mark.parametrize(
    ("status", "outcome"),
    [
        (410, PostOutcome.GONE),
        (429, PostOutcome.UNAVAILABLE),
        (403, PostOutcome.UNAVAILABLE),
        (500, PostOutcome.UNAVAILABLE),
        (503, PostOutcome.UNAVAILABLE),
        (400, PostOutcome.REFUSED),
        (413, PostOutcome.REFUSED),
    ],
)
def test_status_tells_the_outcome(
    api: ManagementApi, connect: Connect, status: int, outcome: PostOutcome
) -> None:
    connections = connect()
    api.statuses[CONNECTION] = [status]

    assert connections.post(CONNECTION, "{}") is outcome
    assert connections.post(CONNECTION, "{}") is PostOutcome.DELIVERED


def test_connection_is_closed(api: ManagementApi, connect: Connect) -> None:
    assert connect().disconnect(CONNECTION) is PostOutcome.DELIVERED

    assert api.closed == [CONNECTION]


def test_hanging_post_is_given_up_within_its_second(api: ManagementApi, connect: Connect) -> None:
    connections = connect()
    api.statuses[CONNECTION] = [0]
    outcomes: list[PostOutcome] = []

    seconds = seconds_of(lambda: outcomes.append(connections.post(CONNECTION, "{}")))

    assert outcomes == [PostOutcome.TIMED_OUT]
    assert READ_TIMEOUT_SECONDS <= seconds < READ_TIMEOUT_SECONDS + CONNECT_TIMEOUT_SECONDS
    assert connections.post("other", "{}") is PostOutcome.DELIVERED


def test_http_connections_are_kept_open(api: ManagementApi, connect: Connect) -> None:
    connections = connect()

    for _ in range(5):
        connections.post(CONNECTION, "{}")

    assert len(api.clients) == 1


def test_threads_do_not_share_http_connections(
    api: ManagementApi, connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    # How long a busy machine takes is not what this is about.
    monkeypatch.setattr(connections_module, "CONNECT_TIMEOUT_SECONDS", 30)
    monkeypatch.setattr(connections_module, "READ_TIMEOUT_SECONDS", 30)
    connections = connect()

    with ThreadPoolExecutor(8) as threads:
        outcomes = set(threads.map(lambda n: connections.post(f"c{n}", "{}"), range(100)))

    assert outcomes == {PostOutcome.DELIVERED}
    assert sum(len(messages) for messages in api.inbox.values()) == 100


def test_idle_connection_closed_by_the_server_is_replaced(
    api: ManagementApi, connect: Connect
) -> None:
    connections = connect()
    connections.post(CONNECTION, "{}")
    api.statuses[CONNECTION] = [-1]

    assert connections.post(CONNECTION, "{}") is PostOutcome.DELIVERED

    assert len(api.clients) == 2


def test_connection_cut_at_its_first_use_is_unavailable(
    api: ManagementApi, connect: Connect
) -> None:
    connections = connect()
    api.statuses[CONNECTION] = [-1]

    assert connections.post(CONNECTION, "{}") is PostOutcome.UNAVAILABLE


def test_nobody_listening_is_unavailable(api: ManagementApi) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{unused.getsockname()[1]}/live"

        assert Connections(url).post(CONNECTION, "{}") is PostOutcome.UNAVAILABLE


def test_closed_connections_are_cut_and_made_anew_for_the_next_post(
    api: ManagementApi, connect: Connect
) -> None:
    connections = connect()
    connections.post(CONNECTION, "{}")

    connections.close()

    assert connections.post(CONNECTION, "{}") is PostOutcome.DELIVERED
    assert len(api.clients) == 2
