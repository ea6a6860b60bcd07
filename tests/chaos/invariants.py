"""The rules that hold whatever breaks. Each takes the evidence and returns its violations."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise

from tests.chaos.evidence import Arrival, Evidence, StoredEvent, Subscriber

from order_engine.domain.statuses import TRANSITIONS, OrderStatus

LANDED = "landed"


@dataclass(frozen=True)
class Violation:
    """A broken rule: which, for which order, and what there is to see."""

    rule: str
    order_id: str
    detail: str

    def __str__(self) -> str:
        return f"{self.rule}: {self.order_id}: {self.detail}"


def check(evidence: Evidence) -> list[Violation]:
    """Return every violation of every rule."""
    return [
        Violation(name, order_id, detail)
        for name, rule in RULES.items()
        for order_id, detail in rule(evidence)
    ]


type Found = Iterator[tuple[str, str]]


def lost(evidence: Evidence) -> Found:
    """Find orders that a client was promised and that are not stored."""
    stored = {order.order_id for order in evidence.orders}
    for acceptance in evidence.accepted:
        if acceptance.order_id not in stored:
            yield acceptance.order_id, f"accepted for {acceptance.client_order_id}, not stored"


def accepted_twice(evidence: Evidence) -> Found:
    """Find requests that became more than one order, though repeated under the same key."""
    ids: dict[str, set[str]] = defaultdict(set)
    for acceptance in evidence.accepted:
        ids[acceptance.client_order_id].add(acceptance.order_id)
    for order in evidence.orders:
        ids[order.client_order_id].add(order.order_id)
    for client_order_id, order_ids in ids.items():
        if len(order_ids) > 1:
            yield min(order_ids), f"{client_order_id} became {sorted(order_ids)}"


def not_final_in_time(evidence: Evidence) -> Found:
    """Find orders that were not final in time after the faults had ended."""
    now = {order.order_id: order for order in evidence.orders}
    for order_id, status in evidence.unfinished.items():
        order = now.get(order_id)
        later = f"; now {order.status}, restarts {order.restarts}" if order else ""
        yield order_id, f"was {status} when the time was up{later}"


def landed_more_than_once(evidence: Evidence) -> Found:
    """Find orders that were swapped twice."""
    for order_id, signatures in _landed(evidence).items():
        if len(signatures) > 1:
            yield order_id, f"landed: {sorted(signatures)}"


def confirmed_without_its_landing(evidence: Evidence) -> Found:
    """Find confirmed orders whose own transaction is not the one that landed."""
    landed = _landed(evidence)
    for order in evidence.orders:
        signatures = landed.get(order.order_id, set())
        if order.status == OrderStatus.CONFIRMED and signatures != {order.tx_hash}:
            yield order.order_id, f"confirmed with {order.tx_hash}, landed: {sorted(signatures)}"


def landed_though_not_confirmed(evidence: Evidence) -> Found:
    """Find orders that were swapped but ended (or stay) otherwise."""
    landed = _landed(evidence)
    unconfirmed = {OrderStatus.FAILED, OrderStatus.CANCELED, OrderStatus.EXPIRED}
    for order in evidence.orders:
        if order.status in unconfirmed and order.order_id in landed:
            signatures = sorted(landed[order.order_id])
            yield order.order_id, f"{order.status} ({order.failure}), landed: {signatures}"


def confirmed_below_minimum(evidence: Evidence) -> Found:
    """Find fills worse than what the order allowed."""
    for order in evidence.orders:
        if order.status != OrderStatus.CONFIRMED:
            continue
        if (
            order.amount_out is None
            or order.min_amount_out is None
            or order.amount_out < order.min_amount_out
        ):
            yield order.order_id, f"got {order.amount_out}, at least {order.min_amount_out}"


def illegal_transition(evidence: Evidence) -> Found:
    """Find events that the transition table does not allow, or that do not follow each other."""
    for order_id, events in _by_order(evidence).items():
        first = events[0]
        if first.status != OrderStatus.PENDING or first.previous_status is not None:
            yield order_id, f"begins with {_show(first)}"
        for before, after in pairwise(events):
            allowed = TRANSITIONS[OrderStatus(before.status)]
            if after.previous_status != before.status or after.status not in allowed:
                yield order_id, f"{_show(before)}, then {_show(after)}"


def gap_in_seq(evidence: Evidence) -> Found:
    """Find orders whose events are not numbered 1, 2, 3, ... up to the order's own number."""
    by_order = _by_order(evidence)
    for order in evidence.orders:
        seqs = [event.seq for event in by_order.get(order.order_id, [])]
        if seqs != list(range(1, order.seq + 1)):
            yield order.order_id, f"events {seqs}, the order is at {order.seq}"


