"""Bring a whole stack up and down."""

from __future__ import annotations

import fcntl
import os
import shutil
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import httpx
from pydantic import BaseModel, ValidationError

from local import deploy, emulator, fixups, ports, postgres, stack
from local.emulator import REGION, Emulator, EmulatorOptions
from local.errors import BusyError, StartFailedError, require_free_space, require_python
from local.guard import stopped_with_this_process
from local.paths import DEFAULT_TEMPLATE, StateDirectory
from local.postgres import PostgresServer
from local.progress import step
from local.stack import Stack, StackProcesses
from local.template_values import TemplateValues

DEFAULT_EMULATOR_PORT = 4566
DEFAULT_POSTGRES_PORT = 54329
# More than the functions' pools together: as on AWS, nobody can use up what is reserved for others.
DEFAULT_CONCURRENCY = 180 + deploy.lifecycle_concurrency()
API_SECONDS = 120.0


@dataclass(frozen=True)
class Settings:
    """How to run a stack.

    Port 0 takes any free one, None the last one or else the usual one. `durable=False` does not
    wait for the disk (for tests). `fresh_emulator` forgets what the emulator has saved; the orders
    are in Postgres.
    """

    emulator_port: int | None = None
    postgres_port: int | None = None
    parameters: Mapping[str, str] = field(default_factory=dict)
    bundle_dependencies: bool = False
    auth: bool = False
    concurrency: int = DEFAULT_CONCURRENCY
    template: Path = DEFAULT_TEMPLATE
    durable: bool = True
    fresh_emulator: bool = False


def up(state: StateDirectory, settings: Settings) -> Stack:
    """Start what does not run yet, deploy, and return the running stack.

    On a running stack this deploys again. Orders of earlier runs are kept.
    """
    require_python()
    state.create()
    require_free_space(state.root)
    template = deploy.load_template(settings.template)
    deploy.check_parameters(template, settings.parameters)
    with _locked(state):
        running_before = emulator.find_running(state.root)
        with step("Start Postgres and the AWS emulator"):
            database, cloud = _start_servers(state, settings)
        given = deploy.laptop_parameters(
            database_url=database.url,
            endpoint_url=cloud.url,
            bundle_dependencies=settings.bundle_dependencies,
        )
        parameters = deploy.complete_parameters(template, {**given, **settings.parameters})
        target = deploy.Target(cloud.url, parameters, settings.template)
        with step("Build the functions (sam build)"):
            built_template = deploy.build(state, target)
        with step("Deploy the stack (sam deploy)"):
            deployment = deploy.deploy(state, target, built_template)
            fixups.apply(cloud.url, target.stack_name, TemplateValues(template, parameters))
            if not parameters.get("DatabaseUrl"):
                fixups.use_embedded_database(
                    cloud.url,
                    target.stack_name,
                    deployment.outputs["DatabaseSecretArn"],
                    database,
                    deploy.BUCKET,
                )
        running = _describe(database, cloud, target, deployment)
        # Written before the API is known to be well: `make logs` then tells why it is not.
        stack.write(state, running)
        with step("Wait for the API to answer"):
            _await_api(running.http_url)
        if running_before is None or running_before.pid != cloud.pid:
            fixups.start_first_minute(cloud.url, target.stack_name)
    return running


def down(state: StateDirectory) -> bool:
    """Stop everything that runs for `state` and keep its data. Return whether anything ran."""
    if not state.root.exists():
        return False
    with _locked(state):
        stack.remove(state)
        with ThreadPoolExecutor() as pool:
            emulator_ran = pool.submit(emulator.stop, state.root)
            # The functions' workers hold connections; a fast shutdown ends these first.
            postgres_ran = pool.submit(postgres.stop, state.postgres)
            return any([emulator_ran.result(), postgres_ran.result()])


@dataclass(frozen=True)
class Report:
    """What runs in a state directory. `workers` are the emulator's Lambda processes."""

    root: Path
    postgres: PostgresServer | None
    emulator: Emulator | None
    stack: Stack | None
    workers: int = 0
    health: str = ""

    @property
    def is_well(self) -> bool:
        """Tell whether the whole stack runs and its API says that it is well."""
        return None not in (self.postgres, self.emulator, self.stack) and self.health == "ok"


def report(state: StateDirectory) -> Report:
    """Find out what runs in `state`."""
    cloud = emulator.find_running(state.root)
    described = stack.read(state)
    health = ""
    if cloud is not None and described is not None:
        health = _health(described.http_url)
    return Report(
        root=state.root,
        postgres=postgres.find_running(state.postgres),
        emulator=cloud,
        stack=described,
        workers=emulator.count_workers(state.root),
        health=health,
    )


