"""The chaos run's checker finds what is wrong, and nothing in what is right."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from decimal import Decimal

import pytest
from tests.chaos import invariants
from tests.chaos.evidence import (
    Acceptance,
    Arrival,
    ChainRow,
    Evidence,
    StoredEvent,
    StoredOrder,
    Subscriber,
)

ORDER, OTHER = "order-1", "order-2"
LIFE = ["pending", "routing", "building", "submitted", "confirmed"]


def events_of(order_id: str, statuses: list[str]) -> list[StoredEvent]:
    previous = [None, *statuses]
    return [
        StoredEvent(order_id, seq, status, before, 1, f"2026-01-01T00:00:0{seq}.000Z")
        for seq, (status, before) in enumerate(zip(statuses, previous, strict=False), start=1)
    ]


def arrivals_of(events: list[StoredEvent]) -> list[Arrival]:
    return [
        Arrival(e.order_id, e.seq, e.status, e.previous_status, e.attempt, e.timestamp)
        for e in events
    ]


def order_of(order_id: str, status: str, seq: int) -> StoredOrder:
    return StoredOrder(
        order_id=order_id,
        client_order_id=f"client-{order_id}",
        status=status,
        seq=seq,
        tx_hash=f"signature-{order_id}",
        amount_out=Decimal("10"),
        min_amount_out=Decimal("10"),
    )


@pytest.fixture
def sound() -> Evidence:
    """A confirmed order, one that failed after an attempt, and somebody who saw both twice."""
    failed_life = ["pending", "routing", "building", "submitted", "routing", "failed"]
    events = events_of(ORDER, LIFE) + events_of(OTHER, failed_life)
    return Evidence(
        accepted=[Acceptance(f"client-{ORDER}", ORDER), Acceptance(f"client-{OTHER}", OTHER)],
        orders=[order_of(ORDER, "confirmed", 5), order_of(OTHER, "failed", 6)],
        events=events,
        chain=[
            ChainRow(f"signature-{ORDER}", ORDER, "landed"),
            ChainRow("earlier", ORDER, "reverted"),
            ChainRow("other", OTHER, "expired"),
        ],
        subscribers=[
            Subscriber("listener", {ORDER, OTHER}, arrivals_of(events) + arrivals_of(events))
        ],
    )


def with_order(evidence: Evidence, order_id: str, **changes: object) -> Evidence:
    return replace(
        evidence,
        orders=[
            replace(order, **changes) if order.order_id == order_id else order  # type: ignore[arg-type]
            for order in evidence.orders
        ],
    )


def with_events(evidence: Evidence, order_id: str, events: list[StoredEvent]) -> Evidence:
    others = [event for event in evidence.events if event.order_id != order_id]
    return replace(evidence, events=[*others, *events])


def with_chain(evidence: Evidence, *rows: ChainRow) -> Evidence:
    return replace(evidence, chain=[*evidence.chain, *rows])


def with_listener(evidence: Evidence, arrivals: list[Arrival]) -> Evidence:
    return replace(evidence, subscribers=[Subscriber("listener", {ORDER, OTHER}, arrivals)])


def without_order(evidence: Evidence) -> Evidence:
    orders = [order for order in evidence.orders if order.order_id != OTHER]
    return replace(
        with_events(evidence, OTHER, []), orders=orders, chain=evidence.chain[:2], subscribers=[]
    )


def stored_twice(evidence: Evidence) -> Evidence:
    return with_order(evidence, OTHER, client_order_id=f"client-{ORDER}")


def answered_twice(evidence: Evidence) -> Evidence:
    return replace(evidence, accepted=[*evidence.accepted, Acceptance(f"client-{ORDER}", OTHER)])


def unfinished(evidence: Evidence) -> Evidence:
    return replace(evidence, unfinished={ORDER: "submitted"})


def swapped_twice(evidence: Evidence) -> Evidence:
    return with_chain(evidence, ChainRow("earlier-too", ORDER, "landed"))


def swapped_never(evidence: Evidence) -> Evidence:
    return replace(evidence, chain=[])


def swapped_by_another_signature(evidence: Evidence) -> Evidence:
    return with_order(evidence, ORDER, tx_hash="another")


def swapped_and_failed(evidence: Evidence) -> Evidence:
    return with_chain(evidence, ChainRow("late", OTHER, "landed"))


def filled_badly(evidence: Evidence) -> Evidence:
    return with_order(evidence, ORDER, amount_out=Decimal("9.99"))


def filled_unknown(evidence: Evidence) -> Evidence:
    return with_order(evidence, ORDER, amount_out=None)


def jumped(evidence: Evidence) -> Evidence:
    life = ["pending", "routing", "building", "confirmed"]
    broken = with_order(evidence, ORDER, seq=4)
    return replace(with_events(broken, ORDER, events_of(ORDER, life)), subscribers=[])


def began_in_the_middle(evidence: Evidence) -> Evidence:
    life = events_of(ORDER, LIFE)
    life[0] = replace(life[0], previous_status="open")
    return replace(with_events(evidence, ORDER, life), subscribers=[])


def forged_previous_status(evidence: Evidence) -> Evidence:
    life = events_of(ORDER, LIFE)
    life[3] = replace(life[3], previous_status="routing")
    return replace(with_events(evidence, ORDER, life), subscribers=[])


def skipped_a_number(evidence: Evidence) -> Evidence:
    life = events_of(ORDER, LIFE)
    life[4] = replace(life[4], seq=6)
    broken = with_order(evidence, ORDER, seq=6)
    return replace(with_events(broken, ORDER, life), subscribers=[])


def lost_the_last_event(evidence: Evidence) -> Evidence:
    return replace(with_events(evidence, ORDER, events_of(ORDER, LIFE)[:-1]), subscribers=[])


def rose_again(evidence: Evidence) -> Evidence:
    life = [*LIFE, "failed"]
    broken = with_order(evidence, ORDER, seq=6)
    return replace(with_events(broken, ORDER, events_of(ORDER, life)), subscribers=[])


def silent_change(evidence: Evidence) -> Evidence:
    return replace(with_order(evidence, OTHER, status="canceled"), subscribers=[])


def kept_back(evidence: Evidence) -> Evidence:
    life = events_of(ORDER, LIFE)
    life[2] = replace(life[2], is_streamed=False)
    return with_events(evidence, ORDER, life)


def missed_the_end(evidence: Evidence) -> Evidence:
    return with_listener(evidence, arrivals_of(list(evidence.events))[:-1])


def heard_nothing(evidence: Evidence) -> Evidence:
    return with_listener(evidence, [])


def heard_in_disorder(evidence: Evidence) -> Evidence:
    arrivals = arrivals_of(list(evidence.events))
    arrivals[1], arrivals[2] = arrivals[2], arrivals[1]
    return with_listener(evidence, arrivals)


def heard_of_nothing_stored(evidence: Evidence) -> Evidence:
    arrivals = arrivals_of(list(evidence.events))
    return with_listener(evidence, [*arrivals, replace(arrivals[-1], seq=7)])


def heard_otherwise(evidence: Evidence) -> Evidence:
    arrivals = arrivals_of(list(evidence.events))
    arrivals[4] = replace(arrivals[4], status="failed")
    return with_listener(evidence, arrivals)


def heard_what_was_not_asked_for(evidence: Evidence) -> Evidence:
    arrivals = arrivals_of(list(evidence.events))
    return replace(evidence, subscribers=[Subscriber("listener", {ORDER}, arrivals)])


BROKEN: list[tuple[str, str, Callable[[Evidence], Evidence]]] = [
    ("lost", OTHER, without_order),
    ("accepted twice", ORDER, stored_twice),
    ("accepted twice", ORDER, answered_twice),
    ("not final in time", ORDER, unfinished),
    ("landed more than once", ORDER, swapped_twice),
    ("confirmed without its landing", ORDER, swapped_twice),
    ("confirmed without its landing", ORDER, swapped_never),
    ("confirmed without its landing", ORDER, swapped_by_another_signature),
    ("landed though not confirmed", OTHER, swapped_and_failed),
    ("confirmed below minimum", ORDER, filled_badly),
    ("confirmed below minimum", ORDER, filled_unknown),
    ("illegal transition", ORDER, jumped),
    ("illegal transition", ORDER, began_in_the_middle),
    ("illegal transition", ORDER, forged_previous_status),
    ("gap in seq", ORDER, skipped_a_number),
    ("gap in seq", ORDER, lost_the_last_event),
    ("changed after final", ORDER, rose_again),
    ("changed after final", OTHER, silent_change),
    ("left in outbox", ORDER, kept_back),
    ("missed by a subscriber", OTHER, missed_the_end),
    ("missed by a subscriber", ORDER, heard_nothing),
    ("out of order for a subscriber", ORDER, heard_in_disorder),
    ("published but not stored", OTHER, heard_of_nothing_stored),
    ("published but not stored", ORDER, heard_otherwise),
    ("told of a strange order", OTHER, heard_what_was_not_asked_for),
]


def test_sound_evidence_has_no_violation(sound: Evidence) -> None:
    assert invariants.check(sound) == []


@pytest.mark.parametrize(
    ("rule", "order_id", "break_it"), BROKEN, ids=[case[2].__name__ for case in BROKEN]
)
def test_broken_evidence_is_found(
    sound: Evidence, rule: str, order_id: str, break_it: Callable[[Evidence], Evidence]
) -> None:
    violations = invariants.check(break_it(sound))
    assert (rule, order_id) in {(found.rule, found.order_id) for found in violations}
    assert all(found.detail for found in violations)


def test_every_rule_is_seen_to_fail() -> None:
    assert {rule for rule, _, _ in BROKEN} == set(invariants.RULES)


def test_subscriber_with_every_event_is_satisfied(sound: Evidence) -> None:
    (listener,) = sound.subscribers
    assert invariants.is_satisfied(listener, {ORDER: 5, OTHER: 6})


def test_subscriber_that_got_one_event_twice_instead_of_two_is_not_satisfied() -> None:
    first = arrivals_of(events_of(ORDER, LIFE))[0]
    assert not invariants.is_satisfied(Subscriber("s", {ORDER}, [first, first]), {ORDER: 2})
