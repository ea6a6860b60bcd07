"""The AWS emulator (MiniStack) as a process of its own that outlives the command."""

from __future__ import annotations

import json
import os
import resource
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import httpx
import psutil

from local import ports, processes
from local.errors import StartFailedError, log_tail
from local.paths import StateDirectory

REGION = "us-east-1"
LOG_NAME = "emulator.log"
START_SECONDS = 120.0
# On SIGTERM the emulator writes its whole state; thousands of orders take a while.
STOP_SECONDS = 180.0
# MiniStack is an ASGI application. Its own command serves it with hypercorn, in pure Python, which
# takes a third of the processor time of a request more and, on SIGTERM, waits for every client.
_COMMAND = (sys.executable, "-m", "uvicorn", "ministack.app:app")
_SERVER_OPTIONS = (
    *("--loop", "uvloop", "--http", "httptools", "--ws", "websockets-sansio"),
    *("--log-level", "info", "--no-access-log"),
    # The application sets these headers itself, as AWS does.
    *("--no-server-header", "--no-date-header"),
    *("--timeout-keep-alive", "75", "--timeout-graceful-shutdown", "3", "--backlog", "4096"),
)
# Idle workers beyond a function's first are ended after this time: a burst leaves many behind.
WARM_WORKER_SECONDS = 60
# What a caller's shell may hold for other Pythons, other emulators or a real account.
_DROPPED_VARIABLES = (
    *("PYTHONDONTWRITEBYTECODE", "PYTHONPATH", "PYTHONHOME", "PYTHONSTARTUP"),
    *("SERVICES", "USE_SSL", "EDGE_PORT", "HOSTNAME"),
)
_DROPPED_PREFIXES = ("AWS_", "LAMBDA_", "LOCALSTACK_", "MINISTACK_")


@dataclass(frozen=True)
class EmulatorOptions:
    """What an emulator is started with; other options need another start.

    `auth` enforces IAM, `concurrency` is the account's limit of Lambdas at work at once.
    """

    auth: bool = False
    concurrency: int = 60


@dataclass(frozen=True)
class Emulator:
    """A running emulator and what it was started with."""

    pid: int
    port: int
    options: EmulatorOptions

    @property
    def url(self) -> str:
        """The endpoint of every emulated AWS service."""
        return f"http://{ports.HOST}:{self.port}"


def client_environment(url: str) -> dict[str, str]:
    """Return the environment for a program that shall talk to the emulator and nobody else.

    The caller's own AWS settings (profiles, sessions, endpoints) are left out, so that no command
    here can reach a real account.
    """
    environment = _clean_environment()
    environment.update(
        AWS_ENDPOINT_URL=url,
        AWS_ACCESS_KEY_ID="test",
        AWS_SECRET_ACCESS_KEY="test",  # noqa: S106 - the emulator's fixed key
        AWS_DEFAULT_REGION=REGION,
        AWS_REGION=REGION,
        AWS_DISABLE_HOST_PREFIX_INJECTION="true",
        AWS_EC2_METADATA_DISABLED="true",
    )
    return environment


def start(directory: Path, *, root: Path, port: int, options: EmulatorOptions) -> Emulator:
    """Start the emulator on the state saved in `directory`, marked as one of `root`'s.

    The functions' workers run on this very Python, with its packages. Raises StartFailedError.
    """
    # Earlier runs' workers leave their unpacked code there.
    shutil.rmtree(directory / "tmp", ignore_errors=True)
    for name in ("state", "s3", "tmp"):
        (directory / name).mkdir(parents=True, exist_ok=True)
    rewind_streams(directory / "state" / "lambda.json")
    log = directory / LOG_NAME
    environment = _clean_environment()
    environment.update(
        {
            processes.STATE_DIRECTORY_VARIABLE: str(root),
            "BIND_HOST": ports.HOST,
            "GATEWAY_PORT": str(port),
            "IOT_MTLS_ENABLED": "0",
            "SFTP_ENABLED": "0",
            "LOG_LEVEL": "WARNING",
            "PERSIST_STATE": "1",
            "S3_PERSIST": "1",
            "STATE_DIR": str(directory / "state"),
            "S3_DATA_DIR": str(directory / "s3"),
            "TMPDIR": str(directory / "tmp"),
            "MINISTACK_REGION": REGION,
            "AWS_DEFAULT_REGION": REGION,
            # The stack needs no containers, and another emulator's are none of its business.
            "DOCKER_HOST": "unix:///nowhere",
            "AUTH": "true" if options.auth else "false",
            "LAMBDA_ACCOUNT_CONCURRENCY": str(options.concurrency),
            "LAMBDA_WARM_TTL_SECONDS": str(WARM_WORKER_SECONDS),
        }
    )
    _allow_many_connections()
    with log.open("ab") as output:
        process = subprocess.Popen(
            [*_COMMAND, "--host", ports.HOST, "--port", str(port), *_SERVER_OPTIONS],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            cwd=directory,
            env=environment,
            start_new_session=True,
        )
    emulator = Emulator(process.pid, port, options)
    _await_healthy(emulator, process, log)
    # It is meant to outlive this process; Python would warn of a child that nobody waits for.
    process.returncode = 0
    return emulator


