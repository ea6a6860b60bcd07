import json
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.support.order_stream_fakes import FakeClock, FakeStream

from order_engine.streaming.rows import Connection, Ticket
from order_engine.streaming.subscriptions import MAX_MESSAGE_BYTES, Message, Subscriptions

ORDER = "0b9f1c1e-5c55-4f5c-9d3e-0d4f3f0f7a11"
OTHER = "7e7e7e7e-0000-4000-8000-000000000001"


class Clients:
    """Speak for WebSocket clients."""

    def __init__(self, *, caller_required: bool, most_connections: int | None = None) -> None:
        self.stream = FakeStream(FakeClock())
        self.subscriptions = Subscriptions(
            self.stream,
            self.stream.clock,
            caller_required=caller_required,
            most_connections=most_connections,
        )

    def connect(self, **parameters: str) -> int:
        return self.subscriptions.connect("c1", parameters)[0]

    def send(self, message: object) -> Message | None:
        text = message if isinstance(message, str) else json.dumps(message)
        return self.subscriptions.receive("c1", text)

    def greeting(self, partition_key: str) -> Message | None:
        subscription = self.stream.subscription("c1", partition_key)
        if subscription is None or subscription.greeting is None:
            return None
        greeting: Message = json.loads(subscription.greeting)
        return greeting


@pytest.fixture
def open_stack() -> Clients:
    clients = Clients(caller_required=False)
    clients.stream.write(ORDER, 1, user_id="ann")
    return clients


@pytest.fixture
def closed_stack() -> Clients:
    clients = Clients(caller_required=True)
    clients.stream.write(ORDER, 1, user_id="ann")
    clients.stream.write(OTHER, 1, user_id="bob")
    clients.stream.keep_tickets(
        {
            "ann's": Ticket("ann"),
            "ann's for the order": Ticket("ann", ORDER),
            "bob's": Ticket("bob"),
        }
    )
    return clients


# Connecting to an open stack


def test_connect_with_order_subscribes_at_once(open_stack: Clients) -> None:
    assert open_stack.connect(orderId=ORDER, afterSeq="3") == 200

    assert open_stack.greeting(f"order#{ORDER}") == {
        "type": "subscribed",
        "orderId": ORDER,
        "afterSeq": 3,
    }
    subscription = open_stack.stream.subscription("c1", f"order#{ORDER}")
    assert subscription is not None
    assert (subscription.after_seq, subscription.connecting_since_ms) != (0, None)


def test_connect_with_order_in_capitals_subscribes_to_the_same_order(open_stack: Clients) -> None:
    assert open_stack.connect(orderId=ORDER.upper()) == 200

    assert open_stack.greeting(f"order#{ORDER}") is not None


def test_connect_with_order_not_yet_streamed_is_let_in(open_stack: Clients) -> None:
    assert open_stack.connect(orderId=OTHER) == 200

    assert open_stack.greeting(f"order#{OTHER}") is not None


def test_connect_with_user_subscribes_to_all_their_orders(open_stack: Clients) -> None:
    assert open_stack.connect(userId="ann") == 200

    assert open_stack.greeting("user#ann") == {"type": "subscribed", "userId": "ann"}
    assert open_stack.stream.connections["c1"] == Connection("c1", "ann")


def test_connect_with_order_and_user_subscribes_to_the_order_only(open_stack: Clients) -> None:
    assert open_stack.connect(orderId=ORDER, userId="ann") == 200

    assert open_stack.greeting(f"order#{ORDER}") is not None
    assert open_stack.greeting("user#ann") is None
    assert open_stack.stream.connections["c1"].user_id == "ann"


def test_connect_with_nothing_is_nameless_and_subscribes_to_nothing(open_stack: Clients) -> None:
    assert open_stack.connect() == 200

    assert open_stack.stream.connections["c1"] == Connection("c1")
    assert not any(rows.subscriptions for rows in open_stack.stream.partitions.values())


