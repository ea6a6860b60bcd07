"""The console in a real browser, against the running stack."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from playwright.sync_api import Browser
from tests.e2e.browser import Page, find_chromium, open_page, running_browser
from tests.e2e.engine import HAPPY_LIFE, Engine, Json, new_user

FINAL_SECONDS = 60.0
STEPS = "[...document.querySelectorAll('#timeline .step')].map((step) => step.textContent)"

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

type OpenConsole = Callable[..., AbstractContextManager[Page]]


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    executable = find_chromium()
    if executable is None:
        pytest.skip("no Chromium is installed")
    with running_browser(executable) as browser:
        yield browser


@pytest.fixture
def open_console(browser: Browser, engine: Engine) -> OpenConsole:
    """Open the console as a user; at its end nothing in it may have gone wrong unnoticed."""

    @contextmanager
    def open_as(
        user: str | None = None,
        prepare: Callable[[Page], object] = lambda _: None,
        *,
        token: str | None = None,
        **options: Any,
    ) -> Iterator[Page]:
        with open_page(browser, **options) as page:
            page.run_first(RECORDING_SOCKET)
            prepare(page)
            page.open(str(engine.http.base_url))
            field = "#user" if token is None else "#token"
            page.expect(f"document.querySelector('{field}').offsetParent")
            page.fill(field, token or user or "")
            page.press("Enter")
            page.expect("document.querySelectorAll('#quotes .amount').length === 2")
            yield page
            assert page.troubles == []

    return open_as


@pytest.fixture
def user() -> str:
    return new_user()


def steps(page: Page) -> list[str]:
    shown: list[str] = page.evaluate(STEPS)
    return shown


def expect_final(page: Page, status: str) -> None:
    page.expect(f"{STEPS}.at(-1) === {json.dumps(status)}", FINAL_SECONDS)
    page.expect(f"document.querySelector('#rows tr').dataset.status === {json.dumps(status)}")


def expect_live(page: Page) -> None:
    page.expect("document.querySelector('#connection').dataset.state === 'live'")


def only_order(engine: Engine, user: str) -> Json:
    orders: list[Json] = engine.http.get("api/orders", params={"userId": user}).json()["orders"]
    assert len(orders) == 1
    return orders[0]


# An order's life


def test_market_order_shows_its_whole_life(
    open_console: OpenConsole, engine: Engine, user: str
) -> None:
    with open_console(user) as page:
        page.fill("#amountIn", "2.5")
        page.fill("#slippageTolerance", "5")
        page.click("#submit")
        expect_final(page, "confirmed")

        order = only_order(engine, user)
        assert order["amountIn"] == "2.5"
        assert order["slippageBps"] == 500
        assert steps(page) == HAPPY_LIFE
        assert page.evaluate("location.hash") == f"#{order['orderId']}"
        life = page.text("#life")
        assert order["chosenDex"].capitalize() in life
        assert page.evaluate("document.querySelectorAll('#life .quote .amount').length") == 2
        transaction = f'#life [title="{order["txHash"]}"]'
        assert page.evaluate(f"document.querySelectorAll('{transaction}').length") == 2
        assert page.evaluate("document.querySelectorAll('#rows tr').length") == 1


def test_failed_order_shows_the_reason_of_each_attempt(
    open_console: OpenConsole, user: str
) -> None:
    with open_console(user) as page:
        page.evaluate("document.querySelector('details').open = true")
        page.fill("#clientOrderId", f"lands_with_error-{uuid.uuid4()}")
        page.fill("#maxRetries", "1")
        page.click("#submit")
        expect_final(page, "failed")

        attempt = ["routing", "building", "submitted"]
        assert steps(page) == ["pending", *attempt, *attempt, "failed"]
        assert "SLIPPAGE_EXCEEDED" in page.text("#life .verdict")
        assert "SLIPPAGE_EXCEEDED" in page.text("#timeline li:nth-child(5)")
        assert "SLIPPAGE_EXCEEDED" in page.text("#rows tr")


def test_order_can_be_placed_by_keyboard_alone(
    open_console: OpenConsole, engine: Engine, user: str
) -> None:
    with open_console(user) as page:
        page.fill("#amountIn", "3")
        page.press("Enter")
        expect_final(page, "confirmed")

        assert only_order(engine, user)["amountIn"] == "3"


def test_link_to_an_order_opens_it(open_console: OpenConsole, engine: Engine, user: str) -> None:
    order = engine.final_order(engine.place(userId=user)["orderId"])
    with open_console() as page:
        page.open(f"{engine.http.base_url}#{order['orderId']}")
        page.reload()
        page.expect(f"{STEPS}.length === {len(order['events'])}")

        assert steps(page) == [event["status"] for event in order["events"]]


# Live updates


def test_orders_placed_elsewhere_appear_and_go_on_live(
    open_console: OpenConsole, engine: Engine, user: str
) -> None:
    with open_console(user) as page:
        page.click("#submit")
        expect_live(page)
        expect_final(page, "confirmed")
        connections = page.evaluate("sockets.length")

        order_id = engine.place(userId=user, clientOrderId="from-elsewhere")["orderId"]

        row = f"document.querySelector('#rows [href=\"#{order_id}\"]')?.closest('tr')"
        page.expect(f"{row}?.dataset.status === 'confirmed'", FINAL_SECONDS)
        assert page.evaluate("document.querySelector('#connection').dataset.state") == "live"
        assert page.evaluate("sockets.length") == connections
        assert "from-elsewhere" in page.text("#rows tr")


def test_lost_connection_returns_and_continues_behind_the_last_event(
    open_console: OpenConsole, user: str
) -> None:
    with open_console(user) as page:
        page.evaluate("document.querySelector('details').open = true")
        # Stays submitted until its transaction has expired, some 10 s later.
        page.fill("#clientOrderId", f"dropped_until_expiry*1-{uuid.uuid4()}")
        page.click("#submit")
        page.expect(f"{STEPS}.at(-1) === 'submitted'", FINAL_SECONDS)
        expect_live(page)

        page.evaluate("cutOff = true, sent = [], sockets.at(-1).close()")
        page.expect("sockets.length >= 3")
        assert page.text("#connection") != "Live"
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
    rows = "document.querySelectorAll('#rows tr').length"
    with open_console(user) as page:
        page.expect(f"{rows} === 25")
        page.click("#load-more")
        page.expect(f"{rows} === {count}")
        assert page.evaluate("document.querySelector('#load-more').hidden")

        page.choose("#filters [value=closed]", "closed")
        page.expect(f"{rows} === 0 && !document.querySelector('#no-orders').hidden")
        page.choose("#filters [value=open]", "open")
        page.expect(f"{rows} === 25")


def test_limit_order_rests_until_it_is_canceled(
    open_console: OpenConsole, engine: Engine, user: str
) -> None:
    with open_console(user) as page:
        page.choose("[name=type][value=limit]", "limit")
        page.fill("#limitPrice", "100000")
        page.click("#submit")
        page.expect(f"{STEPS}.at(-1) === 'open'", FINAL_SECONDS)
        page.click("#cancel")
        expect_final(page, "canceled")

        order = only_order(engine, user)
        assert (order["type"], order["limitPrice"]) == ("limit", "100000")
        assert order["status"] == "canceled"
        assert page.evaluate("document.querySelector('#cancel').hidden")


# What the API refuses


def test_refused_field_says_why_and_gets_the_focus(
    open_console: OpenConsole, engine: Engine, user: str
) -> None:
    with open_console(user) as page:
        page.evaluate("document.querySelector('details').open = true")
        page.fill("#maxRetries", "11")
        page.evaluate("document.querySelector('details').open = false")
        page.click("#submit")
        page.expect("!document.querySelector('#maxRetries-error').hidden")

        assert page.text("#maxRetries-error") == "Must be from 0 to 10"
        assert page.evaluate("document.activeElement.id") == "maxRetries"
        assert page.evaluate("document.activeElement.ariaInvalid") == "true"
        assert engine.orders_of(user) == []


def test_amount_that_cannot_be_quoted_says_why_before_it_is_submitted(
    open_console: OpenConsole,
) -> None:
    with open_console() as page:
        page.fill("#amountIn", "1.0000000001")
        page.expect("!document.querySelector('#amountIn-error').hidden")

        assert "at most 9 decimals" in page.text("#amountIn-error")
        page.fill("#amountIn", "1.1")
        page.expect("document.querySelector('#amountIn-error').hidden")
        page.expect("document.querySelectorAll('#quotes .amount').length === 2")


def posts(page: Page) -> list[Json]:
    return [
        request
        for request in page.requests
        if request["url"].endswith("/api/orders") and request["method"] == "POST"
    ]


def problem(status: int, code: str, detail: str, *fields: str) -> Json:
    errors = [{"field": field, "message": "is wrong", "code": "wrong"} for field in fields]
    return {"status": status, "code": code, "detail": detail, "requestId": "r-1", "errors": errors}


@pytest.mark.parametrize("order_type", ["limit", "sniper"])
def test_order_type_that_the_api_does_not_take_shows_its_words(
    open_console: OpenConsole, order_type: str
) -> None:
    detail = f"{order_type} orders are not taken."
    with open_console() as page:
        refusal = problem(422, "ORDER_TYPE_NOT_SUPPORTED", detail, "type")
        page.answer("POST", "/api/orders", 422, refusal)
        page.choose("[name=type][value=limit]", "limit")
        page.fill("#limitPrice", "155")
        page.choose(f"[name=type][value={order_type}]", order_type)
        page.click("#submit")
        page.expect("!document.querySelector('#type-error').hidden")

        assert page.text("#type-error") == detail.capitalize()
        body = json.loads(posts(page)[-1]["postData"])
        assert body["type"] == order_type
        assert body["expiresAt"].endswith("Z")
        assert body.get("limitPrice") == ("155" if order_type == "limit" else None)
        assert ("trigger" in body) == (order_type == "sniper")


def test_order_without_an_answer_is_repeated_under_the_same_key(
    open_console: OpenConsole, engine: Engine, user: str
) -> None:
    with open_console(user) as page:
        away = problem(503, "DATABASE_UNAVAILABLE", "The database does not answer. Try again.")
        page.answer("POST", "/api/orders", 503, away)
        page.click("#submit")
        page.expect("document.querySelector('#ticket-message').dataset.kind === 'error'")
        assert "cannot place a second order" in page.text("#ticket-message")
        page.pass_on()
        page.click("#submit")
        expect_final(page, "confirmed")

        first, second = posts(page)
        assert first["postData"] == second["postData"]
        assert first["headers"]["Idempotency-Key"] == second["headers"]["Idempotency-Key"]
        assert only_order(engine, user)["status"] == "confirmed"


# Cancellation, with answers in the API's place


@pytest.fixture
def resting_order(engine: Engine, user: str) -> Json:
    order: Json = engine.order(engine.place(userId=user)["orderId"])
    order.pop("events")
    return {**order, "status": "open", "seq": 1000}  # beyond its true events


def test_cancel_is_not_offered_once_the_api_knows_no_such_route(
    open_console: OpenConsole, resting_order: Json, user: str
) -> None:
    def answer_for_the_api(page: Page) -> None:
        page.answer("GET", "/api/orders", 200, {"orders": [resting_order], "nextCursor": None})
        unknown = problem(405, "METHOD_NOT_ALLOWED", "There is GET.")
        page.answer("DELETE", f"/api/orders/{resting_order['orderId']}", 405, unknown)

    with open_console(user, answer_for_the_api) as page:
        page.expect("document.querySelector('#rows [data-cancel]')")
        page.click("#rows [data-cancel]")
        page.expect("!document.querySelector('[data-cancel]')")

        message = "document.querySelector('#orders-message').textContent"
        page.expect(f"{message}.includes('does not cancel')")


def test_canceled_order_is_shown_as_canceled(
    open_console: OpenConsole, resting_order: Json, user: str
) -> None:
    canceled = {**resting_order, "status": "canceled", "seq": 1001}

    def answer_for_the_api(page: Page) -> None:
        page.answer("GET", "/api/orders", 200, {"orders": [resting_order], "nextCursor": None})
        page.answer("DELETE", f"/api/orders/{resting_order['orderId']}", 200, canceled)

    with open_console(user, answer_for_the_api) as page:
        page.expect("document.querySelector('#rows [data-cancel]')")
        page.click("#rows [data-cancel]")
        page.expect("document.querySelector('#rows tr').dataset.status === 'canceled'")

        assert not page.evaluate("!!document.querySelector('[data-cancel]')")


# Callers


def test_api_with_callers_gets_the_token_and_the_stream_a_ticket(
    open_console: OpenConsole,
) -> None:
    token = "e30.eyJzdWIiOiAiYWxpY2UifQ.signature"  # its payload is {"sub": "alice"}
    stream = "ws://127.0.0.1:65534/stream?ticket=t-1&userId=alice"

    def answer_for_the_api(page: Page) -> None:
        health = {"status": "ok", "access": "authenticated", "version": "1"}
        page.answer("GET", "/api/health", 200, health)
        page.answer("POST", "/api/stream-tickets", 201, {"ticket": "t-1", "wsUrl": stream})

    with open_console(prepare=answer_for_the_api, token=token) as page:
        assert page.evaluate("document.querySelector('#user-entry').hidden")
        page.expect("sockets.length > 0")

        assert page.evaluate("sockets[0].url") == stream
        asked = [r for r in page.requests if not r["url"].endswith("/health")]
        assert {request["headers"].get("Authorization") for request in asked} == {f"Bearer {token}"}
        assert all("userId" not in request["url"] for request in asked)

        refusal = problem(401, "UNAUTHENTICATED", "The request carries no valid token.")
        page.answer("GET", "/api/orders", 401, refusal)
        page.click("#filters button")
        page.expect("!document.querySelector('#token-error').hidden")
        assert page.text("#token-error") == "The token was refused."


# The page itself


def test_names_with_markup_are_shown_as_text(open_console: OpenConsole, engine: Engine) -> None:
    mark = uuid.uuid4().hex[:8]
    name = f"<img src=x onerror=\"document.title='{mark}'\"><b>{mark}</b>"
    order_id = engine.place(userId=name)["orderId"]
    engine.final_order(order_id)
    with open_console() as page:
        page.choose("#scope [value=all]", "all")
        page.expect(f"document.querySelector('#rows')?.innerText.includes({json.dumps(name)})")
        page.click(f"#rows [href='#{order_id}']")
        page.expect(f"document.querySelector('#life .ids').innerText.includes({json.dumps(name)})")

        assert (
            page.evaluate("document.querySelectorAll('#rows img, #life img, #life b').length") == 0
        )
        assert mark not in page.evaluate("document.title")


def test_injected_script_does_not_run(open_console: OpenConsole) -> None:
    with open_console() as page:
        page.evaluate(
            "document.body.append(Object.assign(document.createElement('script'),"
            " {textContent: 'window.injected = true'}))"
        )
        page.evaluate(
            "Object.assign(document.createElement('a'),"
            " {href: 'javascript:window.injected = true'}).click()"
        )

        assert page.evaluate("window.injected") is None
        assert page.troubles
        assert all("Content Security Policy" in trouble for trouble in page.troubles)
        page.troubles.clear()


@pytest.mark.parametrize("width", [320, 375, 768, 1024, 1440])
def test_page_never_scrolls_sideways(open_console: OpenConsole, width: int) -> None:
    with open_console(width=width) as page:
        page.click("#submit")
        expect_final(page, "confirmed")

        assert page.evaluate("document.documentElement.scrollWidth") == width


def test_everything_operable_has_a_name(open_console: OpenConsole, user: str) -> None:
    operable = {"button", "link", "textbox", "combobox", "radio", "checkbox"}
    with open_console(user) as page:
        page.click("#submit")
        expect_final(page, "confirmed")
        page.choose("[name=type][value=sniper]", "sniper")
        page.evaluate("document.querySelector('details').open = true")

        nodes = [node for node in page.accessible_nodes() if node["role"] in operable]
        assert len(nodes) > 20
        assert [node for node in nodes if not node["name"].strip()] == []


@pytest.mark.parametrize("dark", [False, True])
def test_page_follows_the_color_scheme(open_console: OpenConsole, dark: bool) -> None:
    with open_console(dark=dark) as page:
        background = page.evaluate("getComputedStyle(document.body).backgroundColor")
        assert background == ("rgb(10, 14, 20)" if dark else "rgb(243, 245, 248)")
