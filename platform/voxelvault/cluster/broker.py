"""What stands between the keys of an open vault and the workers of a cluster.

The broker knows each worker by the public key of a pair that the worker process made for this run,
and seals each grant to the one worker that is to do the work: no other worker opens it, nor does the
scheduler that passes it on. It holds no more of a worker's answer than the key for it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from secrets import token_bytes
from typing import Any

from voxelvault import errors
from voxelvault.cluster.security import About, about_worker, own_version, require_fit, require_tls
from voxelvault.cluster.worker import (
    FAMILY,
    REFUSED,
    REPLY,
    SEALED,
    forget,
    introduce,
    join,
    packed,
    unpacked,
)
from voxelvault.crew import Unit
from voxelvault.crypto.grants import Mode, family_key, open_reply, seal_grant
from voxelvault.crypto.hybrid import seal_to
from voxelvault.errors import IntegrityError, UsageError, VoxelVaultError, WorkerDied
from voxelvault.model import new_id
from voxelvault.reading.lending import grant_of
from voxelvault.resources import Resources
from voxelvault.storage.layout import OBJECTS, VAULT_TOML

LIFETIME = 86_400.0
"""Seconds that a grant for one unit of work is good for."""

_LACKING = "a worker of this cluster cannot import voxelvault: install the same version on all of them"
_GONE = "the cluster's scheduler does not answer: start it again, and run it again; what was stored stays"


@dataclass(frozen=True, slots=True)
class Worker:
    """A worker process: its address, its threads, and the key that it made for this run."""

    address: str
    threads: int
    public_key: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class Parcel:
    """A unit of work on its way to one worker, and what its answer is sealed under."""

    unit: Unit
    worker: Worker
    grant_id: str
    sealed: bytes = field(repr=False)
    reply_key: bytes = field(repr=False)


class Broker:
    """Lends to the workers of one client; made for the time of one verb.

    Parameters
    ----------
    resources : Resources
        The open vault.
    client : distributed.Client
        Connected.
    unsafe_spill : bool
        Workers may write what they hold to their disks: it is sealed while a verb runs.

    Raises
    ------
    PolicyDenied
        The cluster is spoken to in clear.
    """

    def __init__(self, resources: Resources, client: Any, unsafe_spill: bool = False) -> None:
        require_tls([str(client.scheduler.address)] if client.scheduler else [])
        self._resources, self._client, self._unsafe = resources, client, unsafe_spill
        self._vault = hashlib.sha256(resources.objects.get(VAULT_TOML)).hexdigest()
        self.session = new_id()
        self.workers: dict[str, Worker] = {}
        self._family: set[str] = set()

    def __repr__(self) -> str:
        return f"<Broker of {len(self.workers)} workers>"

    def refresh(self) -> None:
        """Look who is there: the newly come introduce themselves, those that left are forgotten.

        Raises
        ------
        PolicyDenied, UsageError
            One of them does not fit; see `require_fit`.
        WorkerDied
            The scheduler does not answer.
        """
        try:
            there: dict[str, int] = dict(self._client.nthreads())
        except (OSError, TimeoutError):
            raise WorkerDied(_GONE) from None
        self.workers = {address: found for address, found in self.workers.items() if address in there}
        fresh = [address for address in there if address not in self.workers]
        require_tls(fresh)
        about = self._ask(_about_here, fresh)
        require_fit({address: About(*found) for address, found in about.items()}, own_version(), self._unsafe)
        for address, public_key in self._ask(introduce, list(about), self.session).items():
            self.workers[address] = Worker(address, there[address], public_key)

    def _ask(self, function: Callable[..., Any], addresses: Sequence[str], *given: object) -> dict[str, Any]:
        """Call a function in some workers; who dies meanwhile does not answer."""
        if not addresses:
            return {}
        try:
            found = self._client.run(function, *given, workers=list(addresses), on_error="return")
        except (ImportError, AttributeError):
            raise UsageError(_LACKING) from None
        except (OSError, TimeoutError):
            raise WorkerDied(_GONE) from None
        for answer in found.values():
            if isinstance(answer, ImportError | AttributeError | TypeError):
                raise UsageError(_LACKING) from None
        return {address: answer for address, answer in found.items() if not isinstance(answer, BaseException)}

    def parcel(self, unit: Unit, worker: Worker) -> Parcel:
        """Seal a unit of work, with the keys that it needs, to one worker.

        Raises
        ------
        IntegrityError, KeyUnavailable
            A pack that it is to read does not open.
        """
        reply = token_bytes(32)
        payload = packed((unit.work, unit.argument, self._vault))
        mode: Mode = "write" if unit.writes else "read"
        keys = {**unit.keys, REPLY: reply}
        grant = grant_of(self._resources, unit.packs, payload, keys, mode, (OBJECTS,), LIFETIME)
        return Parcel(unit, worker, grant.grant_id, seal_grant(grant, worker.public_key), reply)

    def opened(self, parcel: Parcel, answer: bytes) -> Any:
        """Return what the work returned.

        Raises
        ------
        VoxelVaultError
            As the work raised it; or the worker could not open what it was lent.
        IntegrityError
            The answer was changed on its way.
        """
        if not answer.startswith(SEALED):
            code = answer[1:65].decode("ascii", "replace")
            raise IntegrityError(f"a worker could not open what was lent to it ({code}); run it again")
        data = open_reply(parcel.reply_key, parcel.grant_id, answer[len(SEALED) :])
        # Safe: only who was lent the key could have sealed it.
        fine, result = unpacked(data)
        if not fine:
            raise _error(*result)
        return result

    def replaced(self, parcel: Parcel, answer: bytes) -> bool:
        """Tell whether another process answers at a worker's address: one that was started again there.

        It is forgotten, so that it introduces itself at the next look.
        """
        address = parcel.worker.address
        same = self.workers.get(address) is parcel.worker
        if answer == REFUSED + b"KeyError" and same:
            del self.workers[address]
            self._family.discard(address)
            return True
        # It may have introduced itself since: what was sealed to the former one opens there no more.
        return answer.startswith(REFUSED) and not same

    def take_in(self) -> None:
        """Look who is there, and let each into this process's family: what it lends opens there, too.

        Raises
        ------
        PolicyDenied, UsageError, WorkerDied
            As `refresh`.
        """
        self.refresh()
        self._family &= self.workers.keys()
        for address in self.workers.keys() - self._family:
            info = FAMILY + self.session.encode()
            sealed = seal_to(self.workers[address].public_key, family_key().seed, info)
            if address in self._ask(join, [address], self.session, sealed):
                self._family.add(address)

    def close(self) -> None:
        """Have the workers drop the keys of this run; those that are gone have."""
        try:
            self._ask(forget, list(self.workers), self.session)
        except VoxelVaultError:
            return


def _about_here(dask_worker: Any) -> tuple[bool, str]:
    """Return what a worker says of itself; Dask gives it its worker object by that name."""
    return about_worker(dask_worker)


def _error(name: str, message: str) -> VoxelVaultError:
    kind = getattr(errors, name, VoxelVaultError)
    if not (isinstance(kind, type) and issubclass(kind, VoxelVaultError)):
        kind = VoxelVaultError
    return kind(message)


__all__ = ["LIFETIME", "Broker", "Parcel", "Worker"]
