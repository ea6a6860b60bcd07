"""Any interleaving of intake, claims, crashes, submissions and cancels over a few slots.

Slots never leak and are never exceeded, every order starts once, users who wait share fairly.
"""

from __future__ import annotations

import itertools
import os
import uuid
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from tests.support.engine_parts import moves_of
from tests.support.postgres import Orders
from tests.support.queue_desk import Database, Desk, Executions

from order_engine.domain.changes import Amendment, Canceled
from order_engine.domain.orders import Order
from order_engine.domain.transitions import Guard, Transition

RUNS = int(os.environ.get("MODEL_RUNS", "40"))
SLOTS = 2
USERS = ("ann", "bob", "cyd")
FEW = 3
"""By how much the served counts of two users who both wait may differ."""


class Starts(Executions):
    """Start each execution once, as Step Functions does for a name."""

    def start(self, order_id: str, execution: str) -> None:
        if order_id not in self.started:
            super().start(order_id, execution)


class TurnsMachine(RuleBasedStateMachine):
    """Let hypothesis choose who acts next."""

    database: Database
    url: str

    def __init__(self) -> None:
        super().__init__()
        self.run = uuid.uuid4().hex
        self.workers = [Orders.at(self.url, SLOTS) for _ in range(2)]
        self.executions = Starts()
        self.desks = [Desk(orders, self.database, self.executions) for orders in self.workers]
        self.desk = self.desks[0]
        self.placed: list[str] = []
        self.submitted: set[str] = set()
        self.canceled: set[str] = set()
        self.seen = 0
        self.lead = dict.fromkeys(itertools.combinations(USERS, 2), 0)

    def name(self, user: str) -> str:
        return f"{user}-{self.run}"

    def order(self, order_id: str) -> Order:
        order = self.desk.orders.get(order_id)
        assert order is not None
        return order

    def waiting(self) -> list[str]:
        return [order_id for order_id in self.placed if self.order(order_id).waits_for_turn]

    def in_slots(self) -> list[str]:
        gone = self.submitted | self.canceled
        return [order_id for order_id in self.executions.started if order_id not in gone]

    @rule(user=st.sampled_from(USERS), priority=st.sampled_from([0, 0, 0, 1, 10]))
    def order_arrives(self, user: str, priority: int) -> None:
        self.placed.append(self.desk.accept(self.name(user), priority=priority).order_id)

    @precondition(lambda self: self.in_slots())
    @rule(data=st.data())
    def one_is_submitted(self, data: st.DataObject) -> None:
        order_id = data.draw(st.sampled_from(sorted(self.in_slots())))
        self.submitted.add(order_id)
        self.desk.submit(order_id)

    @precondition(lambda self: len(self.in_slots()) > 1)
    @rule()
    def two_are_submitted_at_once(self) -> None:
        both = self.in_slots()[:2]
        self.submitted |= set(both)
        with ThreadPoolExecutor(2) as pool:
            list(pool.map(lambda desk, order_id: desk.submit(order_id), self.desks, both))

    @precondition(lambda self: self.waiting() or self.in_slots())
    @rule(data=st.data())
    def owner_cancels(self, data: st.DataObject) -> None:
        order_id = data.draw(st.sampled_from(sorted({*self.waiting(), *self.in_slots()})))
        self.canceled.add(order_id)
        moves = moves_of(self.desk.orders, self.desk.stream, self.executions)
        assert moves.move(Transition(order_id, Canceled(reason="test"), Guard.ANYONE)).result.moved

    @precondition(lambda self: self.waiting())
    @rule(data=st.data(), priority=st.integers(0, 10))
    def owner_amends(self, data: st.DataObject, priority: int) -> None:
        order_id = data.draw(st.sampled_from(sorted(self.waiting())))
        self.desk.orders.amend(order_id, Amendment(priority=priority))

    @rule()
    def next_claim_is_lost(self) -> None:
        """Let a process die between the claim and the start."""
        self.desk.orders.claim_next()

    @rule()
    def watch_ticks(self) -> None:
        self._time_passes()
        self.desk.turns.start_waiting()

    def _time_passes(self) -> None:
        self.database.execute(
            "UPDATE orders SET started_at = started_at - interval '10 seconds'"
            " WHERE status = 'pending' AND started_at IS NOT NULL"
        )

    @invariant()
    def slots_are_not_exceeded(self) -> None:
        assert self.desk.used_slots() <= SLOTS

    @invariant()
    def users_who_wait_share_fairly(self) -> None:
        started, self.seen = self.executions.started[self.seen :], len(self.executions.started)
        users = [self.order(order_id).user_id.split("-")[0] for order_id in started]
        still = {self.order(order_id).user_id.split("-")[0] for order_id in self.waiting()}
        for pair in self.lead:
            if not set(pair) <= still:
                self.lead[pair] = 0
                continue
            self.lead[pair] += users.count(pair[0]) - users.count(pair[1])
            assert abs(self.lead[pair]) <= FEW, f"{pair}: {self.lead[pair]}"

    def teardown(self) -> None:
        """Let faults end: ticks and work bring every order to its submission."""
        for _ in range(len(self.placed) + 5):
            self._time_passes()
            self.desk.turns.start_waiting()
            for order_id in self.in_slots():
                self.submitted.add(order_id)
                self.desk.submit(order_id)
        assert self.submitted | self.canceled == set(self.placed)
        assert self.desk.used_slots() == 0
        for orders in self.workers:
            orders.close()


@pytest.fixture
def machine(own_database: str, database: Database) -> type[TurnsMachine]:
    TurnsMachine.url, TurnsMachine.database = own_database, database
    return TurnsMachine


@pytest.mark.timeout(600)
def test_any_interleaving_keeps_the_slots_and_the_turns(machine: Any) -> None:
    case = machine.TestCase
    case.settings = settings(
        max_examples=RUNS,
        stateful_step_count=40,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )
    case().runTest()
