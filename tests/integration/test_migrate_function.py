"""The migrate function: CloudFormation's requests in, a current schema and an answer out."""

import json
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import psycopg
import pytest
from tests.integration.conftest import Function, sample_event

from order_engine.errors import DatabaseUnavailable


@dataclass
class Context:
    log_stream_name: str = "2026/11/21/[$LATEST]f2a1"


@pytest.fixture
def answers() -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """A place where answers are put: its URL, and what has come."""
    received: list[dict[str, Any]] = []

    class Bucket(BaseHTTPRequestHandler):
        def do_PUT(self) -> None:
            length = int(self.headers["Content-Length"])
            received.append(json.loads(self.rfile.read(length)))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    with HTTPServer(("127.0.0.1", 0), Bucket) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/answer", received
        server.shutdown()
        thread.join()


@pytest.mark.parametrize("kind", ["create", "update", "delete"])
def test_every_request_is_answered_with_the_same_physical_id(
    load_function: Callable[..., Function],
    database: psycopg.Connection[dict[str, Any]],
    answers: tuple[str, list[dict[str, Any]]],
    kind: str,
) -> None:
    url, received = answers
    event = sample_event(f"migrate-{kind}") | {"ResponseURL": url}

    load_function("migrate").app.handler(event, Context())

    (answer,) = received
    assert (answer["Status"], answer["PhysicalResourceId"]) == ("SUCCESS", "order-engine-schema")
    assert answer["RequestId"] == event["RequestId"]
    assert database.execute("SELECT count(*) FROM order_transitions").fetchone()


def test_failed_migration_is_answered_too(
    load_function: Callable[..., Function],
    answers: tuple[str, list[dict[str, Any]]],
) -> None:
    url, received = answers
    event = sample_event("migrate-create") | {"ResponseURL": url}
    migrate = load_function("migrate", DATABASE_SECRET_ARN="arn:aws:secretsmanager:x:1:secret:no")

    with pytest.raises(DatabaseUnavailable):
        migrate.app.handler(event, Context())

    assert [answer["Status"] for answer in received] == ["FAILED"]
