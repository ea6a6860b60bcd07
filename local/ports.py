"""Ports on 127.0.0.1: free ones, and who holds the taken ones."""

from __future__ import annotations

import errno
import socket

import psutil

from local.errors import PortTakenError

HOST = "127.0.0.1"


def free_port() -> int:
    """Ask the system for a port that nobody listens on."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as listener:
        listener.bind((HOST, 0))
        port: int = listener.getsockname()[1]
        return port


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
    for connection in connections:
        listens = connection.status == psutil.CONN_LISTEN
        if not listens or not connection.laddr or connection.laddr.port != port:
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


def choose(port: int, *, needed_for: str, setting: str) -> int:
    """Return `port`, or a free one for 0.

    Raises PortTakenError, naming the program that holds it, when it is taken.
    """
    if port == 0:
        return free_port()
    if not is_free(port):
        raise PortTakenError(
            f"Port {port}, which {needed_for} needs, is taken by {holder_of(port)}.",
            hint=f"Stop that program, or choose another port: make up {setting}=0 (0: any free)",
        )
    return port
