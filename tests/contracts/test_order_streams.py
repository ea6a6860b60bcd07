"""What every order stream must do; what only DynamoDB does, its own integration tests tell."""

import json
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from functools import partial
from uuid import uuid4

import pytest
from tests.contracts.order_streams import Kind, Stream, fake, real
from tests.support.stream_table import NOW, TABLE, event, stream_table

from order_engine.adapters.dynamodb import subscriptions
from order_engine.errors import StreamUnavailable
from order_engine.streaming.rows import (
    TICKET_LIFETIME,
    Connection,
    OrderLook,
    Subscription,
    SubscriptionOutcome,
    Ticket,
    Topic,
    subscribed_message,
)

MOST = 3
SUBSCRIBED = SubscriptionOutcome.SUBSCRIBED


@pytest.fixture(params=["fake", "real"])
def kind(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Kind]:
    monkeypatch.setattr(subscriptions, "MAX_SUBSCRIPTIONS", MOST)
    if request.param == "fake":
        yield fake(MOST)
        return
    with stream_table(monkeypatch):
        yield real(TABLE)


@pytest.fixture
def stream(kind: Kind) -> Stream:
    return kind.stream


@pytest.fixture
def order_id() -> str:
    return str(uuid4())


@pytest.fixture
def topic(order_id: str) -> Topic:
    return Topic(order_id=order_id)


def only_subscription(stream: Stream, order_id: str) -> Subscription:
    (subscription,) = stream.order_rows(order_id).subscriptions
    return subscription


# Events


def test_order_nobody_wrote_of_has_no_rows(stream: Stream, order_id: str) -> None:
    rows = stream.order_rows(order_id)

    assert (rows.user_id, dict(rows.events), rows.subscriptions) == (None, {}, ())
    assert (dict(rows.cursors), rows.wake_keys) == ({}, ())
    assert stream.owner_of(order_id) is None


def test_events_are_read_as_they_were_written_in_their_order(stream: Stream, order_id: str) -> None:
    events = [event(order_id, seq) for seq in (1, 2, 3)]

    stream.append([events[0], events[2]])
    stream.append([events[1]])

    rows = stream.order_rows(order_id)
    assert list(rows.events) == [1, 2, 3]
    assert [json.loads(stored.body) for stored in rows.events.values()] == [
        written.to_json_dict() for written in events
    ]
    assert rows.events[2].timestamp == "2026-11-21T02:40:02.000Z"


def test_first_event_tells_the_owner_and_takes_the_place_in_his_list_along(
    kind: Kind, order_id: str
) -> None:
    kind.stream.append([event(order_id, 1)])

    assert kind.stream.owner_of(order_id) == "ann"
    assert kind.stream.recent_orders("ann", 5) == [order_id]
    assert kind.insertions() == [
        ("orders#ann", f"order#2026-11-21T02:40:01.000Z#{order_id}"),
        (f"order#{order_id}", "event#0000000001"),
    ]


def test_later_event_alone_tells_publish_the_user_and_makes_nobody_the_owner(
    stream: Stream, order_id: str
) -> None:
    stream.append([event(order_id, 2)])

    assert stream.order_rows(order_id).user_id == "ann"
    assert stream.owner_of(order_id) is None
    assert stream.recent_orders("ann", 5) == []


def test_events_written_again_are_no_insertion(kind: Kind, order_id: str) -> None:
    events = [event(order_id, seq) for seq in (1, 2)]
    kind.stream.append(events)
    assert len(kind.insertions()) == 3

    kind.stream.append(events)
    kind.stream.append(events[1:])

    assert kind.insertions() == []
    assert kind.stream.recent_orders("ann", 5) == [order_id]


def test_recent_orders_are_the_newest_by_their_first_event_oldest_first(stream: Stream) -> None:
    # given: orders whose first events are written in another order than they happened
    order_ids = [str(uuid4()) for _ in range(5)]
    for number in (3, 0, 4, 1, 2):
        stream.append([event(order_ids[number], 1, moment=NOW + timedelta(minutes=number))])

    assert stream.recent_orders("ann", 3) == order_ids[2:]
    assert stream.recent_orders("ann", 10) == order_ids
    assert stream.recent_orders("bob", 3) == []


# Tickets


@pytest.mark.parametrize("bound_to", [None, "0b9f1c1e-5c55-4f5c-9d3e-0d4f3f0f7a11"])
def test_ticket_is_redeemed_once(stream: Stream, bound_to: str | None) -> None:
    ticket = stream.issue_ticket("ann", bound_to, NOW)

    assert stream.redeem_ticket(ticket, NOW) == Ticket("ann", bound_to)
    assert stream.redeem_ticket(ticket, NOW) is None


