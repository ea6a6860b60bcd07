"""Orders that wait for their turn, who moves them, and what was started."""

from __future__ import annotations

import uuid
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import psycopg
from tests.support.engine_parts import Streamed, moves_of
from tests.support.postgres import Orders

from order_engine.clock import SystemClock
from order_engine.domain.changes import Decided, Routed, Submitted
from order_engine.domain.orders import Order, OrderTerms, SniperTrigger, SwapTransaction
from order_engine.domain.transitions import Guard, IntakeLimits, Transition
from order_engine.errors import ExecutionNotStarted
from order_engine.execution.acceptance import Acceptance
from order_engine.execution.turns import Turns

Database = psycopg.Connection[dict[str, Any]]


@dataclass
class Executions:
    """Remember what was started; refuse or lose starts when told to."""

    started: list[str] = field(default_factory=list)
    refuses: bool = False

    def start(self, order_id: str, execution: str) -> None:
        if self.refuses:
            raise ExecutionNotStarted("refused")
        self.started.append(order_id)


@dataclass
class Desk:
    """Orders in a database of their own, and who moves them."""

    orders: Orders
    database: Database
    executions: Executions = field(default_factory=Executions)
    stream: Streamed = field(default_factory=Streamed)

    @property
    def turns(self) -> Turns:
        return Turns(self.orders, self.executions)

    def accept(
        self, user: str = "ann", limits: IntakeLimits = IntakeLimits(), **changes: Any
    ) -> Order:
        terms = OrderTerms(
            **{
                "user_id": user,
                "token_in": "SOL",
                "token_out": "USDC",
                "amount_in": Decimal(1),
                "slippage_bps": 50,
                **changes,
            }
        )
        acceptance = Acceptance(
            self.orders,
            self.stream,
            self.turns,
            {},
            SystemClock(),
            lambda: str(uuid.uuid4()),
            limits,
        )
        return acceptance.accept(terms, terms.model_dump_json(), None).order

    def waiting_sniper(self, user: str = "ann") -> Order:
        order = self.accept(
            user,
            type="sniper",
            token_out="MOON",
            trigger=SniperTrigger(),
            expires_at=datetime.now(UTC) + timedelta(hours=1),
        )
        self.database.execute(
            "UPDATE orders SET previous_status = status, status = 'triggered', seq = seq + 1"
            " WHERE id = %s",
            [order.order_id],
        )
        return order

    def submit(self, order_id: str) -> None:
        """Carry an order from its slot to a written-down transaction."""
        moves = moves_of(self.orders, self.stream, self.executions)
        execution = self.orders.get(order_id)
        assert execution is not None
        name = execution.execution
        moves.move(Transition(order_id, Routed(), Guard.CLAIM, name))
        decided = Decided(
            quotes=(), chosen_dex="raydium", quoted_price=Decimal(1), min_amount_out=Decimal(1)
        )
        moves.move(Transition(order_id, decided, Guard.ATTEMPT, name, 1))
        transaction = SwapTransaction(
            signature=str(uuid.uuid4()), payload="eA==", last_valid_block_height=1, venue="raydium"
        )
        moves.move(Transition(order_id, Submitted(transaction=transaction), Guard.ATTEMPT, name, 1))

    def serve(self, number: int) -> list[str]:
        """Submit what is started, in that order; return the order ids."""
        served: list[str] = []
        while len(served) < number and len(self.executions.started) > len(served):
            order_id = self.executions.started[len(served)]
            served.append(order_id)
            self.submit(order_id)
        return served

    def users(self, order_ids: list[str]) -> list[str]:
        found = [self.orders.get(order_id) for order_id in order_ids]
        return [order.user_id for order in found if order]

    def used_slots(self) -> int:
        row = self.database.execute("SELECT count(*) AS used FROM orders_with_slot").fetchone()
        assert row is not None
        return int(row["used"])

    def ahead(self, order: Order) -> int | None:
        life = self.orders.with_events(order.order_id)
        assert life is not None
        return life.orders_ahead
