"""Send one route as many requests as it takes, over many connections, from a process of its own."""

from __future__ import annotations

import http.client
import json
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

REPOSITORY = Path(__file__).parents[2]
CONNECTIONS = 40
SECONDS = 10.0
REQUEST_SECONDS = 30
PAUSE_SECONDS = 0.02
"""What a refused connection waits: the flood shares the processors with those whom it floods."""


@dataclass
class Flood:
    """A flood that goes on, and what it was answered: filled in at its end."""

    process: subprocess.Popen[str]
    answers: Counter[str] = field(default_factory=Counter)
    """How often each status was answered, and how often a connection broke (`broken`)."""

    @property
    def goes_on(self) -> bool:
        return self.process.poll() is None


@contextmanager
def flooding(url: str, body: object = None) -> Iterator[Flood]:
    """Flood a route until the end of the block, and for 10 seconds at most."""
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.support.flood", url],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=REPOSITORY,
    )
    flood = Flood(process)
    assert process.stdin is not None
    process.stdin.write("" if body is None else json.dumps(body))
    process.stdin.close()
    process.stdin = None
    try:
        yield flood
        output, _ = process.communicate(timeout=SECONDS + REQUEST_SECONDS)
        flood.answers.update(json.loads(output))
    finally:
        process.kill()
        process.wait()
        if process.stdout is not None:
            process.stdout.close()


def main(url: str, body: str) -> Counter[str]:
    """Flood, and return how often each status was answered."""
    deadline = time.monotonic() + SECONDS
    answers: Counter[str] = Counter()
    threads = [
        threading.Thread(target=_flood, args=(url, body, deadline, answers))
        for _ in range(CONNECTIONS)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return answers


def _flood(url: str, body: str, deadline: float, answers: Counter[str]) -> None:
    address = urlsplit(url)
    assert address.hostname
    method = "POST" if body else "GET"
    headers = {"Accept-Encoding": "gzip", "Content-Type": "application/json"}
    connection = http.client.HTTPConnection(address.hostname, address.port, timeout=REQUEST_SECONDS)
    while time.monotonic() < deadline:
        try:
            connection.request(method, address.path, body=body or None, headers=headers)
            response = connection.getresponse()
            response.read()
            status = str(response.status)
        except (OSError, http.client.HTTPException):
            connection.close()
            status = "broken"
        answers[status] += 1
        if not status.startswith("2"):
            time.sleep(PAUSE_SECONDS)
    connection.close()


if __name__ == "__main__":
    sys.stdout.write(json.dumps(main(sys.argv[1], sys.stdin.read())))
