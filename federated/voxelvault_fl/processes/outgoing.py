"""An audit hook (PEP 578) under which a process can connect to this machine's loopback and nowhere else.

The way out of a site is its connector, and the server's way in is its gate; both are HAProxy with one
address in their configuration. Whatever of our Python processes tries to call elsewhere, telemetry or a
check for updates, is written down and refused.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Collection
from ipaddress import ip_address
from pathlib import Path
from typing import Any

from voxelvault_fl.errors import FederatedError

CALLS = "log/calls-elsewhere"
"""File of a state folder: calls that a process tried to make to elsewhere; empty."""
_NAMES = frozenset({"localhost", "", None})
_TO_AN_ADDRESS = frozenset({"socket.connect", "socket.sendto", "socket.sendmsg"})
_OF_A_NAME = frozenset({"socket.getaddrinfo", "socket.gethostbyname", "socket.gethostbyaddr"})


class CalledElsewhere(FederatedError):
    """A process tried to connect to somewhere that it has no business with."""


def is_loopback(host: Any) -> bool:
    """Tell whether a host, as a socket is given it, is this machine's loopback."""
    if isinstance(host, bytes):
        host = host.decode("ascii", "replace")
    try:
        return host in _NAMES or ip_address(host).is_loopback
    except ValueError:
        return False


def stay_here(record: Path, allowed: Collection[tuple[str, int]] = ()) -> None:
    """Refuse and write down each connection and look-up that leaves this machine, from now on.

    Parameters
    ----------
    record : Path
        A line is added for each refusal, with the event and the port; empty means that none was tried.
    allowed : collection of (str, int)
        Hosts and ports besides loopback.
    """
    record.parent.mkdir(parents=True, exist_ok=True)
    record.touch()
    sys.addaudithook(_hook(record, frozenset(allowed)))


def _hook(record: Path, allowed: Collection[tuple[str, int]]) -> Callable[[str, tuple[Any, ...]], None]:
    hosts = {host for host, _ in allowed}

    def hook(event: str, said: tuple[Any, ...]) -> None:
        if event in _TO_AN_ADDRESS:
            address = said[1]
            # A string is a path of a Unix socket; nothing is where a socket was connected before.
            unix = address is None or isinstance(address, str | bytes)
            fine = unix or is_loopback(address[0]) or address[:2] in allowed
        elif event in _OF_A_NAME:
            fine = is_loopback(said[0]) or said[0] in hosts
        else:
            return
        if not fine:
            _write(record, event, said)
            raise CalledElsewhere("a process may connect to its own machine only; see the record of calls")

    return hook


def _write(record: Path, event: str, said: tuple[Any, ...]) -> None:
    port = said[1][1] if event in _TO_AN_ADDRESS else said[1] if len(said) > 1 else "none"
    with record.open("a", encoding="ascii") as file:
        file.write(f"{event} port {port}\n")


__all__ = ["CALLS", "CalledElsewhere", "is_loopback", "stay_here"]
