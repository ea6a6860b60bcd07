"""Who gets in where callers are authenticated, and that nobody sees or touches others' orders."""

from __future__ import annotations

import hashlib
import time
import uuid
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest
from tests.e2e.engine import HAPPY_LIFE, Engine, Json, Listener, market_order, new_user, statuses
from tests.e2e.issuer import AUDIENCE, Issuer, new_key, running_issuer, with_claims
from tests.e2e.stacks import PROFILE, own_stack
from websockets.exceptions import InvalidStatus

from local.logs import FunctionLogs
from local.stack import Stack

WARM_UP_SECONDS = 120
UNKNOWN_ORDER = "00000000-0000-4000-8000-000000000000"
OUT_OF_REACH = "1000000000"


class Caller(Engine):
    """The engine as one user with a token sees it."""

    def __init__(self, stack: Stack, issuer: Issuer) -> None:
        super().__init__(stack)
        self.user = new_user()
        self.token = issuer.token(self.user)
        self.http.headers["Authorization"] = f"Bearer {self.token}"

    def place(self, body: Json | None = None, **fields: Any) -> Json:
        """Submit a market order of one's own (or `body`)."""
        return super().place(body or market_order(userId=None, **fields))

    def place_resting(self, **fields: Any) -> Json:
        """Submit an order that waits for a price which does not come."""
        expires_at = datetime.now(UTC) + timedelta(hours=1)
        return self.place(
            type="limit", limitPrice=OUT_OF_REACH, expiresAt=expires_at.isoformat(), **fields
        )

    def stream_ticket(self) -> str:
        """Get a ticket for a stream of all of one's orders."""
        response = self.http.post("api/stream-tickets")
        assert response.status_code == 201, response.text
        ticket: str = response.json()["ticket"]
        return ticket

    def refusal_of_connecting(self, url: str | None = None, **query: str) -> int:
        """Try to connect and return the status that refuses it."""
        with pytest.raises(InvalidStatus) as refused:
            self.listen(url, **query).close()
        return refused.value.response.status_code

    def let_ticket_expire(self, ticket: str) -> None:
        """Set a ticket's clock forward."""
        digest = hashlib.sha256(ticket.encode()).hexdigest()
        self._dynamodb.update_item(
            TableName=self.stack.outputs["OrderStreamTableName"],
            Key={"pk": {"S": f"ticket#{digest}"}, "sk": {"S": "ticket"}},
            UpdateExpression="SET expiresAtEpoch = :past",
            ConditionExpression="attribute_exists(pk)",
            ExpressionAttributeValues={":past": {"N": str(int(time.time()))}},
        )


@pytest.fixture(scope="module")
def issuer() -> Iterator[Issuer]:
    with running_issuer() as issuer:
        yield issuer


@pytest.fixture(scope="module")
def guarded_stack(issuer: Issuer) -> Iterator[Stack]:
    parameters = {**PROFILE, "JwtIssuer": issuer.url, "JwtAudience": f"{AUDIENCE},another"}
    with own_stack("callers", parameters=parameters) as stack:
        yield stack


@pytest.fixture(scope="module")
def alice(guarded_stack: Stack, issuer: Issuer) -> Iterator[Caller]:
    """A caller; the stack is warmed up by an order of hers."""
    alice = Caller(guarded_stack, issuer)
    alice.final_order(alice.place()["orderId"], seconds=WARM_UP_SECONDS)
    yield alice
    alice.close()


@pytest.fixture(scope="module")
def bob(guarded_stack: Stack, issuer: Issuer) -> Iterator[Caller]:
    bob = Caller(guarded_stack, issuer)
    yield bob
    bob.close()


@pytest.fixture(scope="module")
def stranger(guarded_stack: Stack) -> Iterator[Engine]:
    """Somebody without a token."""
    stranger = Engine(guarded_stack)
    yield stranger
    stranger.close()


# What a token is good for


