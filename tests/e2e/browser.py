"""Pages in a real browser: Playwright drives the Chromium that is installed."""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Literal

from playwright.sync_api import Browser, CDPSession, ConsoleMessage, Error, Route, sync_playwright
from playwright.sync_api import Page as BrowserPage

Json = dict[str, Any]

EXPECT_SECONDS = 30.0
EXECUTABLE_VARIABLE = "CHROMIUM"
EXECUTABLES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
OF_THE_NETWORK = ("Failed to load resource", "WebSocket connection to")
FLAGS = ["--no-sandbox", "--disable-dev-shm-usage", "--no-proxy-server", "--hide-scrollbars"]


def find_chromium() -> str | None:
    """Return the path of an installed Chromium, None without one."""
    named = os.environ.get(EXECUTABLE_VARIABLE)
    return named or next((path for name in EXECUTABLES if (path := shutil.which(name))), None)


@contextmanager
def running_browser(executable: str) -> Iterator[Browser]:
    """Run a browser for the length of the block."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=executable, args=FLAGS)
        try:
            yield browser
        finally:
            browser.close()


@contextmanager
def open_page(
    browser: Browser, *, width: int = 1440, height: int = 1000, dark: bool = False
) -> Iterator[Page]:
    """Hold a page of its own, without cookies or storage of others, open for the block."""
    scheme: Literal["dark", "light"] = "dark" if dark else "light"
    context = browser.new_context(
        viewport={"width": width, "height": height}, color_scheme=scheme, is_mobile=width < 600
    )
    try:
        page = context.new_page()
        yield Page(page, context.new_cdp_session(page))
    finally:
        context.close()


class Page:
    """One page.

    `troubles` are its script errors and what its security policy has stopped; `requests` are those
    to the API.
    """

    def __init__(self, page: BrowserPage, devtools: CDPSession) -> None:
        self._page = page
        self._devtools = devtools
        self._answers: dict[tuple[str, str], tuple[int, Json]] = {}
        self.troubles: list[str] = []
        self.requests: list[Json] = []
        page.on("pageerror", lambda error: self.troubles.append(str(error)))
        page.on("console", self._note)
        page.route("**/api/**", self._serve)

    def open(self, url: str) -> None:
        """Navigate and wait until the document has been parsed."""
        self._page.goto(url, wait_until="domcontentloaded")

    def reload(self) -> None:
        """Load the page anew, and wait until the document has been parsed."""
        self._page.reload(wait_until="domcontentloaded")

    def evaluate(self, expression: str) -> Any:
        """Return the (JSON) value of a JavaScript expression; promises are awaited."""
        return self._page.evaluate(expression)

    def expect(self, expression: str, seconds: float = EXPECT_SECONDS) -> None:
        """Wait until a JavaScript expression holds. Raises AssertionError at the deadline."""
        deadline = time.monotonic() + seconds
        # Not wait_for_function: it compiles its text in the page, which the policy forbids.
        while not self.evaluate(f"Boolean({expression})"):
            if time.monotonic() > deadline:
                shown = self.evaluate("document.body?.innerText ?? ''")
                raise AssertionError(f"never: {expression}\n\n{shown}\n{self.troubles}")
            self._page.wait_for_timeout(50)

    def text(self, selector: str) -> str:
        """Return the text that an element shows, "" when there is none."""
        found = self._page.locator(selector)
        return found.first.inner_text() if found.count() else ""

    def click(self, selector: str) -> None:
        """Click an element, with the mouse."""
        self._page.locator(selector).first.click()

    def fill(self, selector: str, text: str) -> None:
        """Replace what an input holds, by typing."""
        field = self._page.locator(selector)
        field.focus()
        field.select_text()
        self._page.keyboard.insert_text(text) if text else self._page.keyboard.press("Delete")

    def press(self, key: str) -> None:
        """Press and release a key, such as Tab or Enter."""
        self._page.keyboard.press(key)

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

    def pass_on(self) -> None:
        """Let the API answer again."""
        self._answers.clear()

    def run_first(self, script: str) -> None:
        """Run a script before those of every page that is opened from now on."""
        self._page.add_init_script(script)

    def accessible_nodes(self) -> list[Json]:
        """Return the role and name that assistive technology is told of each node."""
        nodes = self._devtools.send("Accessibility.getFullAXTree")["nodes"]
        return [
            {key: node.get(key, {}).get("value", "") for key in ("role", "name")}
            for node in nodes
            if not node["ignored"]
        ]

    def screenshot(self, path: str) -> None:
        """Keep a picture of the whole page."""
        self._page.screenshot(path=path, full_page=True)

    def _note(self, message: ConsoleMessage) -> None:
        # What is refused is the page's business, which it shows; the rest is a fault of the page.
        if message.type == "error" and not message.text.startswith(OF_THE_NETWORK):
            self.troubles.append(message.text)

    def _serve(self, route: Route) -> None:
        request = route.request
        self.requests.append(
            {
                "url": request.url,
                "method": request.method,
                "headers": {name.title(): value for name, value in request.headers.items()},
                "postData": request.post_data,
            }
        )
        path = request.url.partition("?")[0]
        for (method, end), (status, document) in self._answers.items():
            if request.method == method and path.endswith(end):
                kind = "application/json" if status < 400 else "application/problem+json"
                route.fulfill(status=status, content_type=kind, body=json.dumps(document))
                return
        try:
            route.continue_()
        except Error:
            # The page has gone on to another document meanwhile.
            return
