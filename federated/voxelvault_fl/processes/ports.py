"""Ports of loopback: one that is free, and whether somebody listens."""

from __future__ import annotations

import errno
import socket
import time
from collections.abc import Callable

from voxelvault_fl.errors import ProcessFailed

LOOPBACK = "127.0.0.1"


def free_port() -> int:
    """Return a port of loopback that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind((LOOPBACK, 0))
        port: int = probe.getsockname()[1]
        return port


def listens(port: int, host: str = LOOPBACK) -> Callable[[], bool]:
    """Return what tells whether somebody listens there."""

    def ask() -> bool:
        with socket.socket() as probe:
            probe.settimeout(0.5)
            return probe.connect_ex((host, port)) == 0

    return ask


def require_free(host: str, port: int, patience: float = 10.0) -> None:
    """Require a port at which this machine can listen.

    Parameters
    ----------
    host : str
        Address of this machine, or ``*``.
    port : int
        At which a gate will listen.
    patience : float
        Seconds: the gate of a server that was killed is gone a moment after it.

    Raises
    ------
    ProcessFailed
        Another process listens there, or this account may not.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    until = time.monotonic() + patience
    while True:
        try:
            socket.create_server(("" if host == "*" else host, port), family=family).close()
            return
        except OSError as refused:
            if refused.errno != errno.EADDRINUSE:
                raise ProcessFailed(f"nobody can listen at {host}:{port} here: {refused.strerror}") from None
            if time.monotonic() > until:
                raise ProcessFailed(
                    f"port {port} is taken: end the process that listens there, or name another in "
                    "consortium.yaml and amend"
                ) from None
            time.sleep(0.2)


__all__ = ["LOOPBACK", "free_port", "listens", "require_free"]
