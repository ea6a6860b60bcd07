"""The engine as tests see it: its HTTP and WebSocket clients, and what stands behind them."""

from __future__ import annotations

import json
import socket
import struct
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import httpx
import psycopg
from psycopg.rows import dict_row
from tests.support.deadlines import patience
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from local import aws
from local.stack import Stack
from order_engine.domain.statuses import FINAL_STATUSES

Json = dict[str, Any]

FINAL_SECONDS = 60.0
MESSAGE_SECONDS = 15.0
HAPPY_LIFE = ["pending", "routing", "building", "submitted", "confirmed"]


def wait_until[T](probe: Callable[[], T], *, seconds: float, what: str) -> T:
    """Return the probe's first truthy value. Raises AssertionError at the deadline.

    `seconds` is for an idle machine; a slower one is given more.
    """
    patient_seconds = patience(seconds)
    deadline = time.monotonic() + patient_seconds
    while not (value := probe()):
        assert time.monotonic() < deadline, f"after {patient_seconds:.0f} s still not: {what}"
        time.sleep(0.05)
    return value


def new_user() -> str:
    """Name a user whom no other test knows."""
    return f"user-{uuid.uuid4().hex[:12]}"


def market_order(**fields: Any) -> Json:
    """Return the body of an ordinary market order; `fields` replace and add."""
    body = {
        "userId": new_user(),
        "tokenIn": "SOL",
        "tokenOut": "USDC",
        "amountIn": "1.5",
        "slippageTolerance": "0.05",
    }
    return {key: value for key, value in {**body, **fields}.items() if value is not None}


def statuses(events: Sequence[Json]) -> list[str]:
    """Return the events' statuses in the order of their arrival."""
    return [event["status"] for event in events]


class Engine:
    """A running stack."""

    def __init__(self, stack: Stack) -> None:
        self.stack = stack
        self.http = httpx.Client(
            base_url=stack.http_url.rstrip("/") + "/", timeout=patience(60), trust_env=False
        )
        self._dynamodb = aws.client("dynamodb", stack.emulator_url)
        self._step_functions = aws.client("stepfunctions", stack.emulator_url)

    def close(self) -> None:
        """Close the HTTP connections."""
        self.http.close()

    # Through the front door

    def place(self, body: Json | None = None, **fields: Any) -> Json:
        """Submit a market order (or `body`) and return the reply of its acceptance."""
        response = self.http.post("api/orders/execute", json=body or market_order(**fields))
        assert response.status_code == 202, response.text
        reply: Json = response.json()
        return reply

    def order(self, order_id: str) -> Json:
        """Fetch an order with its events."""
        response = self.http.get(f"api/orders/{order_id}")
        assert response.status_code == 200, response.text
        order: Json = response.json()
        return order

    def final_order(self, order_id: str, seconds: float = FINAL_SECONDS) -> Json:
        """Fetch an order as soon as it is final."""
        wait_until(
            lambda: self.order_row(order_id)["status"] in FINAL_STATUSES,
            seconds=seconds,
            what=f"order {order_id} final",
        )
        return self.order(order_id)

    @contextmanager
    def listening(self, url: str | None = None, **query: str) -> Iterator[Listener]:
        """Hold a WebSocket connection open for the length of the block."""
        listener = self.listen(url, **query)
        try:
            yield listener
        finally:
            listener.close()

    def listen(self, url: str | None = None, **query: str) -> Listener:
        """Open a WebSocket connection; the caller closes (or breaks) it."""
        address = httpx.URL(url or self.stack.web_socket_url)
        return Listener(str(address.copy_merge_params(query)))

    # Behind it

    @contextmanager
    def database(self) -> Iterator[psycopg.Connection[Json]]:
        """Connect to the stack's Postgres."""
        with psycopg.connect(
            self.stack.database_url, autocommit=True, row_factory=dict_row
        ) as connection:
            yield connection

    def order_row(self, order_id: str) -> Json:
        """Return the order's row."""
        return self._rows("SELECT * FROM orders WHERE id = %s", order_id)[0]

    def event_rows(self, order_id: str) -> list[Json]:
        """Return the order's event rows in their order."""
        return self._rows("SELECT * FROM order_events WHERE order_id = %s ORDER BY seq", order_id)

    def orders_of(self, user_id: str) -> list[Json]:
        """Return the rows of a user's orders."""
        return self._rows("SELECT * FROM orders WHERE user_id = %s", user_id)

    def count_orders(self) -> int:
        """Count all stored orders."""
        count: int = self._rows("SELECT count(*) AS orders FROM orders")[0]["orders"]
        return count

    def ledger(self, order_id: str) -> list[Json]:
        """Return what the mock chain knows of an order's transactions."""
        pages = self._dynamodb.get_paginator("scan").paginate(
            TableName=self.stack.outputs["LedgerTableName"],
            ConsistentRead=True,
            FilterExpression="orderId = :order",
            ExpressionAttributeValues={":order": {"S": order_id}},
        )
        return [
            {name: next(iter(value.values())) for name, value in item.items()}
            for page in pages
            for item in page["Items"]
        ]

    def landed(self, order_id: str) -> list[Json]:
        """Return the order's transactions that landed and swapped."""
        return [row for row in self.ledger(order_id) if row["fate"] == "landed"]

    def executions(self, order_id: str) -> list[Json]:
        """Return the Step Functions executions whose name begins with the order's id."""
        pages = self._step_functions.get_paginator("list_executions").paginate(
            stateMachineArn=self.stack.outputs["StateMachineArn"]
        )
        return [
            execution
            for page in pages
            for execution in page["executions"]
            if execution["name"].startswith(order_id)
        ]

    def subscriptions(self, partition: str) -> list[Json]:
        """Return the connection rows of a partition of the order stream, as `user#...`."""
        answer = self._dynamodb.query(
            TableName=self.stack.outputs["OrderStreamTableName"],
            KeyConditionExpression="pk = :partition AND begins_with(sk, :prefix)",
            ExpressionAttributeValues={
                ":partition": {"S": partition},
                ":prefix": {"S": "conn#"},
            },
            ConsistentRead=True,
        )
        items: list[Json] = answer["Items"]
        return items

    def _rows(self, query: str, *parameters: object) -> list[Json]:
        with self.database() as connection:
            return connection.execute(query.encode(), parameters).fetchall()


