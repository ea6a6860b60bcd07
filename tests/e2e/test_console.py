"""The console in a real browser, against the running stack."""

from __future__ import annotations

import os
import re
import shutil
import uuid
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from datetime import UTC, datetime, timedelta

import pytest
from playwright.sync_api import (
    Browser,
    ConsoleMessage,
    Page,
    Request,
    Route,
    expect,
    sync_playwright,
)
from tests.e2e.engine import HAPPY_LIFE, Engine, Json, new_user

EXPECT_SECONDS = 30.0
FINAL_SECONDS = 60.0
PHONE_WIDTH = 600
EXECUTABLES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")

# A refused request or connection is the page's business, which it shows; the rest is a fault of it.
OF_THE_NETWORK = ("Failed to load resource", "WebSocket connection to")

# Keeps the page's sockets, what it sends and where it connects; `cutOff` keeps it from connecting.
RECORDING_SOCKET = """
  window.sockets = [];
  window.sent = [];
  window.cutOff = false;
  window.WebSocket = class extends WebSocket {
    constructor(url) {
      super(window.cutOff ? "ws://127.0.0.1:65534/" : url);
      window.sockets.push(this);
    }
    send(text) {
      window.sent.push(JSON.parse(text));
      super.send(text);
    }
  };
"""


class Console:
    """An open console: its page, what went wrong in it, and what it asked of the API."""

    def __init__(self, page: Page) -> None:
        self.page = page
        self.troubles: list[str] = []
        self.requests: list[Request] = []
        page.on("pageerror", lambda error: self.troubles.append(str(error)))
        page.on("console", self._notice)
        page.on("request", self._keep)

    def answer(self, method: str, path: str, status: int, document: Json) -> None:
        """Answer requests for a path's end in the API's place from now on."""

        def fulfill(route: Route) -> None:
            if route.request.method == method:
                kind = "application/problem+json" if status >= 400 else "application/json"
                route.fulfill(status=status, json=document, content_type=kind)
            else:
                route.fallback()

        self.page.route(re.compile(rf"{re.escape(path)}(\?|$)"), fulfill)

    def _notice(self, message: ConsoleMessage) -> None:
        if message.type == "error" and not message.text.startswith(OF_THE_NETWORK):
            self.troubles.append(message.text)

    def _keep(self, request: Request) -> None:
        if "/api/" in request.url:
            self.requests.append(request)


type OpenConsole = Callable[..., AbstractContextManager[Console]]


def chromium() -> str | None:
    """Return the path of an installed Chromium, None without one."""
    named = os.environ.get("CHROMIUM")
    return named or next((path for name in EXECUTABLES if (path := shutil.which(name))), None)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    executable = chromium()
    if executable is None:
        pytest.skip("no Chromium is installed")
    expect.set_options(timeout=EXPECT_SECONDS * 1000)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=executable, args=["--no-proxy-server", "--disable-quic"]
        )
        yield browser
        browser.close()


@pytest.fixture
def open_console(browser: Browser, engine: Engine) -> OpenConsole:
    """Open the console as a user; at its end nothing in it may have gone wrong unnoticed."""

    @contextmanager
    def open_page(
        user: str | None = None,
        prepare: Callable[[Console], object] = lambda _: None,
        *,
        token: str | None = None,
        width: int = 1440,
        dark: bool = False,
    ) -> Iterator[Console]:
        context = browser.new_context(
            viewport={"width": width, "height": 1000},
            is_mobile=width < PHONE_WIDTH,
            color_scheme="dark" if dark else "light",
        )
        context.set_default_timeout(EXPECT_SECONDS * 1000)
        with context:
            context.add_init_script(RECORDING_SOCKET)
            console = Console(context.new_page())
            prepare(console)
            console.page.goto(str(engine.http.base_url))
            entry = console.page.locator("#user" if token is None else "#token")
            entry.fill(token or user or "")
            entry.press("Enter")
            expect(console.page.locator("#quotes .amount")).to_have_count(2)
            yield console
            assert console.troubles == []

    return open_page


@pytest.fixture
def user() -> str:
    return new_user()


def steps(page: Page) -> list[str]:
    return page.locator("#timeline .step").all_text_contents()