@pytest.mark.parametrize(
    "parameters",
    [
        {"orderId": "no-uuid"},
        {"orderId": ""},
        {"orderId": ORDER + "\n"},
        {"orderId": f"{{{ORDER}}}"},
        {"orderId": ORDER, "afterSeq": "-1"},
        {"orderId": ORDER, "afterSeq": "one"},
        {"orderId": ORDER, "afterSeq": ""},
        {"orderId": ORDER, "afterSeq": "99999999999"},
        {"orderId": ORDER, "afterSeq": "٣"},
        {"userId": ""},
        {"userId": "a" * 256},
        {"userId": "a\x00b"},
    ],
)
def test_connect_with_bad_parameters_is_refused(
    open_stack: Clients, parameters: dict[str, str]
) -> None:
    assert open_stack.connect(**parameters) == 400

    assert "c1" not in open_stack.stream.connections


@pytest.mark.parametrize(("ticket", "status"), [("", 401), ("forged", 403)])
def test_bad_ticket_is_refused_even_where_none_is_needed(
    open_stack: Clients, ticket: str, status: int
) -> None:
    assert open_stack.connect(orderId=ORDER, ticket=ticket) == status


# Connecting with tickets


def test_connect_without_ticket_is_refused(closed_stack: Clients) -> None:
    assert closed_stack.connect(orderId=ORDER) == 401
    assert closed_stack.connect(userId="ann") == 401
    assert closed_stack.connect() == 401
    assert closed_stack.connect(ticket="") == 401


def test_ticket_opens_one_connection_only(closed_stack: Clients) -> None:
    assert closed_stack.connect(ticket="ann's", orderId=ORDER) == 200
    assert closed_stack.connect(ticket="ann's", orderId=ORDER) == 403


def test_ticket_of_an_order_subscribes_to_it(closed_stack: Clients) -> None:
    assert closed_stack.connect(ticket="ann's for the order") == 200

    assert closed_stack.greeting(f"order#{ORDER}") is not None
    assert closed_stack.stream.connections["c1"] == Connection("c1", "ann", ORDER)


@pytest.mark.parametrize(
    ("ticket", "parameters"),
    [
        ("ann's for the order", {"orderId": OTHER}),
        ("ann's for the order", {"userId": "ann"}),
        ("ann's", {"orderId": OTHER}),
        ("ann's", {"userId": "bob"}),
        ("bob's", {"orderId": ORDER}),
        ("ann's", {"orderId": "aaaaaaaa-0000-4000-8000-000000000000"}),
    ],
)
def test_ticket_opens_nothing_it_is_not_for(
    closed_stack: Clients, ticket: str, parameters: dict[str, str]
) -> None:
    assert closed_stack.connect(ticket=ticket, **parameters) == 403

    assert not closed_stack.stream.connections


def test_ticket_of_a_user_subscribes_to_all_their_orders_when_asked(closed_stack: Clients) -> None:
    assert closed_stack.connect(ticket="ann's", userId="ann") == 200

    assert closed_stack.greeting("user#ann") is not None


def test_bad_parameters_do_not_use_the_ticket_up(closed_stack: Clients) -> None:
    assert closed_stack.connect(ticket="ann's", orderId="no-uuid") == 400
    assert closed_stack.connect(ticket="ann's", orderId=ORDER) == 200


# The number of a user's connections


def test_tickets_of_a_user_open_so_many_connections_and_no_more() -> None:
    clients = Clients(caller_required=True, most_connections=2)
    clients.stream.keep_tickets({f"t{n}": Ticket("ann", ORDER if n else None) for n in range(3)})

    statuses = [clients.subscriptions.connect(f"c{n}", {"ticket": f"t{n}"})[0] for n in range(3)]

    assert statuses == [200, 200, 429]
    assert "c2" not in clients.stream.connections


def test_connections_that_must_have_ended_do_not_count() -> None:
    clients = Clients(caller_required=False, most_connections=1)
    assert clients.subscriptions.connect("c1", {"userId": "ann"})[0] == 200
    assert clients.subscriptions.connect("c2", {"userId": "ann"})[0] == 429

    clients.stream.clock.advance(3 * 3600)

    assert clients.subscriptions.connect("c2", {"userId": "ann"})[0] == 200


