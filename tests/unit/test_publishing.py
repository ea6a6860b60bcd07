import logging
import threading
import time
from collections.abc import Callable

import pytest
from tests.support.order_stream_fakes import FakeClock, FakeGateway, FakeStream, Inline, record

from order_engine.streaming.delivery import HANDSHAKE_MS, UNREACHABLE_MS
from order_engine.streaming.memory import Memory
from order_engine.streaming.ports import PostOutcome
from order_engine.streaming.posting import HOPELESS_FAILURES, Timing
from order_engine.streaming.publisher import Publisher
from order_engine.streaming.report import Report
from order_engine.streaming.rows import StoredEvent
from order_engine.streaming.settling import DESERTED_AFTER_MS, MOST_CURSORS

DELIVERED, GONE = PostOutcome.DELIVERED, PostOutcome.GONE
TIMED_OUT, UNAVAILABLE = PostOutcome.TIMED_OUT, PostOutcome.UNAVAILABLE
PATIENCE_SECONDS = 30
SLOW_MOTION = 5


class World:
    """A stream, its subscribers, and a publisher that serves them."""

    def __init__(self) -> None:
        self.clock = FakeClock()
        self.stream = FakeStream(self.clock)
        self.gateway = FakeGateway()
        self.start_cold()

    def start_cold(self) -> None:
        """Begin a new execution environment, which remembers nothing."""
        self.publisher = Publisher(
            self.stream,
            self.gateway,
            self.clock,
            timing=Timing(self.clock.timer, self.clock.sleep),
            executor=Inline,
        )

    def publish(self) -> Report:
        """Have publish take the records that have come up since."""
        return self.publisher.publish(self.stream.take_records())

    def publish_all(self, most_batches: int = 100) -> None:
        """Have publish take records until no more come."""
        for _ in range(most_batches):
            if not self.stream.records:
                return
            self.publish()
        pytest.fail("publish keeps waking itself")


def reads_of(world: World) -> list[tuple[str, str]]:
    """Return what was read of the stream, without what was written."""
    reading = {"look", "order_rows", "order_listeners", "user_rows", "recent_orders"}
    return [read for read in world.stream.reads if read[0] in reading]


@pytest.fixture
def world() -> World:
    return World()


# Order, gaps, repetitions


def test_events_written_reach_two_listeners_in_order(world: World) -> None:
    world.stream.listen("c1", order_id="o1")
    world.stream.listen("c2", order_id="o1")
    world.publish()

    for seq in range(1, 6):
        world.stream.write("o1", seq)
        world.publish()

    assert world.gateway.seqs("c1") == [1, 2, 3, 4, 5]
    assert world.gateway.seqs("c2") == [1, 2, 3, 4, 5]


def test_late_subscriber_is_greeted_and_gets_all_events(world: World) -> None:
    world.stream.write("o1", 1, 2, 3)
    world.publish()
    world.stream.listen("c1", order_id="o1")

    world.publish()

    greeting, *events = world.gateway.inbox["c1"]
    assert greeting == {"type": "subscribed", "orderId": "o1", "afterSeq": 0}
    assert [event["seq"] for event in events] == [1, 2, 3]


def test_subscriber_after_seq_gets_only_what_follows(world: World) -> None:
    world.stream.write("o1", 1, 2, 3)
    world.stream.listen("c1", order_id="o1", after_seq=2)
    world.publish()

    world.stream.write("o1", 4)
    world.publish()

    assert world.gateway.seqs("c1") == [3, 4]


def test_subscriber_ahead_of_the_order_waits_for_what_follows(world: World) -> None:
    world.stream.write("o1", 1)
    world.stream.listen("c1", order_id="o1", after_seq=3)
    world.publish()

    world.stream.write("o1", 2, 3, 4)
    world.publish()

    assert world.gateway.seqs("c1") == [4]


def test_missing_event_holds_back_what_follows_until_it_is_written(world: World) -> None:
    world.stream.listen("c1", order_id="o1")
    world.stream.write("o1", 1, 3, 4)
    world.publish()
    assert world.gateway.seqs("c1") == [1]

    world.stream.write("o1", 2)
    world.publish()

    assert world.gateway.seqs("c1") == [1, 2, 3, 4]


def test_unreadable_event_row_holds_back_what_follows(world: World) -> None:
    world.stream.listen("c1", order_id="o1")
    world.stream.write("o1", 1, 2, 3)
    del world.stream.partitions["order#o1"].events[2]

    world.publish()

    assert world.gateway.seqs("c1") == [1]


def test_records_that_come_again_send_nothing_again(world: World) -> None:
    world.stream.listen("c1", order_id="o1")
    world.stream.write("o1", 1, 2)
    records = world.stream.take_records()
    world.publisher.publish(records)

    report = world.publisher.publish(records)

    assert world.gateway.seqs("c1") == [1, 2]
    assert len(world.gateway.inbox["c1"]) == 3
    assert report.events_published == 0


