"""One process at a time works on a pipeline's queue."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Final

from voxelvault import Vault
from voxelvault.errors import LockTimeout
from voxelvault.storage.leases import Pace
from voxelvault.storage.objects import LocalObjects

RUN_OUT: Final = 1.5 * Pace().lasts
"""Seconds after which the lease of a runner that was killed is surely seen to have run out."""


class AtWorkElsewhere(LockTimeout):
    """Another process works on this pipeline's queue."""


@contextmanager
def queue_of(vault: Vault, pipeline: str) -> Iterator[None]:
    """Hold a pipeline's queue.

    A lock on this machine ends with its process. A lease in an object store outlasts a holder that was
    killed, and only who watches it for a while sees that nobody renews it.

    Raises
    ------
    AtWorkElsewhere
        Another process holds it.
    """
    objects = vault.resources.objects
    patience = 0.0 if isinstance(objects, LocalObjects) else RUN_OUT
    with ExitStack() as held:
        try:
            held.enter_context(objects.lock(f"locks/triage-{pipeline}", patience))
        except LockTimeout:
            raise AtWorkElsewhere(
                "another process works on this pipeline and does what is scheduled: end it to do it here"
            ) from None
        yield


__all__ = ["AtWorkElsewhere", "queue_of"]
