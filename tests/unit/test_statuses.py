"""The transition table."""

import re
from importlib import resources

from hypothesis import given
from hypothesis import strategies as st

from order_engine.domain.statuses import (
    ACTIVE_STATUSES,
    FINAL_STATUSES,
    MEANINGS,
    TRANSITIONS,
    OrderStatus,
    can_move,
    sources_of,
)


def test_every_status_has_a_row_and_a_meaning() -> None:
    assert set(TRANSITIONS) == set(OrderStatus) == set(MEANINGS)


def test_final_statuses_lead_nowhere() -> None:
    assert {"confirmed", "failed", "canceled", "expired"} == FINAL_STATUSES
    assert not any(TRANSITIONS[status] for status in FINAL_STATUSES)
    assert FINAL_STATUSES.isdisjoint(ACTIVE_STATUSES)


def test_submitted_order_cannot_be_canceled() -> None:
    assert not can_move(OrderStatus.SUBMITTED, OrderStatus.CANCELED)


def test_confirmed_is_reached_from_submitted_only() -> None:
    assert sources_of(OrderStatus.CONFIRMED) == {OrderStatus.SUBMITTED}


@given(st.sampled_from(OrderStatus), st.sampled_from(OrderStatus))
def test_sources_mirror_the_table(source: OrderStatus, target: OrderStatus) -> None:
    assert (source in sources_of(target)) == can_move(source, target)


@given(st.sampled_from(sorted(ACTIVE_STATUSES)))
def test_every_active_status_can_reach_a_final_one(status: OrderStatus) -> None:
    reachable, frontier = set[OrderStatus](), {status}
    while frontier:
        reachable |= frontier
        frontier = {target for source in frontier for target in TRANSITIONS[source]} - reachable
    assert reachable & FINAL_STATUSES


def test_check_constraint_names_exactly_the_statuses() -> None:
    schema = (
        resources.files("order_engine.adapters.postgres") / "migrations" / "0001_orders.sql"
    ).read_text()
    constraint = re.search(r"CHECK \(status IN \(([^)]*)\)\)", schema)
    assert constraint is not None
    assert set(re.findall(r"'(\w+)'", constraint.group(1))) == set(OrderStatus)
