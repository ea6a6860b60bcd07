"""API Gateway's connection management API, on a port of this machine."""

import json
import threading
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote


class ManagementApi:
    """Keep what is posted per connection; answer as told.

    ``statuses`` holds, per connection, what to answer next; when it is used up, 200. A status of 0
    hangs until ``released``; -1 cuts the connection without an answer.
    """

    def __init__(self, port: int) -> None:
        self.url = f"http://127.0.0.1:{port}/_aws/execute-api/orderstream/live"
        self.inbox: dict[str, list[dict[str, Any]]] = defaultdict(list)
        self.statuses: dict[str, list[int]] = defaultdict(list)
        self.closed: list[str] = []
        self.requests: list[tuple[str, str, dict[str, str]]] = []
        self.clients: set[tuple[str, int]] = set()
        self.released = threading.Event()

    def events(self, connection_id: str) -> list[int]:
        return [message["seq"] for message in self.inbox[connection_id] if "seq" in message]


@contextmanager
def management_api() -> Iterator[ManagementApi]:
    """Serve the API until the block ends."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            self.answer(body)

        def do_DELETE(self) -> None:
            self.answer(b"")

        def answer(self, body: bytes) -> None:
            connection_id = unquote(self.path.rpartition("/")[2])
            headers = {name.lower(): value for name, value in self.headers.items()}
            api.requests.append((self.command, self.path, headers))
            api.clients.add(self.client_address)
            status = api.statuses[connection_id].pop(0) if api.statuses[connection_id] else 200
            if status == 0:
                api.released.wait(10)
                status = 200
            if status == -1:
                self.close_connection = True
                self.connection.close()
                return
            if status == 200 and self.command == "POST":
                api.inbox[connection_id].append(json.loads(body))
            if status == 200 and self.command == "DELETE":
                api.closed.append(connection_id)
            self.send_response(status)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    api = ManagementApi(server.server_port)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield api
    finally:
        api.released.set()
        server.shutdown()
        server.server_close()
        thread.join()


def seconds_of(work: Any) -> float:
    """Return how long a call takes."""
    started = time.monotonic()
    work()
    return time.monotonic() - started