def test_ticket_opens_nothing_from_the_end_of_its_lifetime(stream: Stream) -> None:
    early, late = stream.issue_ticket("ann", None, NOW), stream.issue_ticket("ann", None, NOW)

    assert stream.redeem_ticket(early, NOW + TICKET_LIFETIME - timedelta(seconds=1)) is not None
    assert stream.redeem_ticket(late, NOW + TICKET_LIFETIME) is None


@pytest.mark.parametrize("ticket", ["forged", "", "é\ud800", "x" * 5_000])
def test_unknown_ticket_opens_nothing(stream: Stream, ticket: str) -> None:
    assert stream.redeem_ticket(ticket, NOW) is None


def test_of_many_who_redeem_a_ticket_at_once_one_succeeds(stream: Stream) -> None:
    ticket = stream.issue_ticket("ann", None, NOW)

    with ThreadPoolExecutor(8) as threads:
        redeemed = list(threads.map(lambda _: stream.redeem_ticket(ticket, NOW), range(16)))

    assert [item for item in redeemed if item is not None] == [Ticket("ann")]


# Connections and subscriptions


def test_connection_is_registered_with_its_subscription(
    kind: Kind, order_id: str, topic: Topic
) -> None:
    kind.stream.register_connection(Connection("c1", "ann"), topic, 3, NOW)

    subscription = only_subscription(kind.stream, order_id)
    assert (subscription.connection_id, subscription.partition_key) == ("c1", f"order#{order_id}")
    assert (subscription.after_seq, subscription.failing_since_ms) == (3, None)
    assert subscription.connecting_since_ms == int(NOW.timestamp() * 1000)
    assert json.loads(subscription.greeting or "") == subscribed_message(topic, 3)
    assert kind.insertions() == [
        (f"order#{order_id}", "listened"),
        ("connection#c1", "connection"),
        ("connections#ann", "connection#c1"),
        (f"order#{order_id}", "conn#c1"),
    ]


def test_handshake_repeated_is_no_insertion(kind: Kind, topic: Topic) -> None:
    # Lambda may invoke twice for one handshake; the first row's record has woken publish.
    kind.stream.register_connection(Connection("c1", "ann"), topic, 0, NOW)
    kind.insertions()

    kind.stream.register_connection(Connection("c1", "ann"), topic, 0, NOW)

    assert kind.insertions() == []


def test_subscribing_inserts_a_row_and_again_wakes_publish(
    kind: Kind, order_id: str, topic: Topic
) -> None:
    accepted = {"type": "accepted", "requestId": "r1"}
    kind.stream.register_connection(Connection("c1", "ann"), None, 0, NOW)
    kind.insertions()

    first = kind.stream.subscribe_connection("c1", order_id, "ann", 0, accepted, NOW)
    first_row = only_subscription(kind.stream, order_id)
    first_insertions = kind.insertions()
    second = kind.stream.subscribe("c1", topic, "ann", 2, {"type": "hi"}, NOW)
    second_row = only_subscription(kind.stream, order_id)

    assert (first, second) == (SUBSCRIBED, SUBSCRIBED)
    assert json.loads(first_row.greeting or "") == accepted
    assert first_row.connecting_since_ms is None
    assert first_insertions == [(f"order#{order_id}", "listened"), (f"order#{order_id}", "conn#c1")]
    assert second_row.subscription_id != first_row.subscription_id
    assert second_row.after_seq == 2
    assert kind.insertions() == [(f"order#{order_id}", "conn#c1#again#")]


def test_subscribing_an_unknown_connection_leaves_no_subscription(
    kind: Kind, order_id: str, topic: Topic
) -> None:
    assert kind.subscribe("c1", topic, NOW) is SubscriptionOutcome.CONNECTION_UNKNOWN

    assert kind.stream.order_rows(order_id).subscriptions == ()
    assert kind.insertions() == [(f"order#{order_id}", "listened")]


def test_subscriptions_are_limited_per_connection(kind: Kind) -> None:
    # given: a connection with all the subscriptions that it may have, one from its handshake
    kind.stream.register_connection(Connection("c1", "ann"), Topic(user_id="ann"), 0, NOW)
    topics = [Topic(order_id=str(uuid4())) for _ in range(MOST)]
    for topic in topics[:-1]:
        assert kind.subscribe("c1", topic, NOW) is SUBSCRIBED

    assert kind.subscribe("c1", topics[-1], NOW) is SubscriptionOutcome.TOO_MANY

    # then: one may be renewed, and one given up makes room for one
    assert kind.subscribe("c1", topics[0], NOW) is SUBSCRIBED
    assert kind.stream.unsubscribe("c1", topics[0])
    assert not kind.stream.unsubscribe("c1", topics[0])
    assert kind.subscribe("c1", topics[-1], NOW) is SUBSCRIBED
    assert kind.subscribe("c1", topics[0], NOW) is SubscriptionOutcome.TOO_MANY


