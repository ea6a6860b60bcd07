"""Measure cold starts: each function's import, and its first invocation on a fresh worker."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import psutil
from pydantic import BaseModel, ConfigDict
from pydantic.alias_generators import to_camel
from rich.console import Console
from rich.table import Table

from benchmarks.footprint import processes_of
from local import aws
from local.deploy import load_template
from local.paths import DEFAULT_TEMPLATE, REPOSITORY
from local.stack import Stack

RUNS = 7
DATABASE_FUNCTIONS = frozenset(
    {"submit", "api", "health", "lifecycle", "triggers", "reconcile", "migrate"}
)
DATABASE_FUNCTION_MS = 400
OTHER_FUNCTION_MS = 250
WORKER_END_SECONDS = 5


def _request(method: str, path: str) -> dict[str, Any]:
    """Return an HTTP request without a body, as the gateway hands it to a function."""
    return {
        "version": "2.0",
        "routeKey": f"{method} {path}",
        "rawPath": path,
        "rawQueryString": "",
        "headers": {},
        "requestContext": {
            "http": {"method": method, "path": path, "sourceIp": "127.0.0.1"},
            "requestId": "cold-start",
            "routeKey": f"{method} {path}",
            "stage": "$default",
        },
        "isBase64Encoded": False,
    }


# Events that a function answers without changing anything, by its logical id.
HARMLESS_EVENTS: Mapping[str, dict[str, Any]] = {
    "PagesFunction": _request("GET", "/docs"),
    "HealthFunction": _request("GET", "/api/health"),
    "ApiFunction": _request("GET", "/api/orders"),
    "SubmitFunction": _request("POST", "/api/orders"),
    "LifecycleFunction": {
        "action": "route",
        "orderId": "00000000-0000-4000-8000-000000000000",
        "afterAttempt": None,
        "failure": None,
        "execution": "cold-start",
    },
    "RaydiumFunction": {
        "action": "quote",
        "orderId": "00000000-0000-4000-8000-000000000000",
        "clientOrderId": None,
        "attempt": 1,
        "tokenIn": "SOL",
        "tokenOut": "USDC",
        "amountIn": "1.5",
    },
    "WebSocketFunction": {
        "requestContext": {
            "routeKey": "ping",
            "eventType": "MESSAGE",
            "connectionId": "cold-start",
            "requestId": "cold-start",
        },
        "body": '{"action": "ping"}',
        "isBase64Encoded": False,
    },
    "PublishFunction": {"Records": []},
    "ReconcileFunction": {},
}


class ImportTime(BaseModel):
    """What importing a function's handler takes beyond starting the interpreter (medians)."""

    model_config = ConfigDict(frozen=True, alias_generator=to_camel, populate_by_name=True)

    function: str
    import_ms: float
    limit_ms: int

    @property
    def is_within_limit(self) -> bool:
        """Tell whether the function keeps to its limit."""
        return self.import_ms <= self.limit_ms


class InvocationTime(BaseModel):
    """The first invocation on a fresh worker and the second one (medians)."""

    model_config = ConfigDict(frozen=True, alias_generator=to_camel, populate_by_name=True)

    function: str
    first_ms: float
    next_ms: float


def measure_imports(runs: int = RUNS) -> list[ImportTime]:
    """Time the import of every handler's module in processes of their own.

    Each is imported once beforehand, so the byte code is compiled and the files are in memory.
    """
    interpreter_ms = _median_ms("pass", {}, runs)
    measured = []
    for name, folder, module in handlers():
        environment = {"PYTHONPATH": f"{REPOSITORY / folder}{os.pathsep}{_layer()}"}
        total_ms = _median_ms(f"import {module}", environment, runs)
        limit_ms = DATABASE_FUNCTION_MS if name in DATABASE_FUNCTIONS else OTHER_FUNCTION_MS
        measured.append(
            ImportTime(
                function=name, import_ms=round(total_ms - interpreter_ms, 1), limit_ms=limit_ms
            )
        )
    return measured