def test_order_of_a_caller_is_executed_in_the_name_of_its_subject(alice: Caller) -> None:
    order = alice.final_order(alice.place()["orderId"])
    assert order["status"] == "confirmed"
    assert order["userId"] == alice.user
    assert alice.order_row(order["orderId"])["user_id"] == alice.user


def test_caller_finds_its_orders_by_id_by_its_own_id_and_in_lists(alice: Caller) -> None:
    # given
    order = alice.place_resting(clientOrderId=uuid.uuid4().hex)
    # when
    by_client_id = alice.http.get(f"api/orders/by-client-id/{order['clientOrderId']}")
    listed = alice.http.get("api/orders", params={"status": "open", "limit": 200}).json()["orders"]
    # then
    assert alice.order(order["orderId"])["userId"] == alice.user
    assert by_client_id.json()["orderId"] == order["orderId"]
    assert order["orderId"] in {found["orderId"] for found in listed}
    assert {found["userId"] for found in listed} == {alice.user}


def test_caller_amends_and_cancels_its_order(alice: Caller) -> None:
    # given
    path = f"api/orders/{alice.place_resting()['orderId']}"
    # when
    amended = alice.http.patch(path, json={"limitPrice": "999999"})
    canceled = alice.http.delete(path)
    # then
    assert (amended.status_code, amended.json()["limitPrice"]) == (200, "999999")
    assert (canceled.status_code, canceled.json()["status"]) == (200, "canceled")


def test_every_audience_of_the_stack_is_good(alice: Caller, issuer: Issuer) -> None:
    token = issuer.token(alice.user, aud=["elsewhere", "another"])
    response = alice.http.get("api/orders", headers={"Authorization": f"Bearer {token}"})
    assert response.status_code == 200


# What is no token

Forge = Callable[[Issuer, str], str]

NO_TOKENS: dict[str, Forge] = {
    "expired": lambda issuer, user: issuer.token(user, exp=int(time.time()) - 1),
    "without-expiry": lambda issuer, user: issuer.token(user, exp=None),
    "not-yet-valid": lambda issuer, user: issuer.token(user, nbf=int(time.time()) + 600),
    "issued-in-the-future": lambda issuer, user: issuer.token(user, iat=int(time.time()) + 600),
    "wrong-audience": lambda issuer, user: issuer.token(user, aud="elsewhere"),
    "without-audience": lambda issuer, user: issuer.token(user, aud=None),
    "wrong-issuer": lambda issuer, user: issuer.token(user, iss="https://elsewhere.example.com"),
    "issuer-with-a-slash": lambda issuer, user: issuer.token(user, iss=f"{issuer.url}/"),
    "without-issuer": lambda issuer, user: issuer.token(user, iss=None),
    "without-subject": lambda issuer, user: issuer.token(user, sub=None),
    "empty-subject": lambda issuer, _user: issuer.token(""),
    "subject-with-a-line-feed": lambda issuer, user: issuer.token(f"{user}\n"),
    "other-key": lambda issuer, user: issuer.signed(issuer.claims(user), new_key()),
    "other-key-by-its-own-id": lambda issuer, user: other_key_by_its_own_id(issuer, user),
    "none": lambda issuer, user: issuer.unsigned(issuer.claims(user)),
    "none-in-capitals": lambda issuer, user: issuer.unsigned(issuer.claims(user), "NONE"),
    "signature-left-out": lambda issuer, user: issuer.unsigned(issuer.claims(user), "RS256"),
    "public-key-as-secret": lambda issuer, user: issuer.signed_with_the_public_key(
        issuer.claims(user)
    ),
    "subject-changed": lambda issuer, user: with_claims(
        issuer.token(new_user()), issuer.claims(user)
    ),
    "garbage": lambda _issuer, _user: "garbage",
    "garbage-with-dots": lambda _issuer, _user: "a.b.c",
}


def other_key_by_its_own_id(issuer: Issuer, user: str) -> str:
    key = new_key()
    return issuer.signed(issuer.claims(user), key, kid=str(key.kid))