def test_cold_start_sends_nothing_again(world: World) -> None:
    world.stream.listen("c1", order_id="o1")
    world.stream.listen("c2", user_id="ann")
    world.stream.write("o1", 1, 2)
    world.publish()
    world.stream.write("o1", 3)
    world.publish()

    world.start_cold()
    world.stream.write("o1", 4)
    world.publish()

    assert world.gateway.seqs("c1") == [1, 2, 3, 4]
    assert world.gateway.seqs("c2") == [1, 2, 3, 4]


def test_cold_start_without_cursors_repeats_in_order(world: World) -> None:
    world.stream.listen("c1", order_id="o1")
    world.publish()
    world.stream.unavailable = {"save_cursors"}
    world.stream.write("o1", 1, 2)
    world.publish()

    world.start_cold()
    world.stream.write("o1", 3)
    world.publish()

    assert world.gateway.seqs("c1") == [1, 2, 1, 2, 3]


def test_warm_environment_without_written_cursors_repeats_nothing(world: World) -> None:
    world.stream.listen("c1", order_id="o1")
    world.publish()
    world.stream.unavailable = {"save_cursors"}

    for seq in (1, 2, 3):
        world.stream.write("o1", seq)
        world.publish()

    assert world.gateway.seqs("c1") == [1, 2, 3]


def test_cursor_of_one_subscriber_says_nothing_about_another(world: World) -> None:
    world.stream.listen("c1", order_id="o1")
    world.publish()
    world.stream.write("o1", 1, 2)
    world.publish()

    world.stream.listen("c2", order_id="o1")
    world.publish()

    assert world.gateway.seqs("c2") == [1, 2]


def test_cursors_written_for_one_keep_those_of_the_others(world: World) -> None:
    world.stream.listen("c1", order_id="o1")
    world.stream.listen("c2", order_id="o1")
    world.publish()
    world.gateway.scripts["c2"] = [TIMED_OUT, DELIVERED]
    world.stream.write("o1", 1)
    world.publish_all()

    world.start_cold()
    world.stream.write("o1", 2)
    world.publish()

    assert world.gateway.seqs("c1") == [1, 2]
    assert world.gateway.seqs("c2") == [1, 2]


def test_cursors_of_those_who_left_are_dropped(world: World) -> None:
    world.stream.listen("c1", order_id="o1")
    world.stream.listen("c2", order_id="o1")
    world.publish()
    world.stream.write("o1", 1)
    world.publish()
    world.stream.forget_connection("c2")

    world.stream.write("o1", 2)
    world.publish()

    assert list(world.stream.partitions["order#o1"].cursors.values()) == [2]


def test_memory_forgets_the_longest_unused_first() -> None:
    memory = Memory(capacity=2)
    memory.advance("s1", "o1", 3)
    memory.advance("s2", "o1", 4)
    memory.advance("s1", "o1", 5)

    memory.advance("s3", "o1", 1)

    assert [memory.cursor(key, "o1") for key in ("s1", "s2", "s3")] == [5, 0, 1]


def test_batch_of_many_events_reads_the_user_once_and_no_order(world: World) -> None:
    world.stream.listen("c1", user_id="ann")
    world.publish()
    world.stream.reads.clear()
    for order_id in ("o1", "o2"):
        world.stream.write(order_id, 1, 2, 3)

    world.publish()

    assert reads_of(world) == [("look", ""), ("user_rows", "ann")]
    assert [world.gateway.seqs("c1", key) for key in ("o1", "o2")] == [[1, 2, 3]] * 2


def test_batch_without_images_reads_each_order_and_user_once(world: World) -> None:
    world.stream.listen("c1", user_id="ann")
    world.publish()
    world.stream.reads.clear()
    for order_id in ("o1", "o2"):
        world.stream.write(order_id, 1, 2, 3)
    records = world.stream.take_records()
    for each in records:
        each["dynamodb"].pop("NewImage", None)

    world.publisher.publish(records)

    reads = [read for read in world.stream.reads if read[0] in {"order_rows", "user_rows"}]
    assert sorted(reads) == [("order_rows", "o1"), ("order_rows", "o2"), ("user_rows", "ann")]


def test_events_nobody_listens_to_cost_one_read_and_no_write(world: World) -> None:
    # given: somebody listens, but to others
    world.stream.listen("c1", user_id="bob")
    world.publish()
    world.stream.reads.clear()
    for number in range(30):
        world.stream.write(f"o{number}", 1, 2)

    report = world.publish()

    assert world.stream.reads == [("look", "")]
    assert report.events_published == 0


def test_listener_that_has_all_before_is_served_without_reading_the_order(world: World) -> None:
    world.stream.listen("c1", order_id="o1")
    world.publish()
    world.stream.reads.clear()

    for seq in (1, 2, 3):
        world.stream.write("o1", seq)
        world.publish()

    assert world.gateway.seqs("c1") == [1, 2, 3]
    assert reads_of(world) == [("look", ""), ("order_listeners", "o1")] * 3


def test_cold_start_serves_a_listener_that_has_all_before_without_reading_the_order(
    world: World,
) -> None:
    world.stream.listen("c1", order_id="o1")
    world.stream.listen("c2", user_id="ann")
    world.publish()
    world.stream.write("o1", 1)
    world.publish()
    world.start_cold()
    world.stream.reads.clear()

    world.stream.write("o1", 2)
    world.publish()

    assert "order_rows" not in dict(world.stream.reads)
    assert world.gateway.seqs("c1") == world.gateway.seqs("c2") == [1, 2]