def test_subscriptions_of_two_connections_are_counted_apart(kind: Kind) -> None:
    for connection_id in ("c1", "c2"):
        kind.stream.register_connection(Connection(connection_id), None, 0, NOW)
        outcomes = [
            kind.subscribe(connection_id, Topic(order_id=str(uuid4())), NOW) for _ in range(MOST)
        ]
        assert outcomes == [SUBSCRIBED] * MOST


def test_connection_and_owner_are_found_together(stream: Stream, order_id: str) -> None:
    stream.append([event(order_id, 1)])
    connection = Connection("c1", "ann", order_id)
    stream.register_connection(connection, None, 0, NOW)

    assert stream.connection_and_owner("c1", order_id) == (connection, "ann")
    assert stream.connection_and_owner("c1", None) == (connection, None)
    assert stream.connection_and_owner("c2", str(uuid4())) == (None, None)
    assert stream.owner_of(order_id) == "ann"


@pytest.mark.parametrize(
    ("connection", "user_id"),
    [
        (Connection("c1", "ann"), "ann"),
        (Connection("c1"), None),
        (Connection("c1", "ann", "0b9f1c1e-5c55-4f5c-9d3e-0d4f3f0f7a11"), None),
    ],
)
def test_connection_acts_for_its_user_unless_its_ticket_was_for_an_order(
    stream: Stream, connection: Connection, user_id: str | None
) -> None:
    stream.register_connection(connection, None, 0, NOW)

    assert stream.connection_user("c1") == user_id
    assert stream.connection_user("unknown") is None


def test_forgetting_a_connection_deletes_all_its_rows_and_no_others(
    kind: Kind, order_id: str, topic: Topic
) -> None:
    # given: two connections; the first listens to two topics and is to be woken for one again
    for connection_id in ("c1", "c11"):
        kind.stream.register_connection(
            Connection(connection_id, "ann"), Topic(user_id="ann"), 0, NOW
        )
    kind.subscribe("c1", topic, NOW)
    kind.stream.wake_again([(f"order#{order_id}", "c1"), ("user#ann", "c11")], NOW)

    assert kind.stream.forget_connection("c1") == 5
    assert kind.stream.forget_connection("c1") == 0

    order, user = kind.stream.order_rows(order_id), kind.stream.user_rows("ann")
    assert (order.subscriptions, order.wake_keys) == ((), ())
    assert [subscription.connection_id for subscription in user.subscriptions] == ["c11"]
    assert len(user.wake_keys) == 1
    assert kind.stream.connection_and_owner("c1", None) == (None, None)
    assert kind.stream.connection_and_owner("c11", None) == (Connection("c11", "ann"), None)


def test_subscribers_are_read_by_the_partition_they_listen_to(kind: Kind, order_id: str) -> None:
    kind.stream.append([event(order_id, 1)])
    for connection_id in ("c2", "c1"):
        kind.stream.register_connection(Connection(connection_id), Topic(user_id="ann"), 0, NOW)
    kind.subscribe("c1", Topic(order_id=order_id), NOW)

    order, user = kind.stream.order_rows(order_id), kind.stream.user_rows("ann")

    assert [(row.connection_id, row.is_of_user) for row in order.subscriptions] == [("c1", False)]
    assert [(row.connection_id, row.is_of_user) for row in user.subscriptions] == [
        ("c1", True),
        ("c2", True),
    ]
    assert kind.stream.user_rows("bob").subscriptions == ()


# What publish notes


def test_marks_change_the_row_they_were_read_from(
    stream: Stream, order_id: str, topic: Topic
) -> None:
    stream.register_connection(Connection("c1"), topic, 0, NOW)
    subscription = only_subscription(stream, order_id)

    stream.mark_greeted(subscription, 3)
    stream.mark_failing(subscription, NOW)

    marked = only_subscription(stream, order_id)
    assert (marked.greeting, marked.connecting_since_ms, marked.after_seq) == (None, None, 3)
    assert marked.failing_since_ms == int(NOW.timestamp() * 1000)
    assert marked.subscription_id == subscription.subscription_id
    stream.mark_reachable(marked)
    assert only_subscription(stream, order_id).failing_since_ms is None


