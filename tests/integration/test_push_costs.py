"""What an event costs in DynamoDB, whatever the number of its user's orders."""

import json
from collections.abc import Callable, Iterator
from datetime import timedelta
from functools import partial
from itertools import batched
from typing import Any
from uuid import uuid4

import pytest
from tests.support.counting import Counting
from tests.support.order_stream_fakes import FakeClock, FakeGateway, Inline
from tests.support.stream_table import NOW, TABLE, StreamReader, event, stream_table

from order_engine.adapters.dynamodb.order_stream import OrderStream
from order_engine.streaming.publisher import Publisher
from order_engine.streaming.rows import Connection, Topic

HISTORIES = (10, 200)


class Costs:
    """A user with some orders, a publisher, and what both ask of DynamoDB."""

    def __init__(self, client: Any, orders: int) -> None:
        self.counting = Counting(client)
        self.stream = OrderStream(TABLE, lambda: self.counting)
        self.gateway = FakeGateway()
        self.reader = StreamReader()
        self.publisher = Publisher(self.stream, self.gateway, FakeClock(), executor=Inline)
        self._multiply_an_order(client, orders)
        self.reader.take()
        self.counting.clear()

    def _multiply_an_order(self, client: Any, orders: int) -> None:
        """Write an order, and its rows again under other ids: moto's transactions take long."""
        first = str(uuid4())
        self.stream.append([event(first, 1, moment=NOW - timedelta(days=1))])
        rows = json.dumps(client.scan(TableName=TABLE)["Items"])
        others = [json.loads(rows.replace(first, str(uuid4()))) for _ in range(orders - 1)]
        for chunk in batched((row for other in others for row in other), 25):
            requests = [{"PutRequest": {"Item": row}} for row in chunk]
            client.batch_write_item(RequestItems={TABLE: requests})

    def listen(self, connection_id: str, **topic: str) -> None:
        """Subscribe, and be greeted."""
        self.stream.register_connection(
            Connection(connection_id, "ann"), Topic(**topic), 0, FakeClock().now()
        )
        self.publish()

    def publish(self) -> None:
        """Have publish take what the table's stream passes on to it."""
        records = [
            record
            for record in self.reader.take()
            if record["eventName"] == "INSERT"
            and record["dynamodb"]["Keys"]["sk"]["S"].startswith(("event#", "conn#"))
        ]
        assert self.publisher.publish(records).failed == set()

    def of(self, work: Callable[[], None]) -> tuple[int, int, int]:
        """Return a work's reads and writes, and the rows that the reads evaluate."""
        self.counting.clear()
        work()
        return self.counting.reads, self.counting.writes, self.counting.evaluated


@pytest.fixture(params=HISTORIES)
def costs(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Costs]:
    with stream_table(monkeypatch) as client:
        yield Costs(client, request.param)


def test_an_event_is_one_write(costs: Costs) -> None:
    order_id = str(uuid4())

    for seq in (1, 2, 3, 4, 5):
        assert costs.of(partial(costs.stream.append, [event(order_id, seq)])) == (0, 1, 0)


def test_events_nobody_listens_to_are_one_read_together(costs: Costs) -> None:
    for _ in range(10):
        costs.stream.append([event(str(uuid4()), 1)])

    assert costs.of(costs.publish) == (1, 0, 0)


def test_listener_to_an_order_costs_two_reads_and_one_write(costs: Costs) -> None:
    order_id = str(uuid4())
    costs.listen("c1", order_id=order_id)

    spent = []
    for seq in (1, 2, 3):
        costs.stream.append([event(order_id, seq)])
        spent.append(costs.of(costs.publish))

    assert costs.gateway.seqs("c1", order_id) == [1, 2, 3]
    assert [cost[:2] for cost in spent] == [(2, 1)] * 3
    assert max(evaluated for _, _, evaluated in spent) < 10


def test_listener_to_a_user_costs_two_reads_and_one_write(costs: Costs) -> None:
    costs.listen("c1", user_id="ann")
    order_ids = [str(uuid4()) for _ in range(5)]

    spent = []
    for seq in (1, 2, 3):
        for order_id in order_ids:
            costs.stream.append([event(order_id, seq)])
        spent.append(costs.of(costs.publish))

    assert [costs.gateway.seqs("c1", key) for key in order_ids] == [[1, 2, 3]] * 5
    assert [cost[:2] for cost in spent] == [(2, 1)] * 3
    assert max(evaluated for _, _, evaluated in spent) < 20


def test_new_listener_to_a_user_reads_no_more_orders_than_are_replayed(costs: Costs) -> None:
    costs.stream.register_connection(
        Connection("c1", "ann"), Topic(user_id="ann"), 0, FakeClock().now()
    )
    costs.counting.clear()
    costs.publish()

    assert costs.counting.rows <= 2 * 50 + 1