@contextmanager
def running_stack(
    state_dir: Path | str,
    *,
    parameters: Mapping[str, str] | None = None,
    bundle_dependencies: bool = False,
    auth: bool = False,
    concurrency: int = DEFAULT_CONCURRENCY,
    template: Path = DEFAULT_TEMPLATE,
) -> Iterator[Stack]:
    """Run a stack of its own, on free ports and in its own folder, for the length of the block.

    It ends with this process, even if that is killed.
    """
    state = StateDirectory.at(state_dir)
    settings = Settings(
        emulator_port=0,
        postgres_port=0,
        parameters=parameters or {},
        bundle_dependencies=bundle_dependencies,
        auth=auth,
        concurrency=concurrency,
        template=template,
        durable=False,
    )
    state.create()
    with stopped_with_this_process(state):
        try:
            yield up(state, settings)
        finally:
            down(state)


class _Ports(BaseModel):
    emulator: int | None = None
    postgres: int | None = None


def _start_servers(state: StateDirectory, settings: Settings) -> tuple[PostgresServer, Emulator]:
    """Start what does not run yet, or runs otherwise than wanted. Raises PortTakenError.

    Both ports are looked at before anything starts, so that a taken one leaves nothing running.
    """
    server = postgres.find_running(state.postgres)
    cloud = emulator.find_running(state.root)
    last = _last_ports(state)
    postgres_port = ports.choose(
        settings.postgres_port,
        running=server.port if server else None,
        last=last.postgres,
        default=DEFAULT_POSTGRES_PORT,
        needed_for="Postgres",
        setting="POSTGRES_PORT",
    )
    emulator_port = ports.choose(
        settings.emulator_port,
        running=cloud.port if cloud else None,
        last=last.emulator,
        default=DEFAULT_EMULATOR_PORT,
        needed_for="the AWS emulator",
        setting="EMULATOR_PORT",
    )
    chosen = _Ports(emulator=emulator_port, postgres=postgres_port)
    state.ports_file.write_text(chosen.model_dump_json(), encoding="utf-8")
    if server is not None and server.port != postgres_port:
        postgres.stop(state.postgres)
    server = postgres.start(state.postgres, port=postgres_port, durable=settings.durable)
    options = EmulatorOptions(auth=settings.auth, concurrency=settings.concurrency)
    as_wanted = cloud is not None and (cloud.port, cloud.options) == (emulator_port, options)
    if cloud is None or not as_wanted or settings.fresh_emulator:
        # Also ends the workers that a killed emulator left behind.
        emulator.stop(state.root)
        if settings.fresh_emulator:
            shutil.rmtree(state.emulator, ignore_errors=True)
        cloud = emulator.start(state.emulator, root=state.root, port=emulator_port, options=options)
    return server, cloud


def _last_ports(state: StateDirectory) -> _Ports:
    try:
        return _Ports.model_validate_json(state.ports_file.read_text(encoding="utf-8"))
    except (FileNotFoundError, ValidationError):
        return _Ports()


def _health(http_url: str) -> str:
    """Ask the API how it is: "ok", or what it answered instead."""
    try:
        with httpx.Client(trust_env=False, timeout=API_SECONDS) as client:
            response = client.get(f"{http_url}/api/health")
    except httpx.HTTPError as error:
        return repr(error)
    return "ok" if response.is_success else f"{response.status_code} {response.text[:500]}"


def _await_api(http_url: str) -> None:
    """Wait until the API says that it and its database are well. Raises StartFailedError."""
    deadline = time.monotonic() + API_SECONDS
    health = ""
    while time.monotonic() < deadline:
        health = _health(http_url)
        if health == "ok":
            return
        time.sleep(0.25)
    raise StartFailedError(
        f"The stack is deployed, but its API is not well after {API_SECONDS:.0f} s.",
        hint=f"It answered: {health}\nThe functions' logs: make logs",
    )


def _describe(
    database: PostgresServer,
    cloud: Emulator,
    target: deploy.Target,
    deployment: deploy.Deployment,
) -> Stack:
    secret = {"DatabaseUrl"}
    return Stack(
        http_url=deployment.outputs.get("HttpUrl", ""),
        web_socket_url=deployment.outputs.get("WebSocketUrl", ""),
        database_url=database.url,
        emulator_url=cloud.url,
        stack_name=target.stack_name,
        region=REGION,
        pids=StackProcesses(emulator=cloud.pid, postgres=database.pid),
        outputs=deployment.outputs,
        parameters={k: v for k, v in target.parameters.items() if k not in secret},
    )


@contextmanager
def _locked(state: StateDirectory) -> Iterator[None]:
    """Hold the stack for this command alone. Raises BusyError when another one works on it."""
    with state.lock_file.open("a+", encoding="utf-8") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            lock.seek(0)
            holder = lock.read().strip()
            raise BusyError(
                f"Another command (process {holder}) is starting or stopping this stack.",
                hint="Wait for it to end.",
            ) from error
        lock.truncate(0)
        lock.write(str(os.getpid()))
        lock.flush()
        yield