def test_marks_neither_bring_back_a_deleted_row_nor_touch_a_renewed_one(
    kind: Kind, order_id: str, topic: Topic
) -> None:
    stream = kind.stream
    stream.register_connection(Connection("c1"), topic, 0, NOW)
    old = only_subscription(stream, order_id)
    kind.subscribe("c1", topic, NOW, after_seq=1)
    renewed = only_subscription(stream, order_id)

    for mark in (partial(stream.mark_greeted, old, 5), partial(stream.mark_failing, old, NOW)):
        mark()
    assert only_subscription(stream, order_id) == renewed

    stream.remove_subscription(renewed)
    stream.mark_greeted(renewed, 5)
    stream.mark_failing(renewed, NOW)
    stream.mark_reachable(renewed)
    assert stream.order_rows(order_id).subscriptions == ()


def test_waking_again_inserts_a_row_per_connection_until_it_is_removed(
    kind: Kind, order_id: str
) -> None:
    partition_key = f"order#{order_id}"
    wakes = [(partition_key, "c2"), (partition_key, "c1"), ("user#ann", "c1"), ("user#ann", "c1")]

    kind.stream.wake_again(wakes, NOW)

    assert sorted(kind.insertions()) == [
        (partition_key, "conn#c1#again#"),
        (partition_key, "conn#c2#again#"),
        ("user#ann", "conn#c1#again#"),
    ]
    order, user = kind.stream.order_rows(order_id), kind.stream.user_rows("ann")
    assert (len(order.wake_keys), len(user.wake_keys)) == (2, 1)
    assert (order.subscriptions, user.subscriptions) == ((), ())
    removed, kept = order.wake_keys
    kind.stream.remove_wakes([(partition_key, removed), (partition_key, removed)])
    assert kind.stream.order_rows(order_id).wake_keys == (kept,)


def test_cursors_replace_those_written_before(stream: Stream, order_id: str) -> None:
    other = str(uuid4())
    stream.save_cursors({order_id: {"s1": 1, "s2": 2}, other: {"s3": 3}}, NOW)

    stream.save_cursors({order_id: {"s2": 4}}, NOW)

    assert stream.order_rows(order_id).cursors == {"s2": 4}
    assert stream.order_rows(other).cursors == {"s3": 3}


def test_marks_of_a_user_stream_say_how_far_its_orders_were_replayed(stream: Stream) -> None:
    stream.register_connection(Connection("c1"), Topic(user_id="ann"), 0, NOW)
    (subscription,) = stream.user_rows("ann").subscriptions
    assert dict(subscription.replayed) == {}

    stream.mark_greeted(subscription, 0, {"o1": 3, "o2": 1})

    (marked,) = stream.user_rows("ann").subscriptions
    assert (dict(marked.replayed), marked.greeting) == ({"o1": 3, "o2": 1}, None)


# Who listens


def test_look_tells_who_is_listened_to_and_what_is_known(kind: Kind, order_id: str) -> None:
    # given: an order and a user that somebody listens to, and others
    stream, other = kind.stream, str(uuid4())
    stream.append([event(order_id, seq) for seq in (1, 2)])
    stream.save_cursors({order_id: {"s1": 2}}, NOW)
    stream.register_connection(Connection("c1"), Topic(order_id=order_id), 0, NOW)
    stream.register_connection(Connection("c2"), None, 0, NOW)
    kind.subscribe("c2", Topic(user_id="ann"), NOW + timedelta(seconds=1))

    looks = stream.look({order_id: 1, other: 1}, ["ann", "bob"])

    now_ms = int(NOW.timestamp() * 1000)
    assert looks.orders == {
        order_id: OrderLook(now_ms, {"s1": 2}, has_more=True),
        other: OrderLook(),
    }
    assert looks.users == {"ann": now_ms + 1000}
    assert not stream.look({order_id: 2}, []).orders[order_id].has_more


def test_look_takes_more_orders_than_one_batch_of_keys(kind: Kind) -> None:
    order_ids = [str(uuid4()) for _ in range(120)]
    for order_id in order_ids[::40]:
        kind.stream.register_connection(Connection(order_id), Topic(order_id=order_id), 0, NOW)

    looks = kind.stream.look(dict.fromkeys(order_ids, 1), [f"user{n}" for n in range(50)])

    listened = [key for key in order_ids if looks.orders[key].listened_ms is not None]
    assert listened == order_ids[::40]


