"""The stack under test, and every way to hurt it."""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import psutil
import psycopg
from botocore.exceptions import BotoCoreError, ClientError
from psycopg.rows import dict_row
from tests.chaos.evidence import ChainRow, StoredEvent, StoredOrder
from tests.chaos.proxy import FaultProxy, Request, puts_into
from tests.e2e.stacks import PROFILE, RunningStack, expiry_blocks, free_state, noted

from local import aws, emulator, postgres, processes, runtime
from local.emulator import EmulatorOptions
from local.paths import StateDirectory
from local.ports import free_port
from local.stack import Stack

Json = dict[str, Any]

# Small pools: the emulator ends all of a function's workers when one of them dies, and each new one
# costs half a second of processor time.
PARAMETERS: Mapping[str, str] = {
    **PROFILE,
    "MockExpiryBlocks": expiry_blocks(100),
    "SubmitConcurrency": "6",
    "ApiConcurrency": "4",
    "PagesConcurrency": "2",
    "HealthConcurrency": "2",
    "LifecycleConcurrency": "8",
    "VenueConcurrency": "5",
    "PublishConcurrency": "2",
    "WebSocketConcurrency": "4",
    "OrdersPerSecond": "1000",
    "BurstLimit": "1000",
}
UPDATE_SECONDS = 30.0
FUNCTIONS_BEHIND_PROXY = (
    "SubmitFunction",
    "ApiFunction",
    "PagesFunction",
    "HealthFunction",
    "LifecycleFunction",
    "RaydiumFunction",
    "MeteoraFunction",
    "WebSocketFunction",
    "PublishFunction",
    "TriggersFunction",
    "ReconcileFunction",
)