@pytest.mark.parametrize("name", NO_TOKENS)
def test_bad_token_is_refused(alice: Caller, stranger: Engine, issuer: Issuer, name: str) -> None:
    # given
    order_id = alice.place_resting()["orderId"]
    stored = alice.count_orders()
    headers = {"Authorization": f"Bearer {NO_TOKENS[name](issuer, alice.user)}"}
    # when
    answers = [
        stranger.http.post("api/orders/execute", json=market_order(userId=None), headers=headers),
        stranger.http.get(f"api/orders/{order_id}", headers=headers),
        stranger.http.delete(f"api/orders/{order_id}", headers=headers),
        stranger.http.post("api/stream-tickets", headers=headers),
    ]
    # then
    assert [answer.status_code for answer in answers] == [401] * 4
    assert alice.count_orders() == stored
    assert alice.order(order_id)["status"] == "open"


ROUTES = [
    ("POST", "api/orders/execute"),
    ("POST", "api/orders"),
    ("POST", "orders/execute"),
    ("GET", "api/orders"),
    ("GET", f"api/orders/{UNKNOWN_ORDER}"),
    ("DELETE", f"api/orders/{UNKNOWN_ORDER}"),
    ("PATCH", f"api/orders/{UNKNOWN_ORDER}"),
    ("GET", "api/orders/by-client-id/mine"),
    ("GET", "api/quotes?tokenIn=SOL&tokenOut=USDC&amountIn=1"),
    ("POST", "api/stream-tickets"),
]


@pytest.mark.parametrize("authorization", [None, "Bearer", "Basic YTpi"])
@pytest.mark.parametrize(("method", "path"), ROUTES)
def test_no_route_serves_without_a_token(
    stranger: Engine, method: str, path: str, authorization: str | None
) -> None:
    headers = {"Authorization": authorization} if authorization else {}
    response = stranger.http.request(method, path, json={"limitPrice": "1"}, headers=headers)
    assert response.status_code == 401


@pytest.mark.parametrize(
    "path",
    [
        "/api/orders/",
        "//api/orders",
        "/api//orders",
        "/%61pi/orders",
        "/api%2Forders",
        "/API/orders",
        "/./api/orders",
        "/docs/../api/orders",
        "/docs/%2e%2e/api/orders",
        "/$default/api/orders",
        "/orders",
        "/orders/execute/",
    ],
)
@pytest.mark.parametrize("method", ["GET", "POST", "HEAD"])
def test_no_spelling_of_a_path_gets_around_the_token(
    stranger: Engine, path: str, method: str
) -> None:
    stored = stranger.count_orders()
    url = httpx.URL(stranger.stack.http_url).copy_with(
        raw_path=httpx.URL(stranger.stack.http_url).raw_path.rstrip(b"/") + path.encode()
    )
    response = stranger.http.request(method, url, json=market_order())
    assert response.status_code in (401, 403, 404, 405), response.text
    assert stranger.count_orders() == stored


# What needs no token


@pytest.mark.parametrize("path", ["api/health", "api/openapi.json", "docs", ""])
def test_health_and_pages_need_no_token(stranger: Engine, path: str) -> None:
    assert stranger.http.get(path).status_code == 200


def test_health_and_deploy_tell_that_callers_are_authenticated(
    stranger: Engine, issuer: Issuer
) -> None:
    assert stranger.http.get("api/health").json()["access"] == "authenticated"
    assert stranger.stack.outputs["Access"] == issuer.url


def test_openapi_document_asks_for_a_token(stranger: Engine) -> None:
    paths = stranger.http.get("api/openapi.json").json()["paths"]
    open_paths = {
        path
        for path, operations in paths.items()
        for operation in operations.values()
        if not operation["security"]
    }
    assert open_paths == {"/api/health"}