class Listener:
    """A WebSocket connection and every message that has come in on it."""

    def __init__(self, url: str) -> None:
        self._closing = ExitStack()
        self._connection = self._closing.enter_context(
            connect(url, open_timeout=patience(20), close_timeout=2, proxy=None)
        )
        self._messages: list[Json] = []
        self._changed = threading.Condition()
        self._is_open = True
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    @property
    def messages(self) -> list[Json]:
        """Everything that has come in so far."""
        with self._changed:
            return list(self._messages)

    def send(self, message: Json | str | bytes) -> None:
        """Send an object as JSON, or a frame as it is."""
        self._connection.send(json.dumps(message) if isinstance(message, dict) else message)

    def request(self, message: Json | str | bytes, answer_type: str) -> Json:
        """Send a message and return the next answer of the type."""
        seen = len(self.messages)
        self.send(message)
        return self.next_message(answer_type, after=seen)

    def next_message(
        self, message_type: str, *, after: int = 0, seconds: float = MESSAGE_SECONDS
    ) -> Json:
        """Return the first message of the type behind the first `after` messages."""

        def find() -> Json | None:
            return next((m for m in self._messages[after:] if m.get("type") == message_type), None)

        return self._wait(find, seconds, f"a message of type {message_type}")

    def events(self, order_id: str) -> list[Json]:
        """Return the order's events so far."""
        return [m for m in self.messages if m.get("orderId") == order_id and "seq" in m]

    def events_until_final(self, order_id: str, seconds: float = FINAL_SECONDS) -> list[Json]:
        """Return the order's events up to and with its final one.

        As the protocol has clients do, what is not above the highest `seq` so far is dropped.
        """

        def is_final() -> bool:
            return any(m.get("orderId") == order_id and m.get("final") for m in self._messages)

        self._wait(is_final, seconds, f"the final event of {order_id}")
        news: list[Json] = []
        for event in self.events(order_id):
            if not news or event["seq"] > news[-1]["seq"]:
                news.append(event)
        return news

    def close(self) -> None:
        """Close the connection as a well-behaved client does."""
        self._closing.close()
        self._thread.join(timeout=5)

    def vanish(self) -> None:
        """Break the TCP connection without closing it (a reset, and no close frame)."""
        endpoint = self._connection.socket
        endpoint.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        endpoint.close()

    def _read(self) -> None:
        try:
            for frame in self._connection:
                with self._changed:
                    self._messages.append(json.loads(frame))
                    self._changed.notify_all()
        except (ConnectionClosed, OSError):
            pass
        with self._changed:
            self._is_open = False
            self._changed.notify_all()

    def _wait[T](self, probe: Callable[[], T | None], seconds: float, what: str) -> T:
        patient_seconds = patience(seconds)
        deadline = time.monotonic() + patient_seconds
        with self._changed:
            while not (value := probe()):
                assert self._is_open, f"the connection closed before {what}: {self._messages}"
                left = deadline - time.monotonic()
                assert left > 0, f"no {what} within {patient_seconds:.0f} s: {self._messages}"
                self._changed.wait(left)
        return value