def changed_after_final(evidence: Evidence) -> Found:
    """Find orders that have an event after a final one, or whose status is not the last event's."""
    by_order = _by_order(evidence)
    for order in evidence.orders:
        events = by_order.get(order.order_id, [])
        for before, after in pairwise(events):
            if OrderStatus(before.status).is_final:
                yield order.order_id, f"{_show(after)} after {_show(before)}"
        if events and events[-1].status != order.status:
            yield order.order_id, f"is {order.status}, its last event is {_show(events[-1])}"


def left_in_outbox(evidence: Evidence) -> Found:
    """Find committed events that never reached the order stream."""
    for event in evidence.events:
        if not event.is_streamed:
            yield event.order_id, f"{_show(event)} was not streamed"


def missed_by_subscriber(evidence: Evidence) -> Found:
    """Find events that did not reach somebody who had subscribed to the order."""
    by_order = _by_order(evidence)
    for subscriber in evidence.subscribers:
        got: dict[str, set[int]] = defaultdict(set)
        for arrival in subscriber.arrivals:
            got[arrival.order_id].add(arrival.seq)
        for order_id in sorted(subscriber.order_ids):
            due = {event.seq for event in by_order.get(order_id, [])}
            if missed := sorted(due - got[order_id]):
                yield (
                    order_id,
                    f"{subscriber.name} ({subscriber.reconnects} reconnects) missed {missed}"
                    f" of {len(due)}",
                )


def out_of_order_for_subscriber(evidence: Evidence) -> Found:
    """Find events that came before one that precedes them (repetitions aside)."""
    for subscriber in evidence.subscribers:
        last: Counter[str] = Counter()
        for arrival in subscriber.arrivals:
            if arrival.seq > last[arrival.order_id] + 1:
                yield (
                    arrival.order_id,
                    f"{subscriber.name} got {arrival.seq} after {last[arrival.order_id]}",
                )
            last[arrival.order_id] = max(arrival.seq, last[arrival.order_id])


def published_but_not_stored(evidence: Evidence) -> Found:
    """Find what subscribers were told and Postgres does not have, or has otherwise."""
    stored = {(event.order_id, event.seq): event for event in evidence.events}
    for subscriber in evidence.subscribers:
        for arrival in subscriber.arrivals:
            event = stored.get((arrival.order_id, arrival.seq))
            if event is None:
                yield arrival.order_id, f"{subscriber.name} got {arrival}, nothing is stored"
            elif _told(arrival) != _told(event):
                yield arrival.order_id, f"{subscriber.name} got {arrival}, stored is {event}"


def told_of_strange_order(evidence: Evidence) -> Found:
    """Find events that came to somebody who had not asked for them."""
    for subscriber in evidence.subscribers:
        for order_id in {arrival.order_id for arrival in subscriber.arrivals}:
            if order_id not in subscriber.order_ids:
                yield order_id, f"{subscriber.name} did not subscribe to it"


RULES: Mapping[str, Callable[[Evidence], Found]] = {
    "lost": lost,
    "accepted twice": accepted_twice,
    "not final in time": not_final_in_time,
    "landed more than once": landed_more_than_once,
    "confirmed without its landing": confirmed_without_its_landing,
    "landed though not confirmed": landed_though_not_confirmed,
    "confirmed below minimum": confirmed_below_minimum,
    "illegal transition": illegal_transition,
    "gap in seq": gap_in_seq,
    "changed after final": changed_after_final,
    "left in outbox": left_in_outbox,
    "missed by a subscriber": missed_by_subscriber,
    "out of order for a subscriber": out_of_order_for_subscriber,
    "published but not stored": published_but_not_stored,
    "told of a strange order": told_of_strange_order,
}
SOCKET_RULES = frozenset({"missed by a subscriber", "out of order for a subscriber"})


def is_satisfied(subscriber: Subscriber, events: Mapping[str, int]) -> bool:
    """Tell whether a subscriber has got as many events of each of its orders as there are."""
    got = Counter(order_id for order_id, _ in {(a.order_id, a.seq) for a in subscriber.arrivals})
    return all(got[order_id] >= events.get(order_id, 0) for order_id in subscriber.order_ids)


def _landed(evidence: Evidence) -> dict[str, set[str]]:
    landed: dict[str, set[str]] = defaultdict(set)
    for row in evidence.chain:
        if row.fate == LANDED:
            landed[row.order_id].add(row.signature)
    return dict(landed)


def _by_order(evidence: Evidence) -> dict[str, list[StoredEvent]]:
    by_order: dict[str, list[StoredEvent]] = defaultdict(list)
    for event in sorted(evidence.events, key=lambda event: event.seq):
        by_order[event.order_id].append(event)
    return dict(by_order)


def _show(event: StoredEvent) -> str:
    return f"{event.seq} {event.previous_status}->{event.status}"


def _told(event: Arrival | StoredEvent) -> tuple[object, ...]:
    return (event.status, event.previous_status, event.attempt, event.timestamp)
