"""Start waiting orders, each in its turn, as slots become free.

Whoever moves an order out of its slot is handed the next one and starts it. What is lost between
the two (a process that dies) is found by the watch's next tick.
"""

import logging
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import timedelta

from order_engine.domain.transitions import Claimed, MoveResult
from order_engine.errors import ExecutionNotStarted
from order_engine.execution.ports import ExecutionStarter, WaitingOrders

logger = logging.getLogger(__name__)

UNSTARTED_AFTER = timedelta(seconds=5)
"""An order with a slot that has not moved for this long may never have been started."""
STARTS_AT_ONCE = 100
"""As many starts as one tick can make beside its own work."""
PARALLEL_STARTS = 16


@dataclass(slots=True)
class Starts:
    """Count executions that were started, and those that were left to the next tick."""

    started: int = 0
    left: int = 0

    def count(self, outcomes: Iterable[bool]) -> None:
        """Add what ``Turns.start`` told of each."""
        for is_started in outcomes:
            self.started += is_started
            self.left += not is_started

    def add(self, other: "Starts") -> None:
        """Add another count."""
        self.started += other.started
        self.left += other.left


class Turns:
    """Start executions of orders that were given a slot."""

    def __init__(self, orders: WaitingOrders, executions: ExecutionStarter) -> None:
        self._orders = orders
        self._executions = executions

    def hand_on(self, result: MoveResult) -> None:
        """Start the order that was given the slot which a transition freed.

        Where nobody waited yet when the slot was freed, somebody may by now: an order that was
        stored meanwhile has counted the slot as taken, so it is looked for once more.
        """
        if result.next_in_slot is not None:
            self.start(result.next_in_slot)
        elif result.freed_slot:
            self.start_next()

    def start_next(self) -> Claimed | None:
        """Start the order whose turn it is, if a slot is free and one waits; return it."""
        claimed = self._orders.claim_next()
        if claimed is not None:
            self.start(claimed)
        return claimed

    def start_soon(self, order_id: str) -> None:
        """Start a new order if a slot is free; of those that wait before it, two at most."""
        for _ in range(3):
            claimed = self.start_next()
            if claimed is None or claimed.order_id == order_id:
                return

    def start_waiting(self) -> Starts:
        """Start what waits as far as there are slots, and what was claimed but never started."""
        starts = self.start_all(self._orders.claim_unstarted(UNSTARTED_AFTER, STARTS_AT_ONCE))
        while starts.started + starts.left < STARTS_AT_ONCE:
            claimed = self._orders.claim_next()
            if claimed is None:
                break
            starts.count([self.start(claimed)])
        return starts

    def start_all(self, claimed: Sequence[Claimed]) -> Starts:
        """Start the executions of many orders."""
        starts = Starts()
        # The first start makes the client, which is not safe to make in several threads at once.
        starts.count(self.start(first) for first in claimed[:1])
        with ThreadPoolExecutor(PARALLEL_STARTS) as pool:
            starts.count(pool.map(self.start, claimed[1:]))
        return starts

    def start(self, claimed: Claimed) -> bool:
        """Start an order's execution; tell whether it was. One that was not is found later."""
        try:
            self._executions.start(claimed.order_id, claimed.execution)
        except ExecutionNotStarted:
            logger.warning("start left to the next tick", extra={"order_id": claimed.order_id})
            return False
        return True
