"""Whether a cluster may be lent anything: TLS, no spilling, the same version.

A worker with a memory target or a spill threshold writes what it holds to its local folder, as
plain pickles; plain TCP shows what passes to whoever listens, and lets anyone who reaches the
scheduler run code on the workers.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from importlib.metadata import version
from typing import Any

from voxelvault.errors import PolicyDenied, UsageError

PLAIN = (
    "this cluster is spoken to without TLS, so others could read along and run code on its workers: start "
    "scheduler and workers with --protocol tls:// and certificates, or use client='local'"
)
SPILLS = (
    "a worker of this cluster may write what it holds to its disk: set distributed.worker.memory.target and "
    "distributed.worker.memory.spill to false for every worker, or say unsafe_spill=True (--unsafe-spill)"
)
ANOTHER = (
    "a worker of this cluster has voxelvault {theirs} and this process {ours}: install the same version on "
    "all of them"
)


@dataclass(frozen=True, slots=True)
class About:
    """What a worker says of itself.

    Parameters
    ----------
    spills : bool
        It may write what it holds to its disk.
    version : str
        Of this package there.
    """

    spills: bool
    version: str


def about_worker(worker: Any) -> tuple[bool, str]:
    """Return what a worker process says of itself; runs there.

    Parameters
    ----------
    worker : distributed.Worker
        Its worker object.

    Returns
    -------
    tuple
        Whether it may spill, and the version of this package.
    """
    manager = worker.memory_manager
    # What counts is what the worker runs with, whatever its configuration says: `data` is a plain
    # dictionary only where neither threshold is set.
    spills = bool(manager.memory_target_fraction or manager.memory_spill_fraction)
    return spills or type(worker.data) is not dict, own_version()


@cache
def own_version() -> str:
    """Return the version of this package as it is installed here; each look at the workers asks."""
    return version("voxelvault")


def require_tls(addresses: Iterable[str]) -> None:
    """Refuse a cluster whose scheduler or workers are spoken to in clear.

    Raises
    ------
    PolicyDenied
        One of the addresses is not `tls://…`.
    """
    if not all(address.startswith("tls://") for address in addresses):
        raise PolicyDenied(PLAIN)


def require_fit(workers: Mapping[str, About], ours: str, unsafe_spill: bool) -> None:
    """Refuse workers that might spill, or that run another version.

    Parameters
    ----------
    workers : mapping of str to About
        By address.
    ours : str
        Version of this package in this process.
    unsafe_spill : bool
        Spilling is meant.

    Raises
    ------
    PolicyDenied
        A worker may spill.
    UsageError
        A worker has another version.
    """
    require_tls(workers)
    for about in workers.values():
        if about.version != ours:
            raise UsageError(ANOTHER.format(theirs=about.version, ours=ours))
        if about.spills and not unsafe_spill:
            raise PolicyDenied(SPILLS)


__all__ = ["About", "about_worker", "own_version", "require_fit", "require_tls"]