def test_connections_that_cannot_be_counted_are_refused_for_now() -> None:
    clients = Clients(caller_required=False, most_connections=1)
    clients.stream.unavailable = {"connections_of"}

    assert clients.subscriptions.connect("c1", {"userId": "ann"})[0] == 503


# Messages


def test_ping_is_answered_with_its_request_id(open_stack: Clients) -> None:
    assert open_stack.send({"action": "ping"}) == {"type": "pong"}
    assert open_stack.send({"action": "ping", "requestId": "r1"}) == {
        "type": "pong",
        "requestId": "r1",
    }


def test_subscribe_to_order_leaves_the_answer_to_publish(open_stack: Clients) -> None:
    open_stack.connect()

    answer = open_stack.send(
        {"action": "subscribe", "orderId": ORDER, "afterSeq": 2, "requestId": "r1"}
    )

    assert answer is None
    assert open_stack.greeting(f"order#{ORDER}") == {
        "type": "subscribed",
        "orderId": ORDER,
        "afterSeq": 2,
        "requestId": "r1",
    }


def test_subscribe_to_user_in_an_open_stack_is_allowed(open_stack: Clients) -> None:
    open_stack.connect()

    assert open_stack.send({"action": "subscribe", "userId": "ann"}) is None

    assert open_stack.greeting("user#ann") == {"type": "subscribed", "userId": "ann"}


def test_subscribe_to_unknown_order_is_answered_not_found(open_stack: Clients) -> None:
    open_stack.connect()

    answer = open_stack.send({"action": "subscribe", "orderId": OTHER})

    assert answer is not None
    assert (answer["type"], answer["code"]) == ("error", "ORDER_NOT_FOUND")
    assert open_stack.greeting(f"order#{OTHER}") is None


def test_order_of_another_user_is_answered_like_a_missing_one(closed_stack: Clients) -> None:
    closed_stack.connect(ticket="ann's")

    foreign = closed_stack.send({"action": "subscribe", "orderId": OTHER})
    missing = closed_stack.send(
        {"action": "subscribe", "orderId": "aaaaaaaa-0000-4000-8000-000000000000"}
    )

    assert foreign == missing
    assert foreign is not None
    assert foreign["code"] == "ORDER_NOT_FOUND"
    assert closed_stack.send({"action": "subscribe", "orderId": ORDER}) is None


def test_other_users_stream_is_forbidden(closed_stack: Clients) -> None:
    closed_stack.connect(ticket="ann's")

    answer = closed_stack.send({"action": "subscribe", "userId": "bob"})

    assert answer is not None
    assert answer["code"] == "FORBIDDEN"
    assert closed_stack.send({"action": "subscribe", "userId": "ann"}) is None


def test_connection_with_an_orders_ticket_sees_that_order_only(closed_stack: Clients) -> None:
    another = "aaaaaaaa-0000-4000-8000-000000000000"
    closed_stack.stream.write(another, 1, user_id="ann")
    closed_stack.connect(ticket="ann's for the order")

    others = closed_stack.send({"action": "subscribe", "orderId": another})
    all_orders = closed_stack.send({"action": "subscribe", "userId": "ann"})
    own = closed_stack.send({"action": "subscribe", "orderId": ORDER, "afterSeq": 1})

    assert others is not None
    assert all_orders is not None
    assert (others["code"], all_orders["code"]) == ("ORDER_NOT_FOUND", "FORBIDDEN")
    assert own is None


def test_subscribe_again_renews_the_subscription(open_stack: Clients) -> None:
    open_stack.connect(orderId=ORDER)
    first = open_stack.stream.subscription("c1", f"order#{ORDER}")

    open_stack.send({"action": "subscribe", "orderId": ORDER, "afterSeq": 1})

    second = open_stack.stream.subscription("c1", f"order#{ORDER}")
    assert first is not None
    assert second is not None
    assert first.subscription_id != second.subscription_id
    assert second.after_seq == 1