def expect_step(page: Page, status: str) -> None:
    step = page.locator("#timeline .step").last
    expect(step).to_have_text(status, timeout=FINAL_SECONDS * 1000)


def expect_final(page: Page, status: str) -> None:
    expect_step(page, status)
    expect(page.locator("#rows tr").first).to_have_attribute("data-status", status)


def expect_live(page: Page) -> None:
    expect(page.locator("#connection")).to_have_attribute("data-state", "live")


def choose_type(page: Page, name: str) -> None:
    page.locator("#types").get_by_text(name).click()


def only_order(engine: Engine, user: str) -> Json:
    orders: list[Json] = engine.http.get("api/orders", params={"userId": user}).json()["orders"]
    assert len(orders) == 1
    return orders[0]


# An order's life


def test_market_order_shows_its_whole_life(
    open_console: OpenConsole, engine: Engine, user: str
) -> None:
    with open_console(user) as console:
        page = console.page
        page.locator("#amountIn").fill("2.5")
        page.locator("#slippageTolerance").fill("5")
        page.locator("#submit").click()
        expect_final(page, "confirmed")

        order = only_order(engine, user)
        assert order["amountIn"] == "2.5"
        assert order["slippageBps"] == 500
        assert steps(page) == HAPPY_LIFE
        assert page.evaluate("location.hash") == f"#{order['orderId']}"
        life = page.locator("#life").inner_text()
        assert order["chosenDex"].capitalize() in life
        assert page.locator("#life .quote .amount").count() == 2
        transaction = f'#life [title="{order["txHash"]}"]'
        assert page.locator(transaction).count() == 2
        assert page.locator("#rows tr").count() == 1


def test_failed_order_shows_the_reason_of_each_attempt(
    open_console: OpenConsole, user: str
) -> None:
    with open_console(user) as console:
        page = console.page
        page.locator("summary").click()
        page.locator("#clientOrderId").fill(f"lands_with_error-{uuid.uuid4()}")
        page.locator("#maxRetries").fill("1")
        page.locator("#submit").click()
        expect_final(page, "failed")

        attempt = ["routing", "building", "submitted"]
        assert steps(page) == ["pending", *attempt, *attempt, "failed"]
        assert "SLIPPAGE_EXCEEDED" in page.locator("#life .verdict").inner_text()
        assert "SLIPPAGE_EXCEEDED" in page.locator("#timeline li:nth-child(5)").inner_text()
        assert "SLIPPAGE_EXCEEDED" in page.locator("#rows tr").inner_text()


def test_order_can_be_placed_by_keyboard_alone(
    open_console: OpenConsole, engine: Engine, user: str
) -> None:
    with open_console(user) as console:
        page = console.page
        page.locator("#amountIn").select_text()
        page.keyboard.type("3")
        page.keyboard.press("Enter")
        expect_final(page, "confirmed")

        assert only_order(engine, user)["amountIn"] == "3"


def test_link_to_an_order_opens_it(open_console: OpenConsole, engine: Engine, user: str) -> None:
    order = engine.final_order(engine.place(userId=user)["orderId"])
    with open_console() as console:
        page = console.page
        page.goto(f"{engine.http.base_url}#{order['orderId']}")
        page.reload()
        expect(page.locator("#timeline .step")).to_have_count(len(order["events"]))

        assert steps(page) == [event["status"] for event in order["events"]]


# Live updates


def test_orders_placed_elsewhere_appear_and_go_on_live(
    open_console: OpenConsole, engine: Engine, user: str
) -> None:
    with open_console(user) as console:
        page = console.page
        page.locator("#submit").click()
        expect_live(page)
        expect_final(page, "confirmed")
        connections = page.evaluate("sockets.length")

        order_id = engine.place(userId=user, clientOrderId="from-elsewhere")["orderId"]

        row = page.locator("#rows tr").filter(has=page.locator(f'[href="#{order_id}"]'))
        expect(row).to_have_attribute("data-status", "confirmed", timeout=FINAL_SECONDS * 1000)
        assert page.locator("#connection").get_attribute("data-state") == "live"
        assert page.evaluate("sockets.length") == connections
        assert "from-elsewhere" in page.locator("#rows tr").first.inner_text()


