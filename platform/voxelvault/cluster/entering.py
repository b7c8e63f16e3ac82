"""From what a user gives as `client=` to a crew."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

from voxelvault.audit.events import Event, Kind
from voxelvault.cluster.broker import Broker
from voxelvault.cluster.local import LocalWorkers
from voxelvault.cluster.running import ClientCrew
from voxelvault.crew import Crew
from voxelvault.errors import MissingExtra, UsageError, WorkerDied
from voxelvault.resources import Resources
from voxelvault.storage.objects import LocalObjects

LOCAL = "local"


@contextmanager
def crew_of(resources: Resources, client: Any, *, unsafe_spill: bool = False) -> Iterator[Crew | None]:
    """Hold a crew for the time of one verb.

    Parameters
    ----------
    resources : Resources
        The open vault.
    client : None, "local", str, LocalWorkers or distributed.Client
        No crew: threads; workers of our own, one a core; the address of a scheduler, ``tls://…``,
        with the certificates of Dask's configuration; workers or a client at hand, left open.
    unsafe_spill : bool
        Lend to workers that may write what they hold to their disks; entered in the log.

    Raises
    ------
    PolicyDenied, UsageError, WorkerDied, MissingExtra
        The cluster may not be lent anything, or is not there.
    """
    if client is None:
        yield None
        return
    with broker_of(resources, client, unsafe_spill) as (broker, connected):
        yield ClientCrew(broker, connected)


@contextmanager
def broker_of(resources: Resources, client: Any, unsafe_spill: bool) -> Iterator[tuple[Broker, Any]]:
    """Hold a broker for what a user gives as `client=`, and the Dask client that it lends through.

    Raises
    ------
    PolicyDenied, UsageError, WorkerDied, MissingExtra
        As `crew_of`.
    """
    with ExitStack() as held:
        connected = _connected(resources, client, held)
        if unsafe_spill:
            _log_unsafe(resources)
        broker = Broker(resources, connected, unsafe_spill)
        held.callback(broker.close)
        yield broker, connected


def _connected(resources: Resources, client: Any, held: ExitStack) -> Any:
    if isinstance(client, LocalWorkers):
        return client.client
    if client == LOCAL:
        cloud = not isinstance(resources.objects, LocalObjects)
        return held.enter_context(LocalWorkers(resources.options.threads, cloud=cloud)).client
    try:
        from distributed import Client
    except ImportError:
        raise MissingExtra("workers need Dask: pip install 'voxelvault[cluster]'") from None
    if isinstance(client, Client) and client.asynchronous:
        raise UsageError("this Dask client is asynchronous: make one with asynchronous=False")
    if isinstance(client, Client):
        return client
    if not isinstance(client, str) or not client.startswith("tls://"):
        raise UsageError(
            "workers are 'local', those of a scheduler by its address (tls://host:port), or of a Dask client"
        )
    try:
        _require_open(client)
        return held.enter_context(Client(client, set_as_default=False))  # type: ignore[no-untyped-call]
    except (OSError, TimeoutError, RuntimeError, TypeError, ValueError):
        raise WorkerDied(
            "the scheduler does not answer: check its address, and the certificates in Dask's configuration "
            "(distributed.comm.tls)"
        ) from None


def _require_open(address: str) -> None:
    """Refuse an address where nothing listens; a Dask client that found nobody holds up the next one."""
    from distributed.comm.addressing import parse_address, parse_host_port

    host, port = parse_host_port(parse_address(address)[1])
    socket.create_connection((host, port), timeout=10).close()


def _log_unsafe(resources: Resources) -> None:
    resources.audit.append(
        [
            Event(
                kind=Kind.OPTION_CHANGED,
                who=resources.who,
                purpose=resources.purpose,
                codes={"option": ("unsafe_spill",), "value": ("on",)},
            )
        ]
    )


__all__ = ["LOCAL", "broker_of", "crew_of"]
