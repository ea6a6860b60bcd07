"""What WebSocket clients get, whenever they come and however they go."""

from __future__ import annotations

from contextlib import ExitStack

import pytest
from tests.e2e.engine import HAPPY_LIFE, Engine, new_user, statuses, wait_until

UNKNOWN_ORDER = "00000000-0000-4000-8000-000000000000"


def test_connecting_at_once_gives_the_whole_life(engine: Engine) -> None:
    # given
    order = engine.place()
    # when
    with engine.listening(order["wsUrl"]) as listener:
        events = listener.events_until_final(order["orderId"])
    # then
    assert statuses(events) == HAPPY_LIFE


def test_connecting_in_the_middle_gives_the_whole_life(engine: Engine) -> None:
    # given
    order = engine.place()
    wait_until(
        lambda: engine.order_row(order["orderId"])["status"] not in ("pending", "routing"),
        seconds=20,
        what="order under way",
    )
    # when
    with engine.listening(order["wsUrl"]) as listener:
        events = listener.events_until_final(order["orderId"])
    # then
    assert statuses(events) == HAPPY_LIFE


def test_connecting_after_the_end_gives_the_whole_life(engine: Engine) -> None:
    # given
    order = engine.place()
    engine.final_order(order["orderId"])
    # when
    with engine.listening(order["wsUrl"]) as listener:
        events = listener.events_until_final(order["orderId"])
    # then
    assert statuses(events) == HAPPY_LIFE


def test_subscribing_before_the_order_gives_its_whole_life(engine: Engine) -> None:
    # given
    user = new_user()
    with engine.listening() as listener:
        listener.request({"action": "subscribe", "userId": user}, "subscribed")
        # when
        order = engine.place(userId=user)
        events = listener.events_until_final(order["orderId"])
    # then
    assert statuses(events) == HAPPY_LIFE


def test_greeting_comes_before_the_first_event(engine: Engine) -> None:
    # given
    order = engine.place()
    # when
    with engine.listening(order["wsUrl"]) as listener:
        listener.events_until_final(order["orderId"])
        first = listener.messages[0]
    # then
    assert first["type"] == "subscribed"
    assert first["orderId"] == order["orderId"]


def test_subscribing_behind_an_event_gives_only_the_rest(engine: Engine) -> None:
    # given
    order = engine.place()
    engine.final_order(order["orderId"])
    # when
    with engine.listening() as listener:
        subscription = {"action": "subscribe", "orderId": order["orderId"], "afterSeq": 3}
        listener.request(subscription, "subscribed")
        events = listener.events_until_final(order["orderId"])
    # then
    assert [event["seq"] for event in events] == [4, 5]


def test_user_stream_gives_the_recent_orders_whole(engine: Engine) -> None:
    # given
    user = new_user()
    earlier = engine.place(userId=user)
    engine.final_order(earlier["orderId"])
    # when
    with engine.listening() as listener:
        listener.request({"action": "subscribe", "userId": user}, "subscribed")
        events = listener.events_until_final(earlier["orderId"])
    # then
    assert statuses(events) == HAPPY_LIFE


def test_user_stream_gives_all_orders_of_the_user_and_no_others(engine: Engine) -> None:
    # given
    user, stranger = new_user(), new_user()
    with engine.listening() as listener:
        listener.request({"action": "subscribe", "userId": user}, "subscribed")
        # when
        orders = {engine.place(userId=user)["orderId"] for _ in range(3)}
        others = engine.place(userId=stranger)["orderId"]
        for order_id in orders:
            listener.events_until_final(order_id)
        engine.final_order(others)
        seen = {message["orderId"] for message in listener.messages if "seq" in message}
    # then
    assert seen == orders


def test_several_listeners_get_the_same(engine: Engine) -> None:
    # given
    order = engine.place()
    with ExitStack() as stack:
        listeners = [stack.enter_context(engine.listening(order["wsUrl"])) for _ in range(4)]
        # when
        lives = [listener.events_until_final(order["orderId"]) for listener in listeners]
    # then
    assert lives == [engine.order(order["orderId"])["events"]] * 4


def test_one_connection_follows_several_orders(engine: Engine) -> None:
    # given
    orders = [engine.place() for _ in range(3)]
    with engine.listening() as listener:
        # when
        for order in orders:
            listener.request({"action": "subscribe", "orderId": order["orderId"]}, "subscribed")
        lives = [statuses(listener.events_until_final(order["orderId"])) for order in orders]
    # then
    assert lives == [HAPPY_LIFE] * 3


def test_unsubscribed_listener_gets_no_more_events(engine: Engine) -> None:
    # given
    user = new_user()
    with engine.listening() as leaver, engine.listening() as stayer:
        for listener in (leaver, stayer):
            listener.request({"action": "subscribe", "userId": user}, "subscribed")
        # when
        leaver.request({"action": "unsubscribe", "userId": user}, "unsubscribed")
        order = engine.place(userId=user)
        stayer.events_until_final(order["orderId"])
        leaver.request({"action": "ping"}, "pong")
        # then
        assert leaver.events(order["orderId"]) == []


def test_vanished_listener_does_not_disturb_the_others(engine: Engine) -> None:
    # given
    user = new_user()
    with engine.listening() as stayer:
        vanishing = [engine.listen() for _ in range(3)]
        for listener in (stayer, *vanishing):
            listener.request({"action": "subscribe", "userId": user}, "subscribed")
        # when
        for listener in vanishing:
            listener.vanish()
        order = engine.place(userId=user)
        events = stayer.events_until_final(order["orderId"])
    # then
    assert statuses(events) == HAPPY_LIFE


@pytest.mark.parametrize("way", ["close", "vanish"])
def test_gone_listener_leaves_no_row_behind(engine: Engine, way: str) -> None:
    # given
    user = new_user()
    listener = engine.listen()
    listener.request({"action": "subscribe", "userId": user}, "subscribed")
    assert len(engine.subscriptions(f"user#{user}")) == 1
    # when
    getattr(listener, way)()
    engine.place(userId=user)
    # then
    wait_until(
        lambda: not engine.subscriptions(f"user#{user}"), seconds=20, what="the stale row gone"
    )


def test_ping_is_answered(engine: Engine) -> None:
    with engine.listening() as listener:
        assert listener.request({"action": "ping"}, "pong")["type"] == "pong"


@pytest.mark.parametrize(
    "frame",
    [
        {"action": "dance"},
        {"hello": "world"},
        {"action": "subscribe"},
        {"action": "subscribe", "orderId": "no-uuid"},
        {"action": "subscribe", "orderId": UNKNOWN_ORDER, "afterSeq": -1},
        {"action": "subscribe", "orderId": UNKNOWN_ORDER, "afterSeq": "two"},
        "[]",
        "null",
        "this is no JSON",
        "",
        '{"action": "subscribe", "userId": "\\u0000"}',
        b"\xff\xfe\x00",
    ],
    ids=repr,
)
def test_senseless_frame_is_answered_and_the_socket_stays(
    engine: Engine, frame: dict[str, object] | str | bytes
) -> None:
    with engine.listening() as listener:
        # when
        error = listener.request(frame, "error")
        # then
        assert error["code"]
        assert listener.request({"action": "ping"}, "pong")