@pytest.mark.parametrize(("method", "path"), ROUTES)
def test_preflight_needs_no_token(stranger: Engine, method: str, path: str) -> None:
    response = stranger.http.options(
        path,
        headers={
            "Origin": "https://front.example",
            "Access-Control-Request-Method": method,
            "Access-Control-Request-Headers": "authorization",
        },
    )
    assert response.is_success
    assert "authorization" in response.headers["Access-Control-Allow-Headers"].lower()


# The orders of others


def test_orders_of_others_do_not_exist(alice: Caller, bob: Caller) -> None:
    # given
    order = alice.place_resting(clientOrderId=uuid.uuid4().hex)
    requests: list[tuple[str, str, Json | None]] = [
        ("GET", "api/orders/{}", None),
        ("DELETE", "api/orders/{}", None),
        ("PATCH", "api/orders/{}", {"limitPrice": "1"}),
    ]
    for method, path, body in requests:
        # when
        others = bob.http.request(method, path.format(order["orderId"]), json=body)
        nobodys = bob.http.request(method, path.format(UNKNOWN_ORDER), json=body)
        # then
        assert others.status_code == 404
        assert without_request_id(others) == without_request_id(nobodys)
    by_client_id = bob.http.get(f"api/orders/by-client-id/{order['clientOrderId']}")
    assert by_client_id.status_code == 404
    after = alice.order(order["orderId"])
    assert (after["status"], after["limitPrice"]) == ("open", OUT_OF_REACH)


def without_request_id(response: httpx.Response) -> Json:
    return {**response.json(), "requestId": ""}


def test_orders_of_others_are_in_no_list(alice: Caller, bob: Caller) -> None:
    # given
    alice.place_resting()
    own = bob.place_resting()["orderId"]
    # when
    listed = bob.http.get("api/orders", params={"status": "all", "limit": 200}).json()["orders"]
    # then
    assert own in {order["orderId"] for order in listed}
    assert {order["userId"] for order in listed} == {bob.user}


def test_cursor_of_somebody_else_leads_to_ones_own_orders(alice: Caller, bob: Caller) -> None:
    # given
    bob.place_resting()
    for _ in range(2):
        alice.place_resting()
    cursor = alice.http.get("api/orders", params={"limit": 1}).json()["nextCursor"]
    # when
    page = bob.http.get("api/orders", params={"cursor": cursor}).json()
    # then
    assert {order["userId"] for order in page["orders"]} == {bob.user}


def test_nobody_asks_or_orders_in_anothers_name(alice: Caller, bob: Caller) -> None:
    # given
    stored = len(alice.orders_of(alice.user))
    # when
    answers = [
        bob.http.post("api/orders/execute", json=market_order(userId=alice.user)),
        bob.http.get("api/orders", params={"userId": alice.user}),
        bob.http.get("api/orders/by-client-id/mine", params={"userId": alice.user}),
        bob.http.post("api/stream-tickets", params={"userId": alice.user}),
    ]
    # then
    assert [answer.status_code for answer in answers] == [422] * 4
    assert len(alice.orders_of(alice.user)) == stored


def test_idempotency_key_of_somebody_else_is_free(alice: Caller, bob: Caller) -> None:
    # given
    key = uuid.uuid4().hex
    first = alice.place(clientOrderId=key)
    # when
    second = bob.place(clientOrderId=key, amountIn="2")
    # then
    assert second["orderId"] != first["orderId"]
    assert second["userId"] == bob.user


# Tickets


def test_order_comes_with_a_ticket_to_its_stream(alice: Caller) -> None:
    order = alice.place()
    with alice.listening(order["wsUrl"]) as listener:
        events = listener.events_until_final(order["orderId"])
    assert statuses(events) == HAPPY_LIFE


def test_ticket_works_once(alice: Caller) -> None:
    order = alice.place()
    alice.listen(order["wsUrl"]).close()
    assert alice.refusal_of_connecting(order["wsUrl"]) == 403