def test_late_listener_and_one_that_is_not_are_served_from_one_read(world: World) -> None:
    world.stream.listen("c1", order_id="o1")
    world.stream.listen("c2", order_id="o1")
    world.publish()
    world.gateway.scripts["c2"] = [TIMED_OUT, DELIVERED]
    world.stream.write("o1", 1)
    world.publish()
    world.stream.reads.clear()

    world.stream.write("o1", 2)
    late = [each for each in world.stream.take_records() if "NewImage" in each["dynamodb"]]
    world.publisher.publish(late)

    assert world.gateway.seqs("c1") == world.gateway.seqs("c2") == [1, 2]
    assert [read for read in world.stream.reads if read[0] == "order_rows"] == [
        ("order_rows", "o1")
    ]


def test_event_that_fills_a_gap_brings_the_one_that_waited_for_it(world: World) -> None:
    # given: the second event came before the first, and its record is gone
    world.stream.listen("c1", order_id="o1")
    world.publish()
    world.stream.write("o1", 2)
    world.publish()
    assert world.gateway.seqs("c1") == []

    world.stream.write("o1", 1)
    world.publish()

    assert world.gateway.seqs("c1") == [1, 2]


@pytest.mark.parametrize("attribute", ["pk", "sk", "event", "userId", "timestamp"])
def test_image_that_lacks_something_is_not_used(world: World, attribute: str) -> None:
    world.stream.listen("c1", order_id="o1")
    world.publish()
    world.stream.write("o1", 1)
    records = world.stream.take_records()
    for each in records:
        each["dynamodb"].get("NewImage", {}).pop(attribute, None)

    world.publisher.publish(records)

    assert world.gateway.seqs("c1") == [1]


def test_image_of_another_event_is_not_used(world: World) -> None:
    world.stream.listen("c1", order_id="o1")
    world.stream.write("o2", 1)
    world.publish()
    world.stream.write("o2", 2)
    (stranger,) = world.stream.take_records()
    world.stream.write("o1", 1)
    records = world.stream.take_records()
    for each in records:
        each["dynamodb"]["NewImage"] = stranger["dynamodb"]["NewImage"]

    world.publisher.publish(records)

    assert world.gateway.inbox["c1"][1:] == [{"orderId": "o1", "seq": 1}]


def test_replay_to_a_user_stream_is_not_repeated_by_a_cold_environment(world: World) -> None:
    for order_id in ("o1", "o2"):
        world.stream.write(order_id, 1, 2)
    world.publish()
    world.stream.listen("c1", user_id="ann")
    world.publish()
    assert not world.stream.partitions["order#o1"].cursors

    world.start_cold()
    world.stream.write("o1", 3)
    world.publish()

    assert world.gateway.seqs("c1", "o1") == [1, 2, 3]


def begin_large_replay(world: World) -> None:
    """Have a listener come late to 500 events of a user's orders, each posted in 20 ms."""
    for number in range(50):
        world.stream.write(f"o{number}", *range(1, 11))
    world.publish()

    def briskly() -> PostOutcome:
        world.clock.advance(0.02)
        return DELIVERED

    world.gateway.scripts["c1"] = briskly
    world.stream.listen("c1", user_id="ann")


def test_replay_in_pieces_is_not_repeated_by_cold_environments(world: World) -> None:
    begin_large_replay(world)
    for _ in range(20):
        world.publish()
        world.start_cold()

    assert all(world.gateway.seqs("c1", f"o{number}") == list(range(1, 11)) for number in range(50))


def test_subscription_renewed_for_ever_leaves_no_cursor_behind(world: World) -> None:
    world.stream.write("o1", 1)
    world.publish()
    for _ in range(50):
        world.stream.listen("c1", order_id="o1")
        world.stream.listen("c2", user_id="ann")
        world.publish_all()
    world.stream.write("o1", 2)
    world.publish()

    assert len(world.stream.partitions["order#o1"].cursors) == 2
    assert world.gateway.seqs("c1")[-1] == world.gateway.seqs("c2")[-1] == 2


def test_cursors_of_very_many_listeners_are_bounded(world: World) -> None:
    for number in range(MOST_CURSORS + 50):
        world.stream.listen(f"c{number}", order_id="o1")
    world.publish()

    world.stream.write("o1", 1)
    report = world.publish()

    assert report.events_published == MOST_CURSORS + 50
    assert len(world.stream.partitions["order#o1"].cursors) == MOST_CURSORS