def test_order_listeners_are_the_order_rows_without_events(kind: Kind, order_id: str) -> None:
    kind.stream.append([event(order_id, 1)])
    kind.stream.register_connection(Connection("c1"), Topic(order_id=order_id), 0, NOW)
    kind.stream.wake_again([(f"order#{order_id}", "c1")], NOW)

    listeners, rows = kind.stream.order_listeners(order_id), kind.stream.order_rows(order_id)

    assert listeners.subscriptions == rows.subscriptions
    assert listeners.wake_keys == rows.wake_keys
    assert len(listeners.wake_keys) == 1


def test_mark_of_listeners_stays_when_somebody_began_after_it_was_seen(
    kind: Kind, order_id: str, topic: Topic
) -> None:
    stream, now_ms = kind.stream, int(NOW.timestamp() * 1000)
    stream.register_connection(Connection("c1"), topic, 0, NOW)
    stream.register_connection(Connection("c2"), topic, 0, NOW + timedelta(milliseconds=1))

    stream.forget_listened(f"order#{order_id}", now_ms)
    assert stream.look({order_id: 1}, []).orders[order_id].listened_ms == now_ms + 1

    stream.forget_listened(f"order#{order_id}", now_ms + 1)
    assert stream.look({order_id: 1}, []).orders[order_id].listened_ms is None


def test_connections_of_a_user_are_counted_until_they_end(kind: Kind, topic: Topic) -> None:
    for connection_id, user_id in (("c1", "ann"), ("c2", "ann"), ("c3", "bob"), ("c4", "")):
        kind.stream.register_connection(Connection(connection_id, user_id), topic, 0, NOW)

    assert kind.stream.connections_of("ann", "c9", NOW) == 2
    assert kind.stream.connections_of("ann", "c1", NOW) == 1
    kind.stream.forget_connection("c2")
    assert kind.stream.connections_of("ann", "c9", NOW) == 1
    assert kind.stream.connections_of("ann", "c9", NOW + timedelta(hours=3)) == 0


def test_nothing_to_write_is_no_fault(kind: Kind) -> None:
    kind.stream.append([])
    kind.stream.wake_again([], NOW)
    kind.stream.remove_wakes([])
    kind.stream.save_cursors({}, NOW)

    assert kind.insertions() == []


# Out of service

ROW = Subscription("order#o1", "c1", "s1")
TOPIC = Topic(order_id="o1")
OPERATIONS: dict[str, Callable[[Stream], object]] = {
    "append": lambda stream: stream.append([event("o1", 1)]),
    "order_rows": lambda stream: stream.order_rows("o1"),
    "user_rows": lambda stream: stream.user_rows("ann"),
    "recent_orders": lambda stream: stream.recent_orders("ann", 5),
    "look": lambda stream: stream.look({"o1": 1}, ["ann"]),
    "order_listeners": lambda stream: stream.order_listeners("o1"),
    "forget_listened": lambda stream: stream.forget_listened("order#o1", 1),
    "connections_of": lambda stream: stream.connections_of("ann", "c1", NOW),
    "mark_greeted": lambda stream: stream.mark_greeted(ROW, 1),
    "mark_failing": lambda stream: stream.mark_failing(ROW, NOW),
    "mark_reachable": lambda stream: stream.mark_reachable(ROW),
    "remove_subscription": lambda stream: stream.remove_subscription(ROW),
    "forget_connection": lambda stream: stream.forget_connection("c1"),
    "wake_again": lambda stream: stream.wake_again([("order#o1", "c1")], NOW),
    "remove_wakes": lambda stream: stream.remove_wakes([("order#o1", "conn#c1#again#1")]),
    "save_cursors": lambda stream: stream.save_cursors({"o1": {"s1": 1}}, NOW),
    "issue_ticket": lambda stream: stream.issue_ticket("ann", None, NOW),
    "redeem_ticket": lambda stream: stream.redeem_ticket("t1", NOW),
    "owner_of": lambda stream: stream.owner_of("o1"),
    "connection_user": lambda stream: stream.connection_user("c1"),
    "connection_and_owner": lambda stream: stream.connection_and_owner("c1", "o1"),
    "register_connection": lambda stream: stream.register_connection(
        Connection("c1"), TOPIC, 0, NOW
    ),
    "subscribe": lambda stream: stream.subscribe("c1", TOPIC, "ann", 0, {}, NOW),
    "subscribe_connection": lambda stream: stream.subscribe_connection(
        "c1", "o1", "ann", 0, {}, NOW
    ),
    "unsubscribe": lambda stream: stream.unsubscribe("c1", TOPIC),
}


@pytest.mark.parametrize("operation", OPERATIONS)
def test_stream_out_of_service_says_so(kind: Kind, operation: str) -> None:
    with pytest.raises(StreamUnavailable):
        OPERATIONS[operation](kind.out_of_service)
