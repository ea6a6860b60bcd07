"""A headless Chromium for tests, driven over its DevTools protocol."""

from __future__ import annotations

import base64
import itertools
import json
import shutil
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect

Json = dict[str, Any]

START_SECONDS = 30.0
COMMAND_SECONDS = 30.0
EXPECT_SECONDS = 30.0

EXECUTABLES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-quic",
    "--no-first-run",
    "--no-default-browser-check",
    "--no-proxy-server",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--hide-scrollbars",
    "--remote-debugging-port=0",
)


def find_chromium() -> str | None:
    """Return the path of an installed Chromium, None without one."""
    return next((path for name in EXECUTABLES if (path := shutil.which(name))), None)


@contextmanager
def running_browser(executable: str, profile: Path) -> Iterator[Browser]:
    """Run a browser with a profile of its own for the length of the block."""
    with (profile.parent / f"{profile.name}.log").open("w") as log:
        process = subprocess.Popen(
            [executable, *FLAGS, f"--user-data-dir={profile}", "about:blank"],
            stdout=log,
            stderr=log,
        )
        try:
            with connect(_address(profile, process), max_size=None, proxy=None) as connection:
                yield Browser(connection)
        finally:
            process.terminate()
            try:
                process.wait(timeout=10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _address(profile: Path, process: subprocess.Popen[bytes]) -> str:
    """Return the browser's WebSocket URL, which it writes into its profile."""
    deadline = time.monotonic() + START_SECONDS
    port_file = profile / "DevToolsActivePort"
    while time.monotonic() < deadline:
        assert process.poll() is None, f"the browser ended with {process.returncode}"
        lines = port_file.read_text().split() if port_file.exists() else []
        if len(lines) == 2:
            return f"ws://127.0.0.1:{lines[0]}{lines[1]}"
        time.sleep(0.05)
    raise AssertionError(f"no browser within {START_SECONDS:.0f} s")


class Browser:
    """A running browser."""

    def __init__(self, connection: ClientConnection) -> None:
        self._connection = connection
        self._ids = itertools.count(1)
        self._answers: dict[int, Future[Json]] = {}
        self._pages: dict[str, Page] = {}
        threading.Thread(target=self._read, daemon=True).start()

    @contextmanager
    def page(self, *, width: int = 1440, height: int = 1000, dark: bool = False) -> Iterator[Page]:
        """Hold a page of its own, without cookies or storage of others, open for the block."""
        context = self.command("Target.createBrowserContext")["browserContextId"]
        target = self.command(
            "Target.createTarget", {"url": "about:blank", "browserContextId": context}
        )["targetId"]
        session = self.command("Target.attachToTarget", {"targetId": target, "flatten": True})[
            "sessionId"
        ]
        page = self._pages[session] = Page(self, session)
        try:
            page.prepare(width=width, height=height, dark=dark)
            yield page
        finally:
            del self._pages[session]
            self.command("Target.disposeBrowserContext", {"browserContextId": context})

    def command(
        self, method: str, parameters: Mapping[str, Any] | None = None, session: str | None = None
    ) -> Json:
        """Send a DevTools command and return its result."""
        answer = self.send(method, parameters, session).result(timeout=COMMAND_SECONDS)
        assert "error" not in answer, f"{method}: {answer['error']}"
        result: Json = answer["result"]
        return result

    def send(
        self, method: str, parameters: Mapping[str, Any] | None = None, session: str | None = None
    ) -> Future[Json]:
        """Send a DevTools command without waiting."""
        number = next(self._ids)
        answer = self._answers[number] = Future()
        message = {"id": number, "method": method, "params": dict(parameters or {})}
        self._connection.send(json.dumps(message | ({"sessionId": session} if session else {})))
        return answer

    def _read(self) -> None:
        try:
            for frame in self._connection:
                message = json.loads(frame)
                if "id" in message:
                    self._answers.pop(message["id"]).set_result(message)
                elif page := self._pages.get(message.get("sessionId", "")):
                    page.notice(message["method"], message["params"])
        except ConnectionClosed:
            pass


class Page:
    """One page.

    `troubles` are its script errors and what its security policy has stopped; `requests` are those
    to the API since the first `answer`, as DevTools describes them.
    """

    def __init__(self, browser: Browser, session: str) -> None:
        self._browser = browser
        self._session = session
        self._answers: dict[tuple[str, str], tuple[int, Json]] = {}
        self.troubles: list[str] = []
        self.requests: list[Json] = []

    def prepare(self, *, width: int, height: int, dark: bool) -> None:
        """Set the size and the color scheme, and listen for troubles."""
        for domain in ("Page", "Runtime", "Log"):
            self._command(f"{domain}.enable")
        self._command(
            "Emulation.setDeviceMetricsOverride",
            {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600},
        )
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self._command("Emulation.setEmulatedMedia", {"features": [scheme]})

    def open(self, url: str) -> None:
        """Navigate and wait until the document has been parsed."""
        self._command("Page.navigate", {"url": url})
        self.expect(
            f"location.href.startsWith({json.dumps(url)}) && document.readyState !== 'loading'"
        )

    def evaluate(self, expression: str) -> Any:
        """Return the (JSON) value of a JavaScript expression; promises are awaited."""
        answer = self._command(
            "Runtime.evaluate",
            {"expression": expression, "awaitPromise": True, "returnByValue": True},
        )
        assert "exceptionDetails" not in answer, f"{expression}: {answer['exceptionDetails']}"
        return answer["result"].get("value")

    def expect(self, expression: str, seconds: float = EXPECT_SECONDS) -> None:
        """Wait until a JavaScript expression holds. Raises AssertionError at the deadline."""
        deadline = time.monotonic() + seconds
        while not self.evaluate(f"Boolean({expression})"):
            shown = self.evaluate("document.body?.innerText ?? ''")
            assert time.monotonic() < deadline, f"never: {expression}\n\n{shown}\n{self.troubles}"
            time.sleep(0.05)

    def text(self, selector: str) -> str:
        """Return the text that an element shows, "" when it shows none."""
        text: str = self.evaluate(
            f"document.querySelector({json.dumps(selector)})?.innerText ?? ''"
        )
        return text

    def click(self, selector: str) -> None:
        """Click in the middle of an element, with the mouse."""
        middle = self.evaluate(
            f"""(() => {{
              const found = document.querySelector({json.dumps(selector)});
              found.scrollIntoView({{block: "center", behavior: "instant"}});
              const box = found.getBoundingClientRect();
              return {{x: box.x + box.width / 2, y: box.y + box.height / 2}};
            }})()"""
        )
        for kind in ("mousePressed", "mouseReleased"):
            self._command(
                "Input.dispatchMouseEvent",
                {"type": kind, "button": "left", "clickCount": 1, **middle},
            )

    def fill(self, selector: str, text: str) -> None:
        """Replace what an input holds, by typing."""
        self.evaluate(f"document.querySelector({json.dumps(selector)}).focus()")
        self.evaluate(f"document.querySelector({json.dumps(selector)}).select()")
        self.type(text) if text else self.press("Delete")

    def type(self, text: str) -> None:
        """Type into whatever has the focus."""
        self._command("Input.insertText", {"text": text})

    def press(self, key: str, text: str = "") -> None:
        """Press and release a key, such as Tab or (with its text "\\r") Enter."""
        codes = {"Enter": 13, "Tab": 9, "Delete": 46, "ArrowRight": 39, " ": 32}
        down = {"key": key, "code": key, "windowsVirtualKeyCode": codes[key], "text": text}
        self._command("Input.dispatchKeyEvent", {"type": "keyDown", **down})
        self._command("Input.dispatchKeyEvent", {"type": "keyUp", "key": key})

    def choose(self, selector: str, value: str) -> None:
        """Choose an option of a list, or check a radio button, as a user's change."""
        self.evaluate(
            f"""(() => {{
              const found = document.querySelector({json.dumps(selector)});
              if (found.type === "radio") found.checked = true;
              else found.value = {json.dumps(value)};
              for (const type of ["input", "change"])
                found.dispatchEvent(new Event(type, {{bubbles: true}}));
            }})()"""
        )

    def answer(self, method: str, path: str, status: int, document: Json) -> None:
        """Answer requests for a path's end in the API's place from now on."""
        self._answers[method, path] = (status, document)
        self._command("Fetch.enable", {"patterns": [{"urlPattern": "*/api/*"}]})

    def pass_on(self) -> None:
        """Let the API answer again."""
        self._answers.clear()

    def run_first(self, script: str) -> None:
        """Run a script before those of every page that is opened from now on."""
        self._command("Page.addScriptToEvaluateOnNewDocument", {"source": script})

    def accessible_nodes(self) -> list[Json]:
        """Return the role and name that assistive technology is told of each node."""
        nodes = self._command("Accessibility.getFullAXTree")["nodes"]
        return [
            {key: node.get(key, {}).get("value", "") for key in ("role", "name")}
            for node in nodes
            if not node["ignored"]
        ]

    def screenshot(self, path: Path, *, full: bool = False) -> None:
        """Save a picture of what is in view, or of the full page."""
        image = self._command("Page.captureScreenshot", {"captureBeyondViewport": full})
        path.write_bytes(base64.b64decode(image["data"]))

    def notice(self, method: str, parameters: Json) -> None:
        """Take in a DevTools event."""
        handlers: Mapping[str, Callable[[Json], None]] = {
            "Runtime.exceptionThrown": self._notice_exception,
            "Log.entryAdded": self._notice_entry,
            "Fetch.requestPaused": self._notice_request,
        }
        if handler := handlers.get(method):
            handler(parameters)

    def _notice_exception(self, parameters: Json) -> None:
        details = parameters["exceptionDetails"]
        self.troubles.append(details.get("exception", {}).get("description") or details["text"])

    def _notice_entry(self, parameters: Json) -> None:
        entry = parameters["entry"]
        # A refused request is the page's business, which it shows; the rest is a fault of the page.
        if entry["level"] == "error" and entry["source"] != "network":
            self.troubles.append(f"{entry['source']}: {entry['text']}")

    def _notice_request(self, parameters: Json) -> None:
        request = parameters["request"]
        self.requests.append(request)
        url = request["url"].partition("?")[0]
        for (method, path), (status, document) in self._answers.items():
            if request["method"] == method and url.endswith(path):
                body = base64.b64encode(json.dumps(document).encode()).decode()
                headers = [{"name": "Content-Type", "value": "application/problem+json"}]
                self._send(
                    "Fetch.fulfillRequest",
                    {
                        "requestId": parameters["requestId"],
                        "responseCode": status,
                        "responseHeaders": headers,
                        "body": body,
                    },
                )
                return
        self._send("Fetch.continueRequest", {"requestId": parameters["requestId"]})

    def _command(self, method: str, parameters: Mapping[str, Any] | None = None) -> Json:
        return self._browser.command(method, parameters, self._session)

    def _send(self, method: str, parameters: Mapping[str, Any]) -> None:
        # From the reading thread, which must not wait for the answer.
        self._browser.send(method, parameters, self._session)