def test_lost_connection_returns_and_continues_behind_the_last_event(
    open_console: OpenConsole, user: str
) -> None:
    with open_console(user) as console:
        page = console.page
        page.locator("summary").click()
        # Stays submitted until its transaction has expired, some 15 s later.
        page.locator("#clientOrderId").fill(f"dropped_until_expiry*1-{uuid.uuid4()}")
        page.locator("#submit").click()
        expect_step(page, "submitted")
        expect_live(page)

        page.evaluate("cutOff = true, sent = [], sockets.at(-1).close()")
        page.wait_for_function("() => sockets.length >= 3")
        assert page.locator("#connection").inner_text() != "Live"
        page.evaluate("cutOff = false")
        expect_live(page)
        expect_final(page, "confirmed")

        order_id = page.evaluate("location.hash.slice(1)")
        subscribe = page.evaluate("sent.find(({action}) => action === 'subscribe')")
        assert subscribe == {"action": "subscribe", "orderId": order_id, "afterSeq": 4}
        attempt = ["routing", "building", "submitted"]
        assert steps(page) == ["pending", *attempt, *attempt, "confirmed"]


def test_filters_and_pages_narrow_the_table(
    open_console: OpenConsole, engine: Engine, user: str
) -> None:
    count = 26
    tomorrow = (datetime.now(UTC) + timedelta(days=1)).isoformat()
    for _ in range(count):
        engine.place(userId=user, type="limit", limitPrice="100000", expiresAt=tomorrow)
    with open_console(user) as console:
        page = console.page
        rows = page.locator("#rows tr")
        expect(rows).to_have_count(25)
        page.locator("#load-more").click()
        expect(rows).to_have_count(count)
        expect(page.locator("#load-more")).to_be_hidden()

        page.locator("#filters").get_by_text("Closed").click()
        expect(rows).to_have_count(0)
        expect(page.locator("#no-orders")).to_be_visible()
        page.locator("#filters").get_by_text("Open").click()
        expect(rows).to_have_count(25)


def test_limit_order_rests_until_it_is_canceled(
    open_console: OpenConsole, engine: Engine, user: str
) -> None:
    with open_console(user) as console:
        page = console.page
        choose_type(page, "Limit")
        page.locator("#limitPrice").fill("100000")
        page.locator("#submit").click()
        expect_step(page, "open")
        page.locator("#cancel").click()
        expect_final(page, "canceled")

        order = only_order(engine, user)
        assert (order["type"], order["limitPrice"]) == ("limit", "100000")
        assert order["status"] == "canceled"
        expect(page.locator("#cancel")).to_be_hidden()


# What the API refuses


def test_refused_field_says_why_and_gets_the_focus(
    open_console: OpenConsole, engine: Engine, user: str
) -> None:
    with open_console(user) as console:
        page = console.page
        page.locator("summary").click()
        page.locator("#maxRetries").fill("11")
        page.locator("summary").click()
        page.locator("#submit").click()
        expect(page.locator("#maxRetries-error")).to_be_visible()

        assert page.locator("#maxRetries-error").inner_text() == "Must be from 0 to 10"
        expect(page.locator("#maxRetries")).to_be_focused()
        expect(page.locator("#maxRetries")).to_have_attribute("aria-invalid", "true")
        assert engine.orders_of(user) == []


def test_amount_that_cannot_be_quoted_says_why_before_it_is_submitted(
    open_console: OpenConsole,
) -> None:
    with open_console() as console:
        page = console.page
        page.locator("#amountIn").fill("1.0000000001")
        expect(page.locator("#amountIn-error")).to_be_visible()

        assert "at most 9 decimals" in page.locator("#amountIn-error").inner_text()
        page.locator("#amountIn").fill("1.1")
        expect(page.locator("#amountIn-error")).to_be_hidden()
        expect(page.locator("#quotes .amount")).to_have_count(2)


def posts(console: Console) -> list[Request]:
    return [
        request
        for request in console.requests
        if request.url.endswith("/api/orders") and request.method == "POST"
    ]


