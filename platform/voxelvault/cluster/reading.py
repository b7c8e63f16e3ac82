"""Graphs, series and caches of an open vault on a cluster that did not start from this process."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any, Protocol

from voxelvault.cluster.broker import Broker
from voxelvault.cluster.entering import broker_of
from voxelvault.errors import VoxelVaultError

if TYPE_CHECKING:
    from voxelvault.resources import Resources

LOOK = 1.0
"""Seconds between looks at who has come."""


class Opened(Protocol):
    """An open vault."""

    resources: Resources


@contextmanager
def lend_to(vault: Opened, client: Any, *, unsafe_spill: bool = False) -> Iterator[Any]:
    """Let a cluster's workers open what this process lends, for the time of a `with` statement.

    Each worker, also one that comes later, gets the key of this process's family, sealed to its own,
    and drops it at the end. What a task returns is plain: pixels lie in the workers' memory, and
    pass through TLS to whoever fetches them. Send graphs, not a `Series` as an argument of a task: the
    scheduler would open that, and it is lent nothing.

    Parameters
    ----------
    vault : Vault
        Open.
    client : "local", str, LocalWorkers or distributed.Client
        As for `Vault.ingest`.
    unsafe_spill : bool
        Also where workers may write pixels to their disks; entered in the log.

    Yields
    ------
    distributed.Client
        To compute with.

    Raises
    ------
    PolicyDenied, UsageError, WorkerDied, MissingExtra
        The cluster may not be lent anything, or is not there.

    Examples
    --------
    >>> with lend_to(vault, "tls://scheduler:8786") as client:          # doctest: +SKIP
    ...     mean = client.compute(series.volume().mean()).result()
    ...     cohort.cache(spacing=(1, 1, 1), executor=client.get_executor())
    """
    over = threading.Event()
    with broker_of(vault.resources, client, unsafe_spill) as (broker, connected):
        broker.take_in()
        watching = threading.Thread(target=_watch, args=(broker, over), daemon=True)
        watching.start()
        try:
            yield connected
        finally:
            over.set()
            watching.join()


def _watch(broker: Broker, over: threading.Event) -> None:
    """Take in who comes later; one that does not fit stays out, and its tasks say so."""
    while not over.wait(LOOK):
        with suppress(VoxelVaultError):
            broker.take_in()


__all__ = ["lend_to"]
