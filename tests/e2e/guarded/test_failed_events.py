"""What the asynchronous paths cannot deliver ends in the failed events' queue.

Not to be shown here: that a batch is halved until the poison record is alone (the emulator retries
whole batches, by age only), and what Scheduler and EventBridge could not hand over at all (it has
no dead letters of targets, and its schedules and rules call functions once, past the asynchronous
invocation with its retries, which these tests use). `test_template` checks what the template asks.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from tests.e2e.engine import HAPPY_LIFE, Json, statuses, wait_until
from tests.e2e.guarded.lab import Grant, Lab

QUEUE_SECONDS = 45


@pytest.fixture(autouse=True)
def _empty_queue(lab: Lab) -> Iterator[None]:
    lab.failed_events()
    yield
    lab.failed_events()


def failed_events_of(lab: Lab, function: str) -> list[Json]:
    return [
        event for event in lab.failed_events() if function in event["requestContext"]["functionArn"]
    ]


def test_unreadable_record_does_not_hold_up_the_events_behind_it(lab: Lab) -> None:
    # given: rows that no part of the engine writes
    order_id = lab.place_resting()
    lab.put_row(f"order#{order_id}", "event#not-a-number")
    lab.put_row(f"order#{order_id}", "event#0000000099", event="{not json")
    lab.put_row("nonsense", "event#0000000001")
    # when
    order = lab.place()
    with lab.listening(order["wsUrl"]) as listener:
        events = listener.events_until_final(order["orderId"])
    # then
    assert statuses(events) == HAPPY_LIFE


def test_events_that_cannot_be_published_end_in_the_queue_and_later_ones_do_not(lab: Lab) -> None:
    cannot_read = Grant("PublishRole", "LookForListeners", "dynamodb:BatchGetItem")
    with lab.giving_records_up_after(2):
        # when
        with lab.without([cannot_read]):
            lab.place_resting()
            event = wait_until(
                lambda: failed_events_of(lab, "PublishFunction"),
                seconds=QUEUE_SECONDS,
                what="the batch is in the queue",
            )[0]
        # then: the queue says which records, and the stream goes on
        order = lab.place()
        with lab.listening(order["wsUrl"]) as listener:
            events = listener.events_until_final(order["orderId"])
    assert event["DDBStreamBatchInfo"]["batchSize"] >= 1
    assert event["DDBStreamBatchInfo"]["startSequenceNumber"]
    # What was committed is not lost with it: a subscriber is brought up to date from the rows.
    assert statuses(events) == HAPPY_LIFE


@pytest.mark.parametrize(
    ("function", "role", "event"),
    [
        ("ReconcileFunction", "ReconcileRole", {}),
        (
            "TriggersFunction",
            "TriggersRole",
            {"detail-type": "PoolCreated", "source": "dex.raydium", "detail": {"token": "MOON"}},
        ),
        (
            "MigrateFunction",
            "MigrateRole",
            {
                "RequestType": "Update",
                "RequestId": "failing",
                "StackId": "stack",
                "LogicalResourceId": "SchemaMigration",
            },
        ),
    ],
    ids=["schedule", "rule", "custom resource"],
)
def test_failing_target_ends_in_the_queue(lab: Lab, function: str, role: str, event: Json) -> None:
    # given: no access to the database
    if function == "MigrateFunction":
        event = {**event, "ResponseURL": lab.upload_url("failed-migration.json")}
    secret = Grant(role, "ReadDatabaseSecret", "secretsmanager:GetSecretValue")
    with lab.without([secret]):
        lab.restart(function)
        # when
        lab.invoke_later(function, event)
        # then
        failed = wait_until(
            lambda: failed_events_of(lab, function),
            seconds=QUEUE_SECONDS,
            what="the event is in the queue",
        )
    assert failed[0]["requestPayload"] == event
    assert failed[0]["requestContext"]["condition"] == "RetriesExhausted"
    assert failed[0]["responsePayload"]["errorMessage"]


def test_malformed_event_ends_in_the_queue(lab: Lab) -> None:
    event = {"detail-type": "PoolCreated", "source": "dex.raydium", "detail": {"token": 42}}

    lab.invoke_later("TriggersFunction", event)

    failed = wait_until(
        lambda: failed_events_of(lab, "TriggersFunction"),
        seconds=QUEUE_SECONDS,
        what="the event is in the queue",
    )
    assert failed[0]["requestPayload"] == event