def test_ticket_of_an_order_may_come_alone(alice: Caller) -> None:
    order = alice.place()
    with alice.listening(ticket=ticket_of(order)) as listener:
        assert listener.next_message("subscribed")["orderId"] == order["orderId"]


def ticket_of(order: Json) -> str:
    return httpx.URL(order["wsUrl"]).params["ticket"]


def test_connecting_needs_a_ticket(alice: Caller) -> None:
    order = alice.place_resting()
    queries: list[dict[str, str]] = [
        {},
        {"orderId": order["orderId"]},
        {"userId": alice.user},
        {"ticket": ""},
        {"orderId": order["orderId"], "ticket": ""},
    ]
    for query in queries:
        # The function says 401, as AWS then does; the emulator refuses with 403 whatever it says.
        assert alice.refusal_of_connecting(**query) in (401, 403)


@pytest.mark.parametrize("ticket", ["made-up", "x" * 1000, "ticket", "\u00e9"])
def test_made_up_ticket_is_refused(alice: Caller, ticket: str) -> None:
    assert alice.refusal_of_connecting(ticket=ticket) == 403


def test_token_is_no_ticket(alice: Caller) -> None:
    assert alice.refusal_of_connecting(ticket=alice.token) == 403


def test_ticket_expires(alice: Caller) -> None:
    # given
    order_ticket, stream_ticket = ticket_of(alice.place_resting()), alice.stream_ticket()
    # when
    alice.let_ticket_expire(order_ticket)
    alice.let_ticket_expire(stream_ticket)
    # then
    assert alice.refusal_of_connecting(ticket=order_ticket) == 403
    assert alice.refusal_of_connecting(ticket=stream_ticket) == 403


def test_ticket_lives_for_a_minute(alice: Caller) -> None:
    reply = alice.http.post("api/stream-tickets").json()
    left = datetime.fromisoformat(reply["expiresAt"]) - datetime.now(UTC)
    assert timedelta(seconds=50) < left <= timedelta(seconds=60)


def test_ticket_of_one_order_opens_no_other(alice: Caller, bob: Caller) -> None:
    # given
    other, foreign = alice.place_resting()["orderId"], bob.place_resting()["orderId"]
    for order_id in (other, foreign, UNKNOWN_ORDER):
        # when
        ticket = ticket_of(alice.place_resting())
        # then
        assert alice.refusal_of_connecting(ticket=ticket, orderId=order_id) == 403
    ticket = ticket_of(alice.place_resting())
    assert alice.refusal_of_connecting(ticket=ticket, userId=alice.user) == 403


def test_ticket_of_one_user_opens_no_stream_of_another(alice: Caller, bob: Caller) -> None:
    order_id = alice.place_resting()["orderId"]
    for query in ({"orderId": order_id}, {"userId": alice.user}, {"orderId": UNKNOWN_ORDER}):
        assert bob.refusal_of_connecting(ticket=bob.stream_ticket(), **query) == 403


def test_ticket_that_was_refused_is_used_up(alice: Caller, bob: Caller) -> None:
    ticket = bob.stream_ticket()
    bob.refusal_of_connecting(ticket=ticket, userId=alice.user)
    assert bob.refusal_of_connecting(ticket=ticket) == 403


# On a connection


@pytest.fixture
def bobs_connection(bob: Caller) -> Iterator[Listener]:
    with bob.listening(ticket=bob.stream_ticket()) as listener:
        yield listener


def test_subscribing_to_an_order_of_somebody_else_finds_nothing(
    alice: Caller, bobs_connection: Listener
) -> None:
    # given
    order_id = alice.place()["orderId"]
    # when
    others = bobs_connection.request({"action": "subscribe", "orderId": order_id}, "error")
    nobodys = bobs_connection.request({"action": "subscribe", "orderId": UNKNOWN_ORDER}, "error")
    # then
    assert others == nobodys
    assert others["code"] == "ORDER_NOT_FOUND"
    alice.final_order(order_id)
    bobs_connection.request({"action": "ping"}, "pong")
    assert bobs_connection.events(order_id) == []