def test_mark_of_listeners_goes_once_nobody_has_listened_for_a_while(world: World) -> None:
    world.stream.listen("c1", order_id="o1")
    world.stream.listen("c2", user_id="ann")
    world.publish()
    world.stream.forget_connection("c1")
    world.stream.forget_connection("c2")
    world.stream.write("o1", 1)
    world.publish()
    assert world.stream.partitions["order#o1"].listened_ms is not None

    world.clock.advance(DESERTED_AFTER_MS / 1000 + 1)
    world.stream.write("o1", 2)
    world.publish()
    world.stream.reads.clear()
    world.stream.write("o1", 3)
    world.publish()

    assert world.stream.reads == [("look", "")]
    world.stream.listen("c3", user_id="ann")
    world.publish()
    world.stream.write("o1", 4)
    world.publish()
    assert world.gateway.seqs("c3") == [1, 2, 3, 4]


def test_mark_of_listeners_that_cannot_be_deleted_fails_nothing(world: World) -> None:
    world.stream.listen("c1", order_id="o1")
    world.publish()
    world.stream.forget_connection("c1")
    world.clock.advance(DESERTED_AFTER_MS / 1000 + 1)
    world.stream.unavailable = {"forget_listened"}
    world.stream.write("o1", 1)

    assert world.publish().failed == set()


def test_new_subscriber_does_not_have_others_served(world: World) -> None:
    world.stream.listen("c1", order_id="o1")
    world.publish()
    world.stream.write("o1", 1)
    world.publish()
    world.stream.partitions["order#o1"].cursors.clear()
    world.start_cold()

    world.stream.listen("c2", order_id="o1")
    world.publish()

    assert world.gateway.seqs("c1") == [1]
    assert world.gateway.seqs("c2") == [1]


# Streams of all orders of a user


def test_user_stream_gets_every_event_of_every_order(world: World) -> None:
    world.stream.listen("c1", user_id="ann")
    world.publish()

    for seq in (1, 2):
        for order_id in ("o1", "o2", "o3"):
            world.stream.write(order_id, seq)
    world.stream.write("o9", 1, user_id="bob")
    world.publish()

    assert [world.gateway.seqs("c1", key) for key in ("o1", "o2", "o3", "o9")] == [[1, 2]] * 3 + [
        []
    ]


def test_new_user_stream_replays_the_newest_orders(world: World) -> None:
    for number in range(60):
        world.stream.write(f"o{number}", 1, 2)
        world.clock.advance(1)
    world.publish()
    world.stream.listen("c1", user_id="ann")

    world.publish()

    replayed = [f"o{number}" for number in range(60) if world.gateway.seqs("c1", f"o{number}")]
    assert replayed == [f"o{number}" for number in range(10, 60)]
    assert world.gateway.inbox["c1"][0] == {"type": "subscribed", "userId": "ann"}


def test_old_order_is_sent_from_its_beginning_when_it_goes_on(world: World) -> None:
    for number in range(60):
        world.stream.write(f"o{number}", 1)
    world.publish()
    world.stream.listen("c1", user_id="ann")
    world.publish()

    world.stream.write("o0", 2)
    world.publish()

    assert world.gateway.seqs("c1", "o0") == [1, 2]


def test_user_stream_met_first_by_an_event_is_greeted_first(world: World) -> None:
    world.stream.listen("c1", user_id="ann")
    subscribed = world.stream.take_records()
    world.stream.write("o1", 1)
    world.publish()

    world.publisher.publish(subscribed)

    types = [message.get("type", message.get("seq")) for message in world.gateway.inbox["c1"]]
    assert types == ["subscribed", 1]


def test_connection_with_two_subscriptions_gets_a_live_event_once(world: World) -> None:
    world.stream.write("o1", 1)
    world.stream.listen("c1", order_id="o1")
    world.stream.listen("c1", user_id="ann")
    world.publish()

    world.stream.write("o1", 2)
    world.publish()

    assert world.gateway.seqs("c1") == [1, 2]


def test_order_replayed_to_a_user_stream_is_sent_from_where_it_was_asked_for(world: World) -> None:
    world.stream.listen("c1", user_id="ann")
    world.publish()
    world.stream.write("o1", 1, 2)
    world.publish()

    world.stream.listen("c1", order_id="o1")
    world.stream.write("o1", 3)
    world.publish()

    assert world.gateway.seqs("c1") == [1, 2, 1, 2, 3]


def test_user_stream_that_timed_out_gets_the_event_later(world: World) -> None:
    world.stream.listen("c1", user_id="ann")
    world.publish()
    world.gateway.scripts["c1"] = [TIMED_OUT, DELIVERED]
    world.stream.write("o1", 1)

    world.publish_all()

    assert world.gateway.seqs("c1") == [1]


# Greetings


def test_custom_greeting_comes_once_and_first(world: World) -> None:
    accepted = {"type": "accepted", "requestId": "r1"}
    world.stream.write("o1", 1)
    world.stream.listen("c1", order_id="o1", greeting=accepted)

    world.publish()
    world.start_cold()
    world.stream.write("o1", 2)
    world.publish()

    assert [m.get("type", m.get("seq")) for m in world.gateway.inbox["c1"]] == ["accepted", 1, 2]


def test_greeting_whose_mark_was_not_written_is_not_repeated_while_remembered(
    world: World,
) -> None:
    world.stream.unavailable = {"mark_greeted"}
    world.stream.listen("c1", order_id="o1")
    world.publish()

    world.stream.write("o1", 1)
    world.publish()

    assert [m.get("type", m.get("seq")) for m in world.gateway.inbox["c1"]] == ["subscribed", 1]