@dataclass
class Rig:
    """A running stack whose functions reach AWS through the proxy."""

    stack: Stack
    state: StateDirectory
    settings: runtime.Settings
    proxy: FaultProxy
    chain: dict[str, Json] = field(default_factory=dict)
    """The ledger as the proxy saw it being written, by signature: the chain's own memory."""

    # Clients

    def client(self, service: str) -> Any:
        """Make a client that does not go through the proxy."""
        return aws.client(service, self.stack.emulator_url)

    @cached_property
    def lambda_client(self) -> Any:
        """The Lambda client."""
        return self.client("lambda")

    @cached_property
    def step_functions(self) -> Any:
        """The Step Functions client."""
        return self.client("stepfunctions")

    @cached_property
    def functions(self) -> dict[str, str]:
        """The functions' names by their logical ids."""
        ids = aws.physical_ids(self.stack.emulator_url, self.stack.stack_name)
        return {logical_id: ids[logical_id] for logical_id in FUNCTIONS_BEHIND_PROXY}

    @property
    def state_machine_arn(self) -> str:
        """The state machine of the orders."""
        return self.stack.outputs["StateMachineArn"]

    @property
    def order_stream_table(self) -> str:
        """The order stream's table."""
        return self.stack.outputs["OrderStreamTableName"]

    @property
    def ledger_table(self) -> str:
        """The mock chain's table."""
        return self.stack.outputs["LedgerTableName"]

    def invoke(self, logical_id: str, payload: Mapping[str, Any]) -> Any:
        """Invoke a function; return its answer, or None when there is none (to be had)."""
        try:
            answer = self.lambda_client.invoke(
                FunctionName=self.functions[logical_id], Payload=json.dumps(payload)
            )
            body = json.loads(answer["Payload"].read() or b"null")
        except (BotoCoreError, ClientError):
            return None
        return None if "FunctionError" in answer else body

    # The way through the proxy

    def install_proxy(self) -> None:
        """Send the functions' calls to AWS, and the posts to connections, through the proxy."""
        for name in self.functions.values():
            configuration = self.lambda_client.get_function_configuration(FunctionName=name)
            variables = dict(configuration["Environment"]["Variables"])
            wanted = {**variables, "AWS_ENDPOINT_URL": self.proxy.url}
            callback = variables.get("WEBSOCKET_CALLBACK_URL")
            if callback:
                wanted["WEBSOCKET_CALLBACK_URL"] = callback.replace(
                    self.stack.emulator_url, self.proxy.url
                ).replace(self.stack.emulator_url.replace("127.0.0.1", "localhost"), self.proxy.url)
            if wanted != variables:
                self.lambda_client.update_function_configuration(
                    FunctionName=name, Environment={"Variables": wanted}
                )
        deadline = time.monotonic() + UPDATE_SECONDS
        for name in self.functions.values():
            while not self._is_active(name):
                if time.monotonic() > deadline:
                    raise TimeoutError(f"{name} did not become active")
                time.sleep(0.1)

    def _is_active(self, function: str) -> bool:
        configuration = self.lambda_client.get_function_configuration(FunctionName=function)
        state = configuration["State"], configuration["LastUpdateStatus"]
        return bool(state == ("Active", "Successful"))

    def remember_chain(self) -> None:
        """Note every transaction that is written to the ledger from now on."""
        is_put = puts_into(self.ledger_table)

        def note(request: Request, status: int) -> None:
            if status == 200 and is_put(request):
                item = request.json()["Item"]
                self.chain.setdefault(item["signature"]["S"], item)

        self.proxy.observers.append(note)

    # Processes

    def workers(self) -> list[psutil.Process]:
        """Find the processes that run functions."""
        return [
            process
            for process in processes.marked_with(self.state.root)
            if _command(process).endswith("_worker.py")
        ]

    def function_of(self, worker: psutil.Process) -> str:
        """Name the function that a worker runs."""
        command = _command(worker)
        return next((key for key in FUNCTIONS_BEHIND_PROXY if f"-{key}-" in command), "other")

    def stop_emulator(self) -> None:
        """End the emulator with SIGTERM: it saves its state."""
        emulator.stop(self.state.root)

    def start_emulator(self) -> None:
        """Start the emulator on what it saved, without a deploy."""
        options = EmulatorOptions(auth=self.settings.auth, concurrency=self.settings.concurrency)
        port = self.settings.emulator_port
        if port is None:
            raise ValueError("the rig's emulator has a port of its own")
        emulator.start(self.state.emulator, root=self.state.root, port=port, options=options)

    def kill_everything(self) -> int:
        """Kill -9 the emulator, every worker and every process of Postgres; return how many."""
        doomed = [
            *processes.marked_with(self.state.root),
            *processes.working_in(postgres.data_of(self.state.postgres), "postgres"),
        ]
        return processes.kill_all(doomed)

    def start_again(self) -> None:
        """Start whatever does not run and deploy, as `make up` does."""
        self.stack = runtime.up(self.state, self.settings)
        for name in ("functions", "lambda_client", "step_functions"):
            self.__dict__.pop(name, None)

    def stop_postgres(self, *, immediately: bool) -> None:
        """Stop Postgres: fast (SIGINT), or without a checkpoint (SIGQUIT)."""
        server = postgres.find_running(self.state.postgres)
        if server is not None and immediately:
            process = processes.find(server.pid)
            if process is not None:
                processes.stop(process, signal.SIGQUIT, patience_seconds=10)
        postgres.stop(self.state.postgres)

    def start_postgres(self) -> None:
        """Start Postgres on the same port."""
        port = self.settings.postgres_port
        postgres.start(self.state.postgres, port=port or 0, durable=False)

    # Evidence

    @contextmanager
    def database(self) -> Iterator[psycopg.Connection[Json]]:
        """Connect to the stack's Postgres."""
        with psycopg.connect(
            self.stack.database_url, autocommit=True, row_factory=dict_row, connect_timeout=5
        ) as connection:
            yield connection

    def open_orders(self, user_prefix: str) -> dict[str, str]:
        """Return the status of each order of a run that is not final."""
        with self.database() as connection:
            rows = connection.execute(
                "SELECT id::text, status FROM orders WHERE starts_with(user_id, %s)"
                " AND EXISTS (SELECT FROM order_transitions WHERE from_status = status)",
                (user_prefix,),
            ).fetchall()
        return {row["id"]: row["status"] for row in rows}

    def event_counts(self, user_prefix: str) -> dict[str, int]:
        """Return how many events each order of a run has."""
        with self.database() as connection:
            rows = connection.execute(
                "SELECT id::text, seq FROM orders WHERE starts_with(user_id, %s)", (user_prefix,)
            ).fetchall()
        return {row["id"]: row["seq"] for row in rows}

    def stored_orders(self, user_prefix: str) -> list[StoredOrder]:
        """Read a run's orders."""
        with self.database() as connection:
            rows = connection.execute(
                "SELECT id::text AS order_id, client_order_id, status, seq, tx_hash, amount_out,"
                " min_amount_out, error AS failure, restarts"
                " FROM orders WHERE starts_with(user_id, %s)",
                (user_prefix,),
            ).fetchall()
        return [StoredOrder(**row) for row in rows]

    def stored_events(self, user_prefix: str) -> list[StoredEvent]:
        """Read the events of a run's orders."""
        with self.database() as connection:
            rows = connection.execute(
                "SELECT order_id::text, order_events.seq, event AS status,"
                " order_events.previous_status, order_events.attempt,"
                " to_char(order_events.created_at AT TIME ZONE 'UTC',"
                '  \'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"\') AS timestamp,'
                " streamed_at IS NOT NULL AS is_streamed"
                " FROM order_events JOIN orders ON orders.id = order_id"
                " WHERE starts_with(user_id, %s)",
                (user_prefix,),
            ).fetchall()
        return [StoredEvent(**row) for row in rows]

    def chain_rows(self, order_ids: Iterable[str]) -> list[ChainRow]:
        """Read what the chain has of these orders."""
        wanted = set(order_ids)
        return [
            ChainRow(item["signature"]["S"], item["orderId"]["S"], item["fate"]["S"])
            for item in self.ledger_items()
            if item.get("orderId", {}).get("S") in wanted
        ]

    def ledger_items(self) -> Iterator[Json]:
        """Read the whole ledger."""
        pages = self.client("dynamodb").get_paginator("scan")
        for page in pages.paginate(TableName=self.ledger_table, ConsistentRead=True):
            yield from page["Items"]


def _command(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline())
    except psutil.Error:
        return ""


@contextmanager
def running_rig(name: str = "chaos", parameters: Mapping[str, str] | None = None) -> Iterator[Rig]:
    """Run a stack of its own, without any orders, for the length of the block."""
    settings = runtime.Settings(
        emulator_port=free_port(),
        postgres_port=free_port(),
        parameters={**PARAMETERS, **(parameters or {})},
        durable=False,
    )
    with free_state(name) as state:
        try:
            stack = runtime.up(state, settings)
            with (
                noted(RunningStack(stack, state)),
                FaultProxy(settings.emulator_port or 0) as proxy,
            ):
                rig = Rig(stack, state, settings, proxy)
                rig.install_proxy()
                rig.remember_chain()
                yield rig
        finally:
            runtime.down(state)
