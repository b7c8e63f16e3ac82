"""Work for other processes: what a verb hands out, and what does it.

A verb plans units; a crew does them on the workers of a cluster (`voxelvault.cluster`). What a unit
carries, and what comes back, travels sealed: a cluster's scheduler sees opaque names and ciphertext.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from voxelvault.dicom.decode import DecoderPool
from voxelvault.storage.layout import OBJECTS
from voxelvault.storage.pack_reader import PackReader
from voxelvault.storage.sealed_objects import SealedObjects


class Bench(Protocol):
    """What a unit of work finds in the process that does it: the objects and keys that were lent."""

    @property
    def pool(self) -> DecoderPool:
        """Child processes that decode the senders' codestreams."""

    def sealed(self, area: str = OBJECTS) -> SealedObjects:
        """Return the vault's sealed objects of an area."""

    def key(self, key_id: str) -> bytes:
        """Return a key that was lent; `KeyUnavailable` if it was not."""

    def reader(self, pack_id: str) -> PackReader:
        """Return the reader of a pack that was lent."""


Work = Callable[[Bench, Any], Any]
"""A function of a module, so that another process finds it by name."""


@dataclass(frozen=True, slots=True)
class Unit:
    """One attempt at a piece of work.

    Parameters
    ----------
    name : str
        What a dashboard calls it, such as ``ingest-series``: opaque.
    work : callable
        Called with the bench and the argument.
    argument : object
        Pickles; never shown by `repr`.
    keys : mapping of str to bytes
        Fresh keys, by opaque id, for what is written; never shown by `repr`.
    packs : sequence of mapping
        Rows of the catalog's `packs` that may be read.
    writes : bool
        It puts new objects into the vault.
    """

    name: str
    work: Work
    argument: Any = field(repr=False)
    keys: Mapping[str, bytes] = field(default_factory=dict, repr=False)
    packs: Sequence[Mapping[str, Any]] = field(default=(), repr=False)
    writes: bool = False


@dataclass(frozen=True, slots=True)
class Done:
    """A piece of work that is over.

    Parameters
    ----------
    number : int
        Which, from 0, in the order in which they were handed in.
    unit : Unit
        The attempt that counts.
    result : object
        What the work returned.
    lost : bool
        Nothing came back: each worker that tried was killed.
    """

    number: int
    unit: Unit
    result: Any = field(default=None, repr=False)
    lost: bool = False


class Crew(Protocol):
    """Workers at hand for the verbs of one vault."""

    @property
    def hands(self) -> int:
        """How many units are done at once."""

    def run(
        self, makers: Iterable[Callable[[], Unit]], stop: Callable[[], bool] = lambda: False
    ) -> Iterator[Done]:
        """Do the work, and yield each as it is done; what a verb holds back is not begun.

        Parameters
        ----------
        makers : iterable of callable
            Each makes an attempt at one piece of work; called again, with fresh ids and keys, after
            a worker died. Taken as there is room: few are under way at a time.
        stop : callable
            When it says so, nothing more is begun; what is under way is finished.

        Raises
        ------
        VoxelVaultError
            As the work raised it in its worker; what is under way is given up.
        WorkerDied
            No worker is left.
        """


__all__ = ["Bench", "Crew", "Done", "Unit", "Work"]
