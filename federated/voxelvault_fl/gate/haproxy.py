"""HAProxy as a program: where it is, whether a configuration is good, and its runtime socket."""

from __future__ import annotations

import shutil
import socket
import subprocess
from pathlib import Path

from voxelvault_fl.errors import ProcessFailed

_ADVICE = "HAProxy 2.6 or newer is needed for mutual TLS: `apt-get install haproxy`"


def haproxy() -> str:
    """Return the path of HAProxy.

    Raises
    ------
    ProcessFailed
        It is not installed.
    """
    found = shutil.which(
        "haproxy", path="/usr/sbin:/usr/local/sbin:/usr/bin:/usr/local/bin:/opt/homebrew/bin"
    )
    if found is None:
        raise ProcessFailed(_ADVICE)
    return found


def command(configuration: Path) -> list[str]:
    """Return the command that runs HAProxy in the foreground with a configuration.

    Raises
    ------
    ProcessFailed
        HAProxy is missing, or refuses the configuration.
    """
    program = haproxy()
    checked = subprocess.run(  # noqa: S603 - a path that we looked up
        [program, "-c", "-q", "-f", str(configuration)], capture_output=True, check=False
    )
    if checked.returncode != 0:
        raise ProcessFailed(
            "HAProxy refuses its configuration; is the kit complete, the port free, and does the server's "
            "name resolve?"
        )
    return [program, "-db", "-f", str(configuration)]


def tell(control: Path, said: str, timeout: float = 5.0) -> str:
    """Give a command to a running HAProxy and return its answer.

    Raises
    ------
    ProcessFailed
        It does not answer.
    """
    try:
        with socket.socket(socket.AF_UNIX) as link:
            link.settimeout(timeout)
            link.connect(str(control))
            link.sendall(said.encode() + b"\n")
            link.shutdown(socket.SHUT_WR)
            return b"".join(iter(lambda: link.recv(65536), b"")).decode().strip()
    except OSError:
        raise ProcessFailed("the gate does not answer; see log/gate.log") from None


__all__ = ["command", "haproxy", "tell"]