def handlers() -> list[tuple[str, str, str]]:
    """Return name, folder and module of each handler in the template.

    A handler is called `app` and named after its folder, unless the folder has several.
    """
    template = load_template(DEFAULT_TEMPLATE)
    usual: str = template["Globals"]["Function"]["Handler"]
    found = set()
    for resource in template["Resources"].values():
        if resource["Type"] == "AWS::Serverless::Function":
            folder = Path(resource["Properties"]["CodeUri"])
            module = resource["Properties"].get("Handler", usual).removesuffix(".handler")
            found.add((folder.name if module == "app" else module, str(folder), module))
    return sorted(found)


def measure_invocations(stack: Stack, runs: int = RUNS) -> list[InvocationTime]:
    """Time invocations of the functions on a stack that this program started.

    Ends the stack's workers before each run: they are the emulator's children.
    """
    emulator_pid = processes_of(stack).emulator
    functions = aws.client("lambda", stack.emulator_url)
    names = aws.physical_ids(stack.emulator_url, stack.stack_name)
    measured = []
    for logical_id, event in HARMLESS_EVENTS.items():
        if logical_id not in names:
            continue
        first, following = [], []
        for _ in range(runs):
            _end_workers(emulator_pid)
            first.append(_invoke_ms(functions, names[logical_id], event))
            following.append(_invoke_ms(functions, names[logical_id], event))
        measured.append(
            InvocationTime(
                function=logical_id,
                first_ms=round(statistics.median(first), 1),
                next_ms=round(statistics.median(following), 1),
            )
        )
    return measured


def print_imports(measured: list[ImportTime]) -> None:
    """Print the imports as a table."""
    table = Table(title="Cold import of each function's module", title_justify="left")
    for heading in ("function", "import ms", "limit ms"):
        table.add_column(heading, justify="left" if heading == "function" else "right")
    for entry in measured:
        style = None if entry.is_within_limit else "red"
        table.add_row(entry.function, f"{entry.import_ms:.0f}", str(entry.limit_ms), style=style)
    Console(highlight=False).print(table)


def print_invocations(measured: list[InvocationTime]) -> None:
    """Print the invocations as a table."""
    table = Table(title="Invocations on a fresh worker", title_justify="left")
    for heading in ("function", "first ms", "next ms"):
        table.add_column(heading, justify="left" if heading == "function" else "right")
    for entry in measured:
        table.add_row(entry.function, f"{entry.first_ms:.0f}", f"{entry.next_ms:.0f}")
    Console(highlight=False).print(table)


def _layer() -> Path:
    return REPOSITORY / "layers" / "order_engine"


def _median_ms(code: str, environment: Mapping[str, str], runs: int) -> float:
    command = [sys.executable, "-c", code]
    # What a Lambda environment always has, and what the modules may read while they are imported.
    complete = {
        "PATH": os.environ.get("PATH", ""),
        "AWS_DEFAULT_REGION": "us-east-1",
        "POWERTOOLS_SERVICE_NAME": "cold-start",
        "POWERTOOLS_METRICS_NAMESPACE": "OrderEngine",
        **environment,
    }
    durations = []
    for run in range(runs + 1):
        began = time.perf_counter()
        subprocess.run(command, env=complete, cwd=REPOSITORY, check=True)
        if run:
            durations.append(time.perf_counter() - began)
    return statistics.median(durations) * 1000


def _invoke_ms(functions: Any, name: str, event: Mapping[str, Any]) -> float:
    began = time.perf_counter()
    answer = functions.invoke(FunctionName=name, Payload=json.dumps(event).encode())
    duration_ms = (time.perf_counter() - began) * 1000
    if "FunctionError" in answer:
        raise RuntimeError(f"{name} answered {answer['Payload'].read().decode()[:500]}")
    return duration_ms


def _end_workers(emulator_pid: int) -> None:
    workers = psutil.Process(emulator_pid).children(recursive=True)
    for worker in workers:
        worker.kill()
    psutil.wait_procs(workers, timeout=WORKER_END_SECONDS)