def problem(status: int, code: str, detail: str, *fields: str) -> Json:
    errors = [{"field": field, "message": "is wrong", "code": "wrong"} for field in fields]
    return {"status": status, "code": code, "detail": detail, "requestId": "r-1", "errors": errors}


@pytest.mark.parametrize("order_type", ["limit", "sniper"])
def test_order_type_that_the_api_does_not_take_shows_its_words(
    open_console: OpenConsole, order_type: str
) -> None:
    detail = f"{order_type} orders are not taken."
    with open_console() as console:
        page = console.page
        refusal = problem(422, "ORDER_TYPE_NOT_SUPPORTED", detail, "type")
        console.answer("POST", "/api/orders", 422, refusal)
        choose_type(page, "Limit")
        page.locator("#limitPrice").fill("155")
        choose_type(page, order_type.capitalize())
        page.locator("#submit").click()
        expect(page.locator("#type-error")).to_be_visible()

        assert page.locator("#type-error").inner_text() == detail.capitalize()
        body = posts(console)[-1].post_data_json
        assert body is not None
        assert body["type"] == order_type
        assert body["expiresAt"].endswith("Z")
        assert body.get("limitPrice") == ("155" if order_type == "limit" else None)
        any_pool = {"type": "poolCreated", "venue": "any", "allowExisting": False}
        assert body.get("trigger") == (any_pool if order_type == "sniper" else None)


def test_order_without_an_answer_is_repeated_under_the_same_key(
    open_console: OpenConsole, engine: Engine, user: str
) -> None:
    with open_console(user) as console:
        page = console.page
        away = problem(503, "DATABASE_UNAVAILABLE", "The database does not answer. Try again.")
        console.answer("POST", "/api/orders", 503, away)
        page.locator("#submit").click()
        expect(page.locator("#ticket-message")).to_have_attribute("data-kind", "error")
        assert "cannot place a second order" in page.locator("#ticket-message").inner_text()
        page.unroute_all()
        page.locator("#submit").click()
        expect_final(page, "confirmed")

        first, second = posts(console)
        assert first.post_data == second.post_data
        assert first.headers["idempotency-key"] == second.headers["idempotency-key"]
        assert only_order(engine, user)["status"] == "confirmed"


# Cancellation, with answers in the API's place


@pytest.fixture
def resting_order(engine: Engine, user: str) -> Json:
    order: Json = engine.order(engine.place(userId=user)["orderId"])
    order.pop("events")
    return {**order, "status": "open", "seq": 1000}  # beyond its true events


def test_order_that_waits_shows_how_many_go_before(
    open_console: OpenConsole, resting_order: Json, user: str
) -> None:
    waiting = {**resting_order, "status": "pending", "queue": {"ahead": 12}, "events": []}

    def answer_for_the_api(console: Console) -> None:
        console.answer("GET", f"/api/orders/{waiting['orderId']}", 200, waiting)

    with open_console(user, answer_for_the_api) as console:
        console.page.evaluate("id => { location.hash = id; }", waiting["orderId"])
        expect(console.page.locator("#life-quotes")).to_have_text("12 orders before yours.")


def test_canceled_order_is_shown_as_canceled(
    open_console: OpenConsole, resting_order: Json, user: str
) -> None:
    canceled = {**resting_order, "status": "canceled", "seq": 1001}

    def answer_for_the_api(console: Console) -> None:
        console.answer("GET", "/api/orders", 200, {"orders": [resting_order], "nextCursor": None})
        console.answer("DELETE", f"/api/orders/{resting_order['orderId']}", 200, canceled)

    with open_console(user, answer_for_the_api) as console:
        page = console.page
        page.locator("#rows [data-cancel]").click()
        expect(page.locator("#rows tr").first).to_have_attribute("data-status", "canceled")

        assert page.locator("[data-cancel]").count() == 0


# Callers


