"""Whose turn it is: slots, fairness between users, priority, and the limits of the intake."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from tests.support.engine_parts import moves_of
from tests.support.postgres import KnownSecret, Orders
from tests.support.queue_desk import Desk

from order_engine.adapters.postgres.connection import connect
from order_engine.domain.changes import Amendment, Canceled
from order_engine.domain.statuses import OrderStatus
from order_engine.domain.transitions import Guard, IntakeLimits, Transition
from order_engine.errors import ProblemCode, TooMany


@pytest.fixture
def desk_with(own_database: str) -> Iterator[Callable[[int | None], Desk]]:
    opened: list[Orders] = []
    with connect(KnownSecret(own_database)) as connection:

        def make(slots: int | None) -> Desk:
            opened.append(Orders.at(own_database, slots))
            return Desk(opened[-1], connection)

        yield make
        for orders in opened:
            orders.close()


def test_order_starts_at_once_while_a_slot_is_free(desk_with: Callable[[int], Desk]) -> None:
    desk = desk_with(2)

    first, second = desk.accept(), desk.accept()

    assert desk.executions.started == [first.order_id, second.order_id]


def test_order_beyond_the_slots_is_stored_and_waits(desk_with: Callable[[int], Desk]) -> None:
    desk = desk_with(1)
    desk.accept()

    waiting = desk.accept()

    assert waiting.status is OrderStatus.PENDING
    assert waiting.order_id not in desk.executions.started
    assert [event.status.value for event in desk.stream.events] == ["pending", "pending"]


def test_submission_hands_its_slot_to_the_next(desk_with: Callable[[int], Desk]) -> None:
    desk = desk_with(1)
    first, second = desk.accept(), desk.accept()

    desk.submit(first.order_id)

    assert desk.executions.started == [first.order_id, second.order_id]
    assert desk.used_slots() == 1


def test_cancel_of_a_started_order_hands_its_slot_on(desk_with: Callable[[int], Desk]) -> None:
    desk = desk_with(1)
    first, second = desk.accept(), desk.accept()

    moves = moves_of(desk.orders, desk.stream, desk.executions)
    moves.move(Transition(first.order_id, Canceled(reason="test"), Guard.ANYONE))

    assert desk.executions.started == [first.order_id, second.order_id]


def test_cancel_of_a_waiting_order_frees_nothing(desk_with: Callable[[int], Desk]) -> None:
    desk = desk_with(1)
    desk.accept()
    second, third = desk.accept(), desk.accept()

    moves = moves_of(desk.orders, desk.stream, desk.executions)
    moves.move(Transition(second.order_id, Canceled(reason="test"), Guard.ANYONE))

    assert third.order_id not in desk.executions.started
    assert desk.used_slots() == 1


def test_orders_at_once_never_take_more_than_the_slots(
    desk_with: Callable[[int], Desk], own_database: str
) -> None:
    desk = desk_with(3)

    def post(number: int) -> None:
        orders = Orders.at(own_database, 3)
        Desk(orders, desk.database, desk.executions).accept(f"user-{number}")
        orders.close()

    with ThreadPoolExecutor(12) as pool:
        list(pool.map(post, range(36)))

    assert desk.used_slots() == len(desk.executions.started) == 3


def test_slots_freed_at_once_are_all_handed_on(
    desk_with: Callable[[int], Desk], own_database: str
) -> None:
    # given: eight workers submit at once while others wait
    desk = desk_with(8)
    for number in range(40):
        desk.accept(f"user-{number % 5}")

    def submit(order_id: str) -> None:
        orders = Orders.at(own_database, 8)
        Desk(orders, desk.database, desk.executions).submit(order_id)
        orders.close()

    # when
    done = 0
    with ThreadPoolExecutor(8) as pool:
        while done < 40:
            begun = desk.executions.started[done:]
            assert begun, "slots were lost"
            list(pool.map(submit, begun))
            done += len(begun)
            assert desk.used_slots() == len(desk.executions.started) - done

    # then
    assert Counter(desk.executions.started).most_common(1)[0][1] == 1
    assert desk.used_slots() == 0


def test_newcomer_overtakes_the_backlog_of_another_user(desk_with: Callable[[int], Desk]) -> None:
    desk = desk_with(1)
    for _ in range(20):
        desk.accept("whale")
    desk.serve(5)

    newcomer = desk.accept("newcomer")

    assert newcomer.order_id in desk.serve(8)


def test_users_who_both_wait_are_served_in_turn(desk_with: Callable[[int], Desk]) -> None:
    desk = desk_with(1)
    for user in ("ann", "bob"):
        for _ in range(10):
            desk.accept(user)

    served = desk.users(desk.serve(20))

    for length in range(2, 20):
        counts = Counter(served[1:length])
        assert abs(counts["ann"] - counts["bob"]) <= 2


def test_fired_sniper_order_goes_first_and_makes_nobody_else_late(
    desk_with: Callable[[int], Desk],
) -> None:
    # given: a user with a long backlog of whom a sniper order fires
    desk = desk_with(1)
    for _ in range(10):
        desk.accept("ann")
    sniper = desk.waiting_sniper("ann")

    # when
    served = desk.serve(2)
    newcomer = desk.accept("bob")

    # then
    assert served[1] == sniper.order_id
    assert newcomer.order_id in desk.serve(5)


def test_highest_priority_of_a_user_goes_first_in_the_turn_of_the_oldest(
    desk_with: Callable[[int], Desk],
) -> None:
    desk = desk_with(1)
    desk.accept("bob")
    orders = [desk.accept("ann", priority=priority) for priority in (0, 3, 7)]
    other = desk.accept("bob", priority=0)

    served = desk.serve(5)[1:]

    low, middle, high = (order.order_id for order in orders)
    assert [order_id for order_id in served if order_id != other.order_id] == [high, middle, low]


def test_priority_gains_nothing_on_others(desk_with: Callable[[int], Desk]) -> None:
    desk = desk_with(1)
    desk.accept("busy")
    for _ in range(5):
        desk.accept("ann", priority=10)
        desk.accept("bob")

    served = desk.users(desk.serve(11))[1:]

    for length in range(1, 11):
        counts = Counter(served[:length])
        assert abs(counts["ann"] - counts["bob"]) <= 2


def test_amended_priority_counts(desk_with: Callable[[int], Desk]) -> None:
    desk = desk_with(1)
    desk.accept("ann")
    first, second = desk.accept("ann"), desk.accept("ann")

    _, changed = desk.orders.amend(second.order_id, Amendment(priority=5))

    assert changed
    assert desk.serve(3)[1:] == [second.order_id, first.order_id]


def test_started_order_cannot_be_amended(desk_with: Callable[[int], Desk]) -> None:
    desk = desk_with(1)
    order = desk.accept("ann")

    _, changed = desk.orders.amend(order.order_id, Amendment(priority=5))

    assert not changed


def test_place_in_the_queue_is_what_goes_before(desk_with: Callable[[int], Desk]) -> None:
    desk = desk_with(1)
    started = desk.accept("ann")
    backlog = [desk.accept("ann") for _ in range(5)]

    assert desk.ahead(started) is None
    assert [desk.ahead(order) for order in backlog] == [0, 1, 2, 3, 4]


def test_newcomers_place_is_before_the_backlog_of_another(
    desk_with: Callable[[int], Desk],
) -> None:
    desk = desk_with(1)
    backlog = [desk.accept("ann") for _ in range(5)]

    newcomer = desk.accept("bob")

    assert desk.ahead(newcomer) == 0
    assert desk.ahead(backlog[-1]) == 4


def test_place_of_a_high_priority_is_the_users_first(desk_with: Callable[[int], Desk]) -> None:
    desk = desk_with(1)
    desk.accept("ann")
    low, high = desk.accept("ann"), desk.accept("ann", priority=1)

    assert (desk.ahead(low), desk.ahead(high)) == (1, 0)


def test_start_lost_between_claim_and_execution_is_made_by_a_later_tick(
    desk_with: Callable[[int], Desk],
) -> None:
    # given: a process that dies after it has claimed
    desk = desk_with(1)
    desk.executions.refuses = True
    order = desk.accept()
    desk.executions.refuses = False
    desk.database.execute(
        "UPDATE orders SET started_at = started_at - interval '6 seconds' WHERE status = 'pending'"
    )

    # when
    starts = desk.turns.start_waiting()

    # then: once, and not again by the tick after
    assert desk.executions.started == [order.order_id]
    assert starts.started == 1
    assert desk.turns.start_waiting().started == 0


def test_slot_whose_handing_on_was_lost_is_filled_by_the_tick(
    desk_with: Callable[[int], Desk],
) -> None:
    # given: orders wait and slots are free, as after a restart of everything
    desk_with(0)
    unserved = desk_with(1)
    for _ in range(4):
        unserved.accept()
    desk = desk_with(3)
    desk.executions = unserved.executions

    # when
    desk.turns.start_waiting()

    # then
    assert len(desk.executions.started) == desk.used_slots() == 3


def test_order_stored_while_the_last_slot_was_freed_is_not_forgotten(
    desk_with: Callable[[int], Desk], own_database: str
) -> None:
    # given: a submission in a transaction that is not committed yet
    desk = desk_with(1)
    first = desk.accept()
    with connect(KnownSecret(own_database)) as slow:
        slow.autocommit = False
        slow.execute("UPDATE orders SET priority = 1 WHERE id = %s", [first.order_id])

        # when: another order comes in meanwhile, and counts the slot as taken
        second = desk.accept()
        assert second.order_id not in desk.executions.started
        slow.rollback()
    desk.submit(first.order_id)

    # then
    assert desk.executions.started == [first.order_id, second.order_id]


@pytest.mark.parametrize(
    ("limits", "code"),
    [
        (IntakeLimits(waiting_per_user=2), ProblemCode.TOO_MANY_ORDERS),
        (IntakeLimits(burst=3, burst_seconds=60), ProblemCode.RATE_LIMITED),
    ],
)
def test_order_beyond_a_limit_is_refused_and_not_stored(
    desk_with: Callable[[int], Desk], limits: IntakeLimits, code: ProblemCode
) -> None:
    desk = desk_with(1)
    for _ in range(3):
        desk.accept(limits=limits)

    with pytest.raises(TooMany) as refused:
        desk.accept(limits=limits)

    assert refused.value.code is code
    row = desk.database.execute(
        "SELECT count(*) AS stored FROM orders WHERE created_at > now() - interval '1 day'"
    ).fetchone()
    assert row == {"stored": 3}


def test_rate_says_when_to_come_again(desk_with: Callable[[int], Desk]) -> None:
    desk, limits = desk_with(1), IntakeLimits(burst=2, burst_seconds=60)
    desk.accept(limits=limits)
    desk.accept(limits=limits)

    with pytest.raises(TooMany) as refused:
        desk.accept(limits=limits)

    assert refused.value.retry_after_seconds is not None
    assert 55 < refused.value.retry_after_seconds <= 60


def test_limit_of_one_user_is_not_that_of_another(desk_with: Callable[[int], Desk]) -> None:
    desk, limits = desk_with(1), IntakeLimits(waiting_per_user=1)
    desk.accept("ann", limits)
    desk.accept("ann", limits)

    assert desk.accept("bob", limits).status is OrderStatus.PENDING


def test_equal_repeat_is_answered_whatever_the_limits(desk_with: Callable[[int], Desk]) -> None:
    desk = desk_with(1)
    first = desk.accept(client_order_id="again")
    strict = IntakeLimits(waiting_per_user=0, burst=1, burst_seconds=3600)

    again = desk.accept(limits=strict, client_order_id="again")

    assert again.order_id == first.order_id


def test_orders_at_rest_have_a_limit_of_their_own(desk_with: Callable[[int], Desk]) -> None:
    desk, limits = desk_with(1), IntakeLimits(open_per_user=1)
    resting: dict[str, Any] = {
        "type": "limit",
        "limit_price": Decimal(1),
        "expires_at": datetime.now(UTC) + timedelta(hours=1),
    }
    desk.accept(limits=limits, **resting)

    with pytest.raises(TooMany):
        desk.accept(limits=limits, **resting)
    assert desk.accept(limits=limits).status is OrderStatus.PENDING


def test_without_slots_every_order_starts_at_once(desk_with: Callable[[None], Desk]) -> None:
    desk = desk_with(None)

    orders = [desk.accept() for _ in range(5)]

    assert desk.executions.started == [order.order_id for order in orders]


def test_streamed_events_are_noted_with_a_later_statement(
    desk_with: Callable[[int], Desk],
) -> None:
    desk = desk_with(1)

    order = desk.accept()

    row = desk.database.execute(
        "SELECT count(*) AS unnoted FROM order_events WHERE order_id = %s AND streamed_at IS NULL",
        [order.order_id],
    ).fetchone()
    assert row == {"unnoted": 0}
    desk.submit(order.order_id)
    assert [event.seq for event in desk.stream.events] == [1, 2, 3, 4]