def rewind_streams(saved_functions: Path) -> None:
    """Set the saved read positions of DynamoDB streams to the streams' beginning.

    The emulator saves how far each function has read a stream, but not the stream: that is empty
    after the start, and as many new records would be skipped as were once read.
    """
    try:
        saved = json.loads(saved_functions.read_text(encoding="utf-8"))
        positions = saved["payload"]["dynamodb_stream_positions"]["data"]
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        return
    positions.update(dict.fromkeys(positions, 0))
    unfinished = saved_functions.with_suffix(".unfinished")
    unfinished.write_text(json.dumps(saved), encoding="utf-8")
    unfinished.replace(saved_functions)


def find_running(root: Path) -> Emulator | None:
    """Find the emulator that runs for the state directory `root` and answers."""
    for process in processes.marked_with(root):
        if is_emulator(process):
            environment = process.environ()
            options = EmulatorOptions(
                auth=environment["AUTH"] == "true",
                concurrency=int(environment["LAMBDA_ACCOUNT_CONCURRENCY"]),
            )
            emulator = Emulator(process.pid, int(environment["GATEWAY_PORT"]), options)
            if is_healthy(emulator):
                return emulator
    return None


def stop(root: Path) -> bool:
    """Stop the emulator of `root` (which saves its state), then every worker that is left.

    Return whether one was running.
    """
    marked = list(processes.marked_with(root))
    for process in marked:
        if is_emulator(process):
            process.terminate()
            _await_saved(process, StateDirectory.at(root).emulator / LOG_NAME)
    processes.kill_all(processes.marked_with(root))
    return bool(marked)


def _await_saved(process: psutil.Process, log: Path) -> None:
    """Wait until a terminated emulator has written its state.

    It says so before it ends: the threads of executions that wait keep it for another minute.
    """
    deadline = time.monotonic() + STOP_SECONDS
    while processes.is_alive(process) and time.monotonic() < deadline:
        if f"Finished server process [{process.pid}]" in log_tail(log):
            return
        time.sleep(0.05)


def count_workers(root: Path) -> int:
    """Count the Lambda workers of the emulator of `root`."""
    return sum(1 for process in processes.marked_with(root) if not is_emulator(process))


def is_healthy(emulator: Emulator) -> bool:
    """Tell whether the emulator answers."""
    try:
        with httpx.Client(trust_env=False, timeout=5) as client:
            return client.get(f"{emulator.url}/_ministack/health").status_code == httpx.codes.OK
    except httpx.HTTPError:
        return False


def is_emulator(process: psutil.Process) -> bool:
    """Tell whether `process` is an emulator, and not one of its workers."""
    try:
        return tuple(process.cmdline()[1:4]) == _COMMAND[1:]
    except psutil.Error:
        return False


def _clean_environment() -> dict[str, str]:
    environment = {
        key: value
        for key, value in os.environ.items()
        if not key.startswith(_DROPPED_PREFIXES) and key not in _DROPPED_VARIABLES
    }
    environment["AWS_CONFIG_FILE"] = os.devnull
    environment["AWS_SHARED_CREDENTIALS_FILE"] = os.devnull
    local_hosts = f"{ports.HOST},localhost"
    for name in ("NO_PROXY", "no_proxy"):
        inherited = environment.get(name)
        environment[name] = f"{inherited},{local_hosts}" if inherited else local_hosts
    return environment


def _allow_many_connections() -> None:
    """Raise the limit of open files that the emulator inherits to what the system grants."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def _await_healthy(emulator: Emulator, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise StartFailedError(
                f"The AWS emulator ended with code {process.returncode}.",
                hint=log_tail(log),
                log=log,
            )
        if is_healthy(emulator):
            return
        time.sleep(0.05)
    process.kill()
    process.wait()
    raise StartFailedError(
        f"The AWS emulator did not answer within {START_SECONDS:.0f} s.",
        hint=log_tail(log),
        log=log,
    )