def test_subscription_before_the_first_event_is_greeted_at_once(world: World) -> None:
    world.stream.listen("c1", order_id="o1")

    world.publish()

    assert [message["type"] for message in world.gateway.inbox["c1"]] == ["subscribed"]


def test_renewed_subscription_is_greeted_and_replayed_again(world: World) -> None:
    world.stream.write("o1", 1, 2, 3)
    world.stream.listen("c1", order_id="o1")
    world.publish()

    world.stream.listen("c1", order_id="o1", after_seq=1)
    world.publish_all()

    assert world.gateway.seqs("c1") == [1, 2, 3, 2, 3]
    assert [m["afterSeq"] for m in world.gateway.inbox["c1"] if "type" in m] == [0, 1]


# Connections that have gone, or are only coming


def test_gone_connection_is_removed_and_others_are_served(world: World) -> None:
    world.stream.listen("c1", order_id="o1")
    world.stream.listen("c2", order_id="o1")
    world.publish()
    world.gateway.scripts["c1"] = [GONE]

    world.stream.write("o1", 1)
    report = world.publish()

    assert world.stream.subscription("c1", "order#o1") is None
    assert world.gateway.seqs("c2") == [1]
    assert report.connections_removed == 1
    assert world.clock.slept_seconds == 0


def test_connection_still_in_its_handshake_is_tried_again_at_once(world: World) -> None:
    world.stream.write("o1", 1)
    world.publish()
    world.stream.listen("c1", order_id="o1", connecting=True)
    world.gateway.scripts["c1"] = [GONE, GONE, DELIVERED]

    world.publish()

    assert world.gateway.seqs("c1") == [1]
    assert 0 < world.clock.slept_seconds < 1


def test_long_handshake_is_put_off_within_a_second_and_served_later(world: World) -> None:
    world.stream.write("o1", 1)
    world.publish()
    world.stream.listen("c1", order_id="o1", connecting=True)
    world.gateway.scripts["c1"] = [GONE] * 12 + [DELIVERED]

    report = world.publish()

    assert report.connections_put_off == 1
    assert world.clock.slept_seconds < 1
    world.publish_all()
    assert world.gateway.seqs("c1") == [1]
    assert not world.stream.partitions["order#o1"].wake_keys


def test_handshake_that_never_ends_is_given_up(world: World) -> None:
    world.stream.listen("c1", order_id="o1", connecting=True)
    world.gateway.scripts["c1"] = [GONE]

    world.publish_all()

    assert world.stream.subscription("c1", "order#o1") is None
    assert HANDSHAKE_MS <= world.clock.slept_seconds * 1000 < 2 * HANDSHAKE_MS


def test_connection_once_greeted_counts_as_gone_at_once(world: World) -> None:
    world.stream.listen("c1", order_id="o1", connecting=True)
    world.publish()
    world.gateway.scripts["c1"] = [GONE]

    world.stream.write("o1", 1)
    world.publish()

    assert world.stream.subscription("c1", "order#o1") is None


def test_connection_that_leaves_after_its_greeting_is_not_waited_for(world: World) -> None:
    world.stream.write("o1", 1)
    world.publish()
    world.stream.listen("c1", order_id="o1", connecting=True)
    world.gateway.scripts["c1"] = [DELIVERED, GONE]

    report = world.publish()

    assert report.connections_removed == 1
    assert world.clock.slept_seconds == 0


# Connections that cannot be reached


def test_timed_out_connection_is_tried_once_and_put_off(world: World) -> None:
    world.stream.listen("c1", order_id="o1")
    world.stream.listen("c2", order_id="o1")
    world.publish()
    world.gateway.posts.clear()
    world.gateway.scripts["c1"] = [TIMED_OUT, DELIVERED]

    world.stream.write("o1", 1)
    report = world.publish()

    assert world.gateway.posts.count("c1") == 1
    assert world.gateway.seqs("c2") == [1]
    assert (report.posts_failed, report.connections_put_off) == (1, 1)
    subscription = world.stream.subscription("c1", "order#o1")
    assert subscription is not None
    assert subscription.failing_since_ms is not None


def test_connection_that_timed_out_before_comes_after_the_others(world: World) -> None:
    for connection_id in ("c1", "c2", "c3"):
        world.stream.listen(connection_id, order_id="o1")
    world.publish()
    world.gateway.scripts["c1"] = [TIMED_OUT]
    world.stream.write("o1", 1)
    world.publish()
    world.gateway.posts.clear()

    world.stream.write("o1", 2)
    world.publish()

    assert world.gateway.posts == ["c2", "c3", "c1"]


def test_connection_reachable_again_misses_nothing(world: World) -> None:
    world.stream.listen("c1", order_id="o1")
    world.publish()
    world.gateway.scripts["c1"] = [TIMED_OUT, TIMED_OUT, DELIVERED]

    world.stream.write("o1", 1, 2)
    world.publish_all()

    assert world.gateway.seqs("c1") == [1, 2]
    subscription = world.stream.subscription("c1", "order#o1")
    assert subscription is not None
    assert subscription.failing_since_ms is None