def test_one_subscription_too_many_is_refused(open_stack: Clients) -> None:
    open_stack.stream.most_subscriptions = 1
    open_stack.connect(userId="ann")

    answer = open_stack.send({"action": "subscribe", "orderId": ORDER})

    assert answer is not None
    assert answer["code"] == "TOO_MANY_SUBSCRIPTIONS"


def test_unsubscribe_ends_the_subscription_and_may_be_repeated(open_stack: Clients) -> None:
    open_stack.connect(orderId=ORDER)

    for _ in range(2):
        answer = open_stack.send({"action": "unsubscribe", "orderId": ORDER, "requestId": "r2"})
        assert answer == {"type": "unsubscribed", "orderId": ORDER, "requestId": "r2"}
    assert open_stack.stream.subscription("c1", f"order#{ORDER}") is None


def test_unsubscribe_from_user_ends_that_stream(open_stack: Clients) -> None:
    open_stack.connect(userId="ann")

    answer = open_stack.send({"action": "unsubscribe", "userId": "ann"})

    assert answer == {"type": "unsubscribed", "userId": "ann"}
    assert open_stack.stream.subscription("c1", "user#ann") is None


def test_message_on_a_forgotten_connection_asks_to_connect_again(open_stack: Clients) -> None:
    answer = open_stack.send({"action": "subscribe", "orderId": ORDER})

    assert answer is not None
    assert answer["code"] == "CONNECTION_UNKNOWN"


def test_stream_unavailable_is_told_with_the_request_id(open_stack: Clients) -> None:
    open_stack.connect()
    open_stack.stream.unavailable = {"subscribe"}

    answer = open_stack.send({"action": "subscribe", "orderId": ORDER, "requestId": "r1"})

    assert answer is not None
    assert (answer["code"], answer["requestId"]) == ("TEMPORARILY_UNAVAILABLE", "r1")


def test_disconnect_forgets_all_subscriptions(open_stack: Clients) -> None:
    open_stack.connect(orderId=ORDER)
    open_stack.send({"action": "subscribe", "userId": "ann"})

    its_own_row, subscriptions = 1, 2
    assert open_stack.subscriptions.disconnect("c1") == its_own_row + subscriptions
    assert open_stack.subscriptions.disconnect("c1") == 0


