"""Ports on 127.0.0.1: free ones, and who holds the taken ones."""

from __future__ import annotations

import errno
import random
import socket

import psutil

from local.errors import PortTakenError

HOST = "127.0.0.1"


# Below the range that systems give to outgoing connections: a stack makes hundreds of these, and
# one of them could hold the very port that the next start needs.
_FREE_PORTS = range(20_000, 30_000)
_ATTEMPTS = 100


def free_port() -> int:
    """Find a port that nobody listens on."""
    for port in random.sample(_FREE_PORTS, _ATTEMPTS):
        if is_free(port):
            return port
    raise PortTakenError(
        f"No free port found between {_FREE_PORTS.start} and {_FREE_PORTS.stop}.",
        hint="Choose the ports yourself: make up EMULATOR_PORT=... POSTGRES_PORT=...",
    )


def is_free(port: int) -> bool:
    """Tell whether a server could listen on `port` of 127.0.0.1."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((HOST, port))
        except OSError as error:
            if error.errno in (errno.EADDRINUSE, errno.EACCES):
                return False
            raise
    return True


def holder_of(port: int) -> str:
    """Name the program that listens on `port`, as well as this user may know it."""
    try:
        connections = psutil.net_connections(kind="tcp")
    except (psutil.AccessDenied, PermissionError):
        return "another program"
    # Whoever listens comes first; an outgoing connection can hold the port too.
    connections.sort(key=lambda connection: connection.status != psutil.CONN_LISTEN)
    for connection in connections:
        if not connection.laddr or connection.laddr.port != port:
            continue
        if connection.pid is None:
            return "a program of another user"
        try:
            process = psutil.Process(connection.pid)
            command = " ".join(process.cmdline())[:120] or process.name()
        except psutil.Error:
            return f"process {connection.pid}"
        return f"process {connection.pid} ({command})"
    return "another program"


def require_free(port: int, *, needed_for: str, setting: str) -> int:
    """Return `port`. Raises PortTakenError, naming the program that holds it, when it is taken."""
    if not is_free(port):
        raise PortTakenError(
            f"Port {port}, which {needed_for} needs, is taken by {holder_of(port)}.",
            hint=f"Stop that program, or choose another port: make up {setting}=0 (0: any free)",
        )
    return port


def choose(
    requested: int | None,
    *,
    running: int | None,
    last: int | None,
    default: int,
    needed_for: str,
    setting: str,
) -> int:
    """Choose a server's port: where it runs, else where it last ran, else its usual one.

    `requested` 0 means any free port (the last one again if it is free, so that a stack's URLs
    stay), a number that very port. Raises PortTakenError.
    """
    if running is not None and requested in (None, 0, running):
        return running
    if requested == 0:
        return last if last is not None and is_free(last) else free_port()
    port = requested or last or default
    return require_free(port, needed_for=needed_for, setting=setting)