def test_connection_that_times_out_for_long_is_closed_and_forgotten(world: World) -> None:
    world.stream.listen("c1", order_id="o1")
    world.stream.listen("c1", user_id="ann")
    world.publish()

    def hang() -> PostOutcome:
        world.clock.advance(1)
        return TIMED_OUT

    world.gateway.scripts["c1"] = hang
    world.stream.write("o1", 1)
    world.publish_all()

    assert world.gateway.disconnected == ["c1"]
    assert world.stream.subscription("c1", "order#o1") is None
    assert world.stream.subscription("c1", "user#ann") is None
    assert UNREACHABLE_MS / 1000 <= world.clock.timer() < 2 * UNREACHABLE_MS / 1000


def test_connection_that_cannot_be_closed_either_is_kept(world: World) -> None:
    world.stream.listen("c1", order_id="o1")
    world.publish()
    world.gateway.scripts["c1"] = [TIMED_OUT]
    world.gateway.disconnect_outcome = UNAVAILABLE
    world.stream.write("o1", 1)
    world.publish()
    world.clock.advance(UNREACHABLE_MS / 1000)
    world.publish()
    assert world.gateway.disconnected == ["c1"]

    world.gateway.scripts["c1"] = [DELIVERED]
    world.publish_all()

    assert world.gateway.seqs("c1") == [1]


def test_unavailable_gateway_is_tried_again_within_the_invocation(world: World) -> None:
    world.stream.listen("c1", order_id="o1")
    world.publish()
    world.gateway.scripts["c1"] = [UNAVAILABLE, UNAVAILABLE, DELIVERED]

    world.stream.write("o1", 1, 2)
    world.publish()

    assert world.gateway.seqs("c1") == [1, 2]
    assert not world.stream.records


def test_gateway_unavailable_for_long_delays_but_loses_nothing(world: World) -> None:
    world.stream.listen("c1", order_id="o1")
    world.publish()
    world.gateway.scripts["c1"] = [UNAVAILABLE] * 100 + [DELIVERED]

    world.stream.write("o1", 1, 2)
    world.publish_all(most_batches=30)

    assert world.gateway.seqs("c1") == [1, 2]
    assert world.gateway.disconnected == []


def test_nothing_reachable_stops_trying_and_pauses(world: World) -> None:
    for number in range(100):
        world.stream.listen(f"c{number}", order_id="o1")
        world.gateway.scripts[f"c{number}"] = [UNAVAILABLE]

    report = world.publish()

    assert len(world.gateway.posts) == HOPELESS_FAILURES
    assert report.connections_put_off == 100
    assert world.clock.slept_seconds >= 1
    world.gateway.scripts.clear()
    world.stream.write("o1", 1)
    world.publish_all()
    assert all(world.gateway.seqs(f"c{number}") == [1] for number in range(100))


def test_refused_message_closes_the_connection(world: World) -> None:
    world.stream.listen("c1", order_id="o1")
    world.gateway.scripts["c1"] = [PostOutcome.REFUSED]

    world.publish()

    assert world.gateway.disconnected == ["c1"]
    assert world.stream.subscription("c1", "order#o1") is None


def test_slow_connection_is_put_off_after_a_second(world: World) -> None:
    world.stream.listen("c1", order_id="o1")
    world.publish()

    def slowly() -> PostOutcome:
        world.clock.advance(0.4)
        return DELIVERED

    world.gateway.scripts["c1"] = slowly
    world.stream.write("o1", *range(1, 10))
    started = world.clock.timer()
    report = world.publish()

    assert world.clock.timer() - started < 1.5
    assert report.connections_put_off == 1
    world.publish_all()
    assert world.gateway.seqs("c1") == list(range(1, 10))


def test_large_replay_is_cut_into_invocations(world: World) -> None:
    begin_large_replay(world)
    started = world.clock.timer()
    world.publish()

    assert world.clock.timer() - started < 6
    world.publish_all()
    assert all(world.gateway.seqs("c1", f"o{number}") == list(range(1, 11)) for number in range(50))


def test_slow_listener_does_not_delay_the_others() -> None:
    # given: real threads, forty listeners that hang and forty that do not
    clock = FakeClock()
    stream, gateway = FakeStream(clock), FakeGateway()
    all_others_served = threading.Event()
    served: set[str] = set()
    waited_in_vain: list[str] = []

    def hang(connection_id: str) -> Callable[[], PostOutcome]:
        def time_out() -> PostOutcome:
            if not all_others_served.wait(PATIENCE_SECONDS):
                waited_in_vain.append(connection_id)
            return TIMED_OUT

        return time_out

    def note(connection_id: str) -> Callable[[], PostOutcome]:
        def deliver() -> PostOutcome:
            served.add(connection_id)
            if len(served) == 40:
                all_others_served.set()
            return DELIVERED

        return deliver

    stream.write("o1", 1)
    for number in range(40):
        stream.listen(f"slow{number}", order_id="o1")
        stream.listen(f"quick{number}", order_id="o1")
        gateway.scripts[f"slow{number}"] = hang(f"slow{number}")
        gateway.scripts[f"quick{number}"] = note(f"quick{number}")

    # when
    Publisher(stream, gateway, clock).publish(stream.take_records())

    # then: the hanging ones were let go only after all others had been served
    assert len(served) == 40
    assert waited_in_vain == []
    assert all(gateway.seqs(f"quick{number}") == [1] for number in range(40))


