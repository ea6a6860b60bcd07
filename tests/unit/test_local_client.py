"""The small client, against servers of the test's own on the loopback address."""

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import httpx
import pytest
from websockets.sync.server import ServerConnection, serve

from local.client import ApiError, FollowTimeoutError, OrderClient

Json = dict[str, Any]


def event(seq: int, *, order_id: str = "o1", final: bool = False) -> Json:
    return {"type": "order.routing", "orderId": order_id, "seq": seq, "final": final}


@contextmanager
def stream(handler: Callable[[ServerConnection], None]) -> Iterator[str]:
    with serve(handler, "127.0.0.1", 0) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"ws://127.0.0.1:{server.socket.getsockname()[1]}"
        finally:
            server.shutdown()
            thread.join()


def test_follow_yields_each_event_once_and_ends_at_the_final_one() -> None:
    def handler(connection: ServerConnection) -> None:
        messages = [
            {"type": "subscribed", "orderId": "o1"},
            event(1),
            event(1),
            event(7, order_id="another"),
            event(2),
            event(1),
            event(3, final=True),
            event(4),
        ]
        for message in messages:
            connection.send(json.dumps(message))

    with stream(handler) as url, OrderClient("http://127.0.0.1:1") as client:
        seqs = [e["seq"] for e in client.follow(url, "o1", deadline_seconds=10)]

    assert seqs == [1, 2, 3]


def test_follow_connects_again_after_a_break_and_drops_what_it_had() -> None:
    connections: list[ServerConnection] = []

    def handler(connection: ServerConnection) -> None:
        connections.append(connection)
        connection.send(json.dumps(event(1)))
        if len(connections) == 2:
            connection.send(json.dumps(event(2, final=True)))

    with stream(handler) as url, OrderClient("http://127.0.0.1:1") as client:
        seqs = [e["seq"] for e in client.follow(url, "o1", deadline_seconds=10)]

    assert seqs == [1, 2]
    assert len(connections) == 2


def test_follow_past_its_deadline_tells_how_many_events_came() -> None:
    def handler(connection: ServerConnection) -> None:
        connection.send(json.dumps(event(1)))
        threading.Event().wait(2)

    with stream(handler) as url, OrderClient("http://127.0.0.1:1") as client:
        events = client.follow(url, "o1", deadline_seconds=0.5)
        assert next(events)["seq"] == 1
        with pytest.raises(FollowTimeoutError) as caught:
            next(events)

    assert caught.value.events == 1


def client_answering(response: httpx.Response) -> OrderClient:
    return OrderClient("http://engine", transport=httpx.MockTransport(lambda request: response))


def test_submit_accepted_returns_the_order() -> None:
    reply = {"orderId": "o1", "wsUrl": "ws://engine?orderId=o1"}
    response = httpx.Response(202, json=reply, headers={"Idempotency-Replayed": "true"})

    submission = client_answering(response).submit({"amount": "1"})

    assert (submission.order_id, submission.replayed) == ("o1", True)
    assert submission.web_socket_url == "ws://engine?orderId=o1"


def test_submit_refused_raises_what_the_problem_says() -> None:
    problem = {
        "code": "VALIDATION_FAILED",
        "detail": "amountIn must be above 0",
        "errors": [{"field": "amountIn", "message": "must be above 0"}],
    }

    with pytest.raises(ApiError) as caught:
        client_answering(httpx.Response(422, json=problem)).submit({"amount": "0"})

    assert (caught.value.status, caught.value.code) == (422, "VALIDATION_FAILED")
    assert caught.value.errors == ["amountIn: must be above 0"]


def test_submit_answered_with_no_json_raises_the_text() -> None:
    with pytest.raises(ApiError, match=r"502 .*Bad Gateway"):
        client_answering(httpx.Response(502, text="Bad Gateway")).submit({})
