"""Prepared heads, read when first needed: so many bytes in memory, the others sealed on the disk.

They aren't the vault's own derived copies: those are bricks on a patient's axes, made by a closed set of
recipes, and a head here lies on the network's grid, straightened by its own pose, plane by plane as it was
scanned. What is laid aside is of one process: its key is nowhere but in memory and its file has no name, so
both are gone with it, and nothing of an erased subject is left to be opened later.
"""

from __future__ import annotations

import os
import tempfile
import weakref
from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import overload

from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from voxelvault_fl.training.examples import Example
from voxelvault_triage.training.dataset import Sample, packed, unpacked

Load = Callable[[Sequence[Example]], list[Sample]]

MEMORY = 1 << 30
"""Bytes of prepared heads that stay in memory, of one part of a job's data."""
AHEAD = 8
"""Heads that are read at once: by threads, one entry in the vault's log."""


class Heads(Sequence[Sample]):
    """The prepared heads of some examples, in their order.

    Parameters
    ----------
    found : sequence of Example
        Whose heads.
    load : callable
        Reads and prepares some of them.
    memory : int
        Most bytes of them in memory, besides the one that was asked for last.
    """

    def __init__(self, found: Sequence[Example], load: Load, memory: int = MEMORY) -> None:
        self._found, self._load, self._memory = found, load, memory
        self._near: OrderedDict[int, Sample] = OrderedDict()
        self._aside = _Aside()

    def __len__(self) -> int:
        """Return the number of heads."""
        return len(self._found)

    @overload
    def __getitem__(self, at: int) -> Sample: ...

    @overload
    def __getitem__(self, at: slice) -> Sequence[Sample]: ...

    def __getitem__(self, at: int | slice) -> Sample | Sequence[Sample]:
        """Return a head, read now if it wasn't read before."""
        if isinstance(at, slice):
            return [self[one] for one in range(*at.indices(len(self)))]
        place = range(len(self))[at]
        if place in self._near:
            self._near.move_to_end(place)
        elif place in self._aside:
            self._keep(place, unpacked(self._aside.get(place)))
        else:
            self._read(place)
        return self._near[place]

    def _read(self, first: int) -> None:
        unread = [one for one in range(first, len(self)) if one not in self._near and one not in self._aside]
        wanted = unread[:AHEAD]
        made = self._load([self._found[one] for one in wanted])
        # The one that was asked for comes last, and so stays.
        for place, sample in reversed(list(zip(wanted, made, strict=True))):
            self._keep(place, sample)

    def _keep(self, place: int, sample: Sample) -> None:
        self._near[place] = sample
        while len(self._near) > 1 and sum(map(_size, self._near.values())) > self._memory:
            old, gone = self._near.popitem(last=False)
            if old not in self._aside:
                self._aside.put(old, packed(gone))


class _Aside:
    """Sealed pieces in a file without a name, under a key that nobody else has (AES-256-GCM)."""

    def __init__(self) -> None:
        self._cipher = AESGCM(os.urandom(32))
        self._file = tempfile.TemporaryFile()
        weakref.finalize(self, self._file.close)
        self._places: dict[int, tuple[int, int]] = {}

    def __contains__(self, name: int) -> bool:
        return name in self._places

    def put(self, name: int, data: bytes) -> None:
        # A name is written once, so it can be the nonce of its piece.
        sealed = self._cipher.encrypt(name.to_bytes(12, "big"), data, None)
        start = self._file.seek(0, os.SEEK_END)
        self._file.write(sealed)
        self._file.flush()
        self._places[name] = start, len(sealed)

    def get(self, name: int) -> bytes:
        start, length = self._places[name]
        self._file.seek(start)
        return self._cipher.decrypt(name.to_bytes(12, "big"), self._file.read(length), None)


def _size(sample: Sample) -> int:
    return sample.hu.nbytes + sample.labels.nbytes


__all__ = ["AHEAD", "MEMORY", "Heads", "Load"]