@pytest.mark.parametrize(
    ("message", "code"),
    [
        ("", "INVALID_MESSAGE"),
        ("hello", "INVALID_MESSAGE"),
        ("[1, 2]", "INVALID_MESSAGE"),
        ('"ping"', "INVALID_MESSAGE"),
        ("null", "INVALID_MESSAGE"),
        ("[" * 8_000, "INVALID_MESSAGE"),
        ('{"action":' * 800, "INVALID_MESSAGE"),
        ("1" * 5_000, "INVALID_MESSAGE"),
        ("x" * 32_768, "MESSAGE_TOO_LARGE"),
        ('{"action": "ping", "pad": "%s"}' % ("€" * 3_000), "MESSAGE_TOO_LARGE"),
        ("{}", "UNKNOWN_ACTION"),
        ('{"action": null}', "UNKNOWN_ACTION"),
        ('{"action": ["ping"]}', "UNKNOWN_ACTION"),
        ('{"action": "$connect"}', "UNKNOWN_ACTION"),
        ('{"action": "PING"}', "UNKNOWN_ACTION"),
        ('{"action": "ping", "requestId": 7}', "VALIDATION_FAILED"),
        ('{"action": "ping", "requestId": "%s"}' % ("r" * 129), "VALIDATION_FAILED"),
        ('{"action": "subscribe"}', "VALIDATION_FAILED"),
        ('{"action": "subscribe", "orderId": 7}', "VALIDATION_FAILED"),
        ('{"action": "subscribe", "orderId": "7"}', "VALIDATION_FAILED"),
        ('{"action": "subscribe", "orderId": {"$gt": ""}}', "VALIDATION_FAILED"),
        ('{"action": "subscribe", "userId": ""}', "VALIDATION_FAILED"),
        ('{"action": "subscribe", "userId": "\\ud800"}', "VALIDATION_FAILED"),
        ('{"action": "subscribe", "userId": "a\\u0000"}', "VALIDATION_FAILED"),
        ('{"action": "unsubscribe", "userId": ["ann"]}', "VALIDATION_FAILED"),
        (f'{{"action": "subscribe", "orderId": "{ORDER}", "userId": "ann"}}', "VALIDATION_FAILED"),
        (f'{{"action": "subscribe", "orderId": "{ORDER}", "afterSeq": -1}}', "VALIDATION_FAILED"),
        (f'{{"action": "subscribe", "orderId": "{ORDER}", "afterSeq": 1.5}}', "VALIDATION_FAILED"),
        (f'{{"action": "subscribe", "orderId": "{ORDER}", "afterSeq": "1"}}', "VALIDATION_FAILED"),
        (f'{{"action": "subscribe", "orderId": "{ORDER}", "afterSeq": true}}', "VALIDATION_FAILED"),
        (f'{{"action": "subscribe", "orderId": "{ORDER}", "afterSeq": 1e99}}', "VALIDATION_FAILED"),
        (f'{{"action": "subscribe", "orderId": "{ORDER}", "afterSeq": NaN}}', "VALIDATION_FAILED"),
    ],
)
def test_bad_message_is_answered_with_an_error(
    open_stack: Clients, message: str, code: str
) -> None:
    open_stack.connect()

    answer = open_stack.send(message)

    assert answer is not None
    assert (answer["type"], answer["code"]) == ("error", code)
    assert answer["detail"]
    assert len(json.dumps(answer)) < 1_000


def test_message_without_body_is_answered_with_an_error(open_stack: Clients) -> None:
    answer = open_stack.subscriptions.receive("c1", None)

    assert answer is not None
    assert answer["code"] == "INVALID_MESSAGE"


def test_largest_message_is_still_read(open_stack: Clients) -> None:
    frame = '{"action": "ping", "pad": "%s"}'
    message = frame % ("x" * (MAX_MESSAGE_BYTES - len(frame) + 2))

    assert len(message) == MAX_MESSAGE_BYTES
    assert open_stack.send(message) == {"type": "pong"}


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=9), inner),
    max_leaves=8,
)
messages = st.text(max_size=60) | st.builds(
    json.dumps,
    json_values
    | st.fixed_dictionaries(
        {"action": st.sampled_from(["subscribe", "unsubscribe", "ping"]) | json_values},
        optional={
            "orderId": st.sampled_from([ORDER, OTHER]) | json_values,
            "userId": st.sampled_from(["ann", "bob"]) | json_values,
            "afterSeq": json_values,
            "requestId": json_values,
        },
    ),
)


@given(messages)
def test_any_message_is_answered_and_reveals_no_foreign_order(message: str) -> None:
    clients = Clients(caller_required=True)
    clients.stream.write(OTHER, 1, user_id="bob")
    clients.stream.keep_tickets({"ann's": Ticket("ann")})
    assert clients.connect(ticket="ann's") == 200

    answer = clients.send(message)

    if answer is None:
        assert clients.greeting("user#ann") is not None
    else:
        assert answer["type"] in {"pong", "unsubscribed", "error"}
        json.dumps(answer).encode()
    assert clients.greeting(f"order#{OTHER}") is None
    assert clients.greeting("user#bob") is None


def test_clock_gives_the_time_of_a_ticket_and_a_subscription(closed_stack: Clients) -> None:
    closed_stack.stream.clock.moment += timedelta(seconds=5)

    closed_stack.connect(ticket="ann's", orderId=ORDER)

    subscription = closed_stack.stream.subscription("c1", f"order#{ORDER}")
    assert subscription is not None
    expected = int(closed_stack.stream.clock.now().timestamp() * 1000)
    assert subscription.connecting_since_ms == expected