def test_api_with_callers_gets_the_token_and_the_stream_a_ticket(
    open_console: OpenConsole,
) -> None:
    token = "e30.eyJzdWIiOiAiYWxpY2UifQ.signature"  # its payload is {"sub": "alice"}
    stream = "ws://127.0.0.1:65534/stream?ticket=t-1&userId=alice"

    def answer_for_the_api(console: Console) -> None:
        health = {"status": "ok", "access": "authenticated", "version": "1"}
        console.answer("GET", "/api/health", 200, health)
        console.answer("POST", "/api/stream-tickets", 201, {"ticket": "t-1", "wsUrl": stream})

    with open_console(prepare=answer_for_the_api, token=token) as console:
        page = console.page
        expect(page.locator("#user-entry")).to_be_hidden()
        page.wait_for_function("() => sockets.length > 0")

        assert page.evaluate("sockets[0].url") == stream
        asked = [r for r in console.requests if not r.url.endswith("/health")]
        assert {request.headers.get("authorization") for request in asked} == {f"Bearer {token}"}
        assert all("userId" not in request.url for request in asked)

        refusal = problem(401, "UNAUTHENTICATED", "The request carries no valid token.")
        console.answer("GET", "/api/orders", 401, refusal)
        page.locator("#filters button").click()
        expect(page.locator("#token-error")).to_be_visible()
        assert page.locator("#token-error").inner_text() == "The token was refused."


# The page itself


def test_names_with_markup_are_shown_as_text(open_console: OpenConsole, engine: Engine) -> None:
    mark = uuid.uuid4().hex[:8]
    name = f"<img src=x onerror=\"document.title='{mark}'\"><b>{mark}</b>"
    order_id = engine.place(userId=name)["orderId"]
    engine.final_order(order_id)
    with open_console() as console:
        page = console.page
        page.locator("#scope").get_by_text("Everyone").click()
        expect(page.locator("#rows")).to_contain_text(name)
        page.locator(f"#rows [href='#{order_id}']").click()
        expect(page.locator("#life .ids")).to_contain_text(name)

        assert page.locator("#rows img, #life img, #life b").count() == 0
        assert mark not in page.title()


@pytest.mark.parametrize(
    "script",
    [
        "document.body.append(Object.assign(document.createElement('script'),"
        " {textContent: 'window.injected = true'}))",
        "document.body.append(Object.assign(document.createElement('script'),"
        " {src: 'data:text/javascript,window.injected=true'}))",
        "Object.assign(document.createElement('a'),"
        " {href: 'javascript:window.injected = true'}).click()",
    ],
)
def test_injected_script_does_not_run(open_console: OpenConsole, script: str) -> None:
    with open_console() as console:
        page = console.page
        with page.expect_console_message(lambda said: "Content Security Policy" in said.text):
            page.evaluate(script)

        assert page.evaluate("window.injected") is None
        assert console.troubles
        assert all("Content Security Policy" in trouble for trouble in console.troubles)
        console.troubles.clear()


@pytest.mark.parametrize("width", [320, 375, 768, 1024, 1440])
def test_page_never_scrolls_sideways(open_console: OpenConsole, width: int) -> None:
    with open_console(width=width) as console:
        page = console.page
        page.locator("#submit").click()
        expect_final(page, "confirmed")

        assert page.evaluate("document.documentElement.scrollWidth") == width


def accessible_nodes(page: Page) -> list[Json]:
    """Return the role and name that assistive technology is told of each node."""
    nodes = page.context.new_cdp_session(page).send("Accessibility.getFullAXTree")["nodes"]
    return [
        {key: node.get(key, {}).get("value", "") for key in ("role", "name")}
        for node in nodes
        if not node["ignored"]
    ]


def test_everything_operable_has_a_name(open_console: OpenConsole, user: str) -> None:
    operable = {"button", "link", "textbox", "combobox", "radio", "checkbox"}
    with open_console(user) as console:
        page = console.page
        page.locator("#submit").click()
        expect_final(page, "confirmed")
        choose_type(page, "Sniper")
        page.locator("summary").click()

        nodes = [node for node in accessible_nodes(page) if node["role"] in operable]
        assert len(nodes) > 20
        assert [node for node in nodes if not node["name"].strip()] == []


@pytest.mark.parametrize("dark", [False, True])
def test_page_follows_the_color_scheme(open_console: OpenConsole, dark: bool) -> None:
    with open_console(dark=dark) as console:
        page = console.page
        background = page.evaluate("getComputedStyle(document.body).backgroundColor")
        assert background == ("rgb(10, 14, 20)" if dark else "rgb(243, 245, 248)")