def test_subscribing_to_somebody_else_is_forbidden(
    alice: Caller, bobs_connection: Listener
) -> None:
    answer = bobs_connection.request({"action": "subscribe", "userId": alice.user}, "error")
    assert answer["code"] == "FORBIDDEN"


def test_subscribing_to_ones_own_order_gives_its_life(
    bob: Caller, bobs_connection: Listener
) -> None:
    order_id = bob.place()["orderId"]
    bobs_connection.request({"action": "subscribe", "orderId": order_id}, "subscribed")
    assert statuses(bobs_connection.events_until_final(order_id)) == HAPPY_LIFE


def test_stream_ticket_streams_all_of_the_callers_orders(alice: Caller, bob: Caller) -> None:
    # given
    reply = alice.http.post("api/stream-tickets").json()
    earlier = alice.place()["orderId"]
    with alice.listening(reply["wsUrl"]) as listener:
        listener.next_message("subscribed")
        # when
        later = alice.place()["orderId"]
        others = bob.place()["orderId"]
        lives = [statuses(listener.events_until_final(order)) for order in (earlier, later)]
        bob.final_order(others)
        listener.request({"action": "ping"}, "pong")
        users = {message["userId"] for message in listener.messages if "seq" in message}
    # then
    assert lives == [HAPPY_LIFE] * 2
    assert users == {alice.user}


def test_connection_of_one_order_does_nothing_else(alice: Caller) -> None:
    # given
    other = alice.place_resting()["orderId"]
    stored = alice.count_orders() + 1
    with alice.listening(alice.place_resting()["wsUrl"]) as listener:
        # when
        answers = [
            listener.request({"action": "subscribe", "orderId": other}, "error"),
            listener.request({"action": "subscribe", "userId": alice.user}, "error"),
            listener.request({"action": "execute", **market_order(userId=None)}, "error"),
        ]
    # then
    codes = [answer["code"] for answer in answers]
    assert codes == ["ORDER_NOT_FOUND", "FORBIDDEN", "UNAUTHENTICATED"]
    assert alice.count_orders() == stored


def test_executing_on_a_connection_acts_for_its_caller(
    bob: Caller, bobs_connection: Listener
) -> None:
    # when
    message = {"action": "execute", "requestId": "r1", **market_order(userId=None)}
    accepted = bobs_connection.request(message, "accepted")
    events = bobs_connection.events_until_final(accepted["orderId"])
    # then
    assert statuses(events) == HAPPY_LIFE
    assert bob.order(accepted["orderId"])["userId"] == bob.user


def test_executing_in_anothers_name_is_refused(alice: Caller, bobs_connection: Listener) -> None:
    message = {"action": "execute", "requestId": "r1", **market_order(userId=alice.user)}
    error = bobs_connection.request(message, "error")
    assert error["code"] == "VALIDATION_FAILED"
    assert [problem["field"] for problem in error["errors"]] == ["userId"]


# What is written down


def test_neither_tokens_nor_tickets_are_in_the_logs(alice: Caller, issuer: Issuer) -> None:
    # given
    started_ms = int(time.time() * 1000) - 1000
    bad_token = issuer.token(alice.user, exp=None)
    alice.http.get("api/orders", headers={"Authorization": f"Bearer {bad_token}"})
    order, stream_ticket = alice.place(), alice.stream_ticket()
    with alice.listening(order["wsUrl"]) as listener:
        listener.events_until_final(order["orderId"])
    alice.listen(ticket=stream_ticket).close()
    alice.refusal_of_connecting(ticket=stream_ticket)
    # when
    lines = [line.text for line in FunctionLogs(alice.stack).since(started_ms)]
    # then
    log = "\n".join(lines)
    assert order["orderId"] in log
    assert "used" in log
    for secret in (alice.token, bad_token, ticket_of(order), stream_ticket):
        assert secret not in log
        assert secret.split(".")[-1] not in log