def test_hundreds_of_hanging_listeners_do_not_delay_the_others() -> None:
    # given: real threads, and listeners that hang, three times as many as post at once
    clock = FakeClock()
    stream, gateway = FakeStream(clock), FakeGateway()
    others_served = threading.Event()
    served: list[str] = []
    waited_in_vain: list[str] = []

    def hang() -> PostOutcome:
        if not others_served.wait(PATIENCE_SECONDS):
            waited_in_vain.append("a post")
        return TIMED_OUT

    def deliver() -> PostOutcome:
        served.append("")
        if len(served) >= 20:
            others_served.set()
        return DELIVERED

    stream.write("o1", 1)
    for number in range(200):
        stream.listen(f"a{number}", order_id="o1")
        gateway.scripts[f"a{number}"] = hang
    for number in range(20):
        stream.listen(f"b{number}", order_id="o1")
        gateway.scripts[f"b{number}"] = deliver

    # when: in slow motion, so that a busy machine is no reason to put anybody off
    slowly = Timing(timer=lambda: time.monotonic() / SLOW_MOTION)
    Publisher(stream, gateway, clock, timing=slowly).publish(stream.take_records())

    # then: the others are served while all of those hang
    assert waited_in_vain == []
    assert all(gateway.seqs(f"b{number}") == [1] for number in range(20))


def test_invocation_ends_although_thousands_hang(world: World) -> None:
    for number in range(2_000):
        world.stream.listen(f"c{number}", order_id="o1")
    world.publish()

    def hang() -> PostOutcome:
        world.clock.advance(1)
        return TIMED_OUT

    for number in range(2_000):
        world.gateway.scripts[f"c{number}"] = hang
    world.stream.write("o1", 1)
    started = world.clock.timer()
    report = world.publish()

    assert world.clock.timer() - started < 2.5
    assert report.connections_put_off == 2_000
    world.gateway.scripts.clear()
    world.publish_all()
    assert all(world.gateway.seqs(f"c{number}") == [1] for number in range(2_000))


def test_those_put_off_come_after_the_events_of_others(world: World) -> None:
    for connection_id in ("c1", "c2"):
        world.stream.listen(connection_id, order_id="o1")
    world.stream.listen("c3", order_id="o2")
    world.publish()

    def hang() -> PostOutcome:
        world.clock.advance(1)
        return TIMED_OUT

    world.gateway.scripts["c1"] = hang
    world.stream.write("o1", 1)
    world.publish()
    assert world.gateway.seqs("c2") == []
    world.gateway.posts.clear()

    world.stream.write("o2", 1)
    world.publish()

    assert world.gateway.posts == ["c3", "c2", "c1"]


def test_posts_to_one_connection_stay_in_order_with_real_threads() -> None:
    clock = FakeClock()
    stream, gateway = FakeStream(clock), FakeGateway()
    stream.listen("c1", user_id="ann")
    for number in range(30):
        stream.write(f"o{number}", *range(1, 8))

    Publisher(stream, gateway, clock).publish(stream.take_records())

    assert gateway.inbox["c1"][0]["type"] == "subscribed"
    assert all(gateway.seqs("c1", f"o{number}") == list(range(1, 8)) for number in range(30))


# DynamoDB's failures, and records that say nothing


def test_unreadable_order_fails_alone_and_is_served_later(world: World) -> None:
    world.stream.listen("c1", order_id="o1")
    world.stream.listen("c2", order_id="o2")
    world.publish()
    world.stream.unavailable = {("order_rows", "o1"), ("order_listeners", "o1")}
    world.stream.write("o1", 1)
    world.stream.write("o2", 1)
    records = world.stream.take_records()

    report = world.publisher.publish(records)

    assert report.failed == {"order#o1"}
    assert world.gateway.seqs("c2", "o2") == [1]
    world.stream.unavailable = set()
    assert world.publisher.publish(records).failed == set()
    assert world.gateway.seqs("c1", "o1") == [1]
    assert world.gateway.seqs("c2", "o2") == [1]


def test_look_that_fails_fails_the_orders_it_was_for(world: World) -> None:
    world.stream.listen("c1", order_id="o1")
    world.publish()
    world.stream.unavailable = {"look"}
    world.stream.write("o1", 1)
    records = world.stream.take_records()

    assert world.publisher.publish(records).failed == {"order#o1"}

    world.stream.unavailable = set()
    assert world.publisher.publish(records).failed == set()
    assert world.gateway.seqs("c1") == [1]


