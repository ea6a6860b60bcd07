"""A way to the emulator on which no WebSocket message gets through."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit


@contextmanager
def refusing_gateway(emulator_url: str) -> Iterator[str]:
    """Refuse every post as malformed and pass the rest on; yields the address to call."""
    emulator = urlsplit(emulator_url)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length", 0)))
            self._answer(400)

        def do_DELETE(self) -> None:
            onward = HTTPConnection(emulator.hostname or "", emulator.port, timeout=10)
            # As it was signed: the emulator checks the host that the caller meant.
            onward.putrequest("DELETE", self.path, skip_host=True, skip_accept_encoding=True)
            for name, value in self.headers.items():
                onward.putheader(name, value)
            onward.endheaders()
            response = onward.getresponse()
            response.read()
            onward.close()
            self._answer(response.status)

        def _answer(self, status: int) -> None:
            self.send_response(status)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_arguments: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join(timeout=5)