def test_late_order_that_cannot_be_read_fails_alone(world: World) -> None:
    world.stream.write("o1", 1)
    world.publish()
    world.stream.listen("c1", user_id="ann")
    world.stream.take_records()
    world.stream.write("o1", 2)
    world.stream.write("o2", 1)
    world.stream.unavailable = {("order_rows", "o1")}
    records = world.stream.take_records()

    assert world.publisher.publish(records).failed == {"order#o1"}

    assert world.gateway.seqs("c1", "o2") == [1]
    world.stream.unavailable = set()
    world.publisher.publish(records)
    assert world.gateway.seqs("c1", "o1") == [1, 2]


def test_unreadable_user_fails_the_order_but_serves_its_own_listeners(world: World) -> None:
    world.stream.listen("c1", order_id="o1")
    world.stream.listen("c2", user_id="ann")
    world.publish()
    world.stream.unavailable = {"user_rows"}
    world.stream.write("o1", 1)

    report = world.publish()

    assert report.failed == {"order#o1"}
    assert world.gateway.seqs("c1") == [1]


@pytest.mark.parametrize("operation", ["user_rows", "recent_orders", "order_rows"])
def test_replay_that_cannot_be_read_fails_the_user_stream(world: World, operation: str) -> None:
    world.stream.write("o1", 1)
    world.publish()
    world.stream.listen("c1", user_id="ann")
    records = world.stream.take_records()
    world.stream.unavailable = {operation}

    report = world.publisher.publish(records)

    assert report.failed == {"user#ann"}
    world.stream.unavailable = set()
    world.publisher.publish(records)
    assert world.gateway.seqs("c1") == [1]


def test_connection_that_cannot_be_put_off_fails_its_order(world: World) -> None:
    world.stream.listen("c1", order_id="o1")
    world.publish()
    world.gateway.scripts["c1"] = [TIMED_OUT]
    world.stream.unavailable = {"wake_again"}
    world.stream.write("o1", 1)

    report = world.publish()

    assert report.failed == {"order#o1"}


def test_gone_connection_that_cannot_be_removed_fails_nothing(world: World) -> None:
    world.stream.listen("c1", order_id="o1")
    world.publish()
    world.gateway.scripts["c1"] = [GONE]
    world.stream.unavailable = {"remove_subscription"}
    world.stream.write("o1", 1)

    assert world.publish().failed == set()


@pytest.mark.parametrize(
    "poison",
    [
        {},
        {"eventName": "INSERT"},
        {"eventName": "INSERT", "dynamodb": None},
        {"eventName": "INSERT", "dynamodb": {"Keys": {"pk": {"S": "order#o1"}}}},
        {"eventName": "INSERT", "dynamodb": {"Keys": {"pk": {"N": "1"}, "sk": {"N": "1"}}}},
        record("order#o1", "event#first"),
        "no record at all",
    ],
)
def test_poison_record_is_counted_and_blocks_nobody(
    world: World, poison: dict[str, object], caplog: pytest.LogCaptureFixture
) -> None:
    world.stream.listen("c1", order_id="o1")
    world.stream.write("o1", 1)

    with caplog.at_level(logging.ERROR):
        report = world.publisher.publish([poison, *world.stream.take_records()])

    assert (report.records_unreadable, report.failed) == (1, set())
    assert world.gateway.seqs("c1") == [1]
    assert "unreadable stream record" in caplog.text


@pytest.mark.parametrize(
    "uninteresting",
    [
        record("order#o1", "conn#c1", "MODIFY"),
        record("order#o1", "event#0000000001", "REMOVE"),
        record("order#o1", "owner"),
        record("order#o1", "cursors"),
        record("user#ann", "order#2026-11-21T02:40:00.000Z#o1"),
        record("connection#c1", "connection"),
        record("ticket#abc", "ticket"),
    ],
)
def test_other_rows_wake_nobody(world: World, uninteresting: dict[str, object]) -> None:
    world.stream.write("o1", 1)
    world.stream.listen("c1", order_id="o1")
    world.stream.reads.clear()

    report = world.publisher.publish([uninteresting])

    assert world.stream.reads == []
    assert report == Report()


def test_bug_while_posting_is_not_swallowed(world: World) -> None:
    world.stream.listen("c1", order_id="o1")

    def break_down() -> PostOutcome:
        raise LookupError("a bug")

    world.gateway.scripts["c1"] = break_down

    with pytest.raises(LookupError):
        world.publish()


# Measurements


def test_delay_is_measured_for_events_of_the_batch_only(world: World) -> None:
    world.stream.write("o1", 1)
    world.publish()
    world.clock.advance(60)
    world.stream.listen("c1", order_id="o1")
    world.stream.write("o1", 2)
    world.clock.advance(0.25)

    report = world.publish()

    assert report.events_published == 2
    assert report.delays_ms == [250.0]


@pytest.mark.parametrize("timestamp", [None, "yesterday", "2026-11-21T02:40:00"])
def test_event_without_usable_timestamp_is_delivered_unmeasured(
    world: World, timestamp: str | None
) -> None:
    world.stream.listen("c1", order_id="o1")
    world.stream.write("o1", 1)
    events = world.stream.partitions["order#o1"].events
    events[1] = StoredEvent(1, events[1].body, timestamp)

    report = world.publish()

    assert world.gateway.seqs("c1") == [1]
    assert report.delays_ms == []
