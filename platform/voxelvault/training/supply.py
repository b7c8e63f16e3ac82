"""Where a data set's samples come from: an open handle here, and what it lends to worker processes."""

from __future__ import annotations

import math
import pickle
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Protocol

from voxelvault.derived.brick_reader import BrickReader
from voxelvault.derived.bricks import BrickLayout
from voxelvault.derived.frames import CopiedPacks, there
from voxelvault.model import SealedRef
from voxelvault.reading.lending import LIFETIME, Loan, OpenLoan, lend
from voxelvault.reading.masks import MaskPlan
from voxelvault.reading.packs import PackSource
from voxelvault.reading.sources import SeriesSource
from voxelvault.reading.stacks import FrameStack, choose, frame_stacks, named_series
from voxelvault.storage.layout import DERIVED
from voxelvault.storage.sealed_objects import SealedObjects
from voxelvault.training.plan import Plan, Wish
from voxelvault.training.relabelling import relabelled
from voxelvault.training.samples import Opened, SampleMaker
from voxelvault.training.volumes import Array, ArrayVolume, EmptyVolume, FrameVolume, Kept

if TYPE_CHECKING:
    from voxelvault.reading.many import OpenedMany
    from voxelvault.resources import Resources

KEPT_BRICKS = 64 << 20
"""Bytes of open caches that a process keeps: each has an index."""

BRICK_BYTES = 128
"""Of one entry of such an index, about."""

KEPT_FRAMES = 200_000
"""Frames, of all series together, whose places and attributes a process keeps: some 60 MB."""

SERIES_FRAMES = 60
"""An open series takes as much memory, beside its frames, as so many frames."""


@dataclass(frozen=True, slots=True)
class Bricks:
    """One object of a cache: where it is, how it is laid out, and which key opens it.

    Parameters
    ----------
    ref, key_id, layout
        Of the object.
    labels : tuple of int
        Of a mask: the stored labels that become 1, 2, …, and all else background; empty where labels
        stay what they are.
    """

    ref: SealedRef
    key_id: str
    layout: BrickLayout
    labels: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Member:
    """What one series of a sample is read from; travels sealed, since a source's rows identify people.

    Parameters
    ----------
    series_id : str
        Opaque id.
    source : SeriesSource, optional
        Its frames; None where a cache holds all.
    mask : MaskPlan, optional
        What its mask is painted from.
    bricks, mask_bricks : Bricks, optional
        Its cache.
    background : bool
        Its mask, where there is none of the two, is background alone.
    copies : tuple of Bricks
        Of its frames, that decode faster.
    """

    series_id: str
    source: SeriesSource | None = None
    mask: MaskPlan | None = None
    bricks: Bricks | None = None
    mask_bricks: Bricks | None = None
    background: bool = False
    copies: tuple[Bricks, ...] = ()

    @property
    def needs_packs(self) -> bool:
        """It is read from frames, or its mask from a stored segmentation."""
        return self.bricks is None or self.mask is not None


class Place(Protocol):
    """What reads go through: the vault's own process, or an open loan."""

    @property
    def packs(self) -> PackSource:
        """Opens packs."""

    def check(self) -> None:
        """Refuse after closing."""

    def count(self, frames: int, size: int) -> None:
        """Count a read."""

    def sealed(self, area: str) -> SealedObjects:
        """Return the sealed objects of an area."""

    def key(self, key_id: str) -> bytes:
        """Return a key by its id."""


class OwnPlace:
    """Reads in the vault's own process, under the handle of a data set.

    Parameters
    ----------
    resources : Resources
        The open vault.
    opened : OpenedMany
        The series, and those whose masks are laid on them.
    keys : mapping of str to bytes
        Of the cache's objects.
    """

    def __init__(self, resources: Resources, opened: OpenedMany, keys: Mapping[str, bytes]) -> None:
        self._resources, self.opened, self.keys = resources, opened, keys
        self.packs: PackSource = opened.packs

    def check(self) -> None:
        """Refuse after closing."""
        self.opened.handle.check()

    def count(self, frames: int, size: int) -> None:
        """Count for the handle."""
        self.opened.handle.count(frames, size)

    def sealed(self, area: str) -> SealedObjects:
        """Return the sealed objects of an area."""
        return SealedObjects(self._resources.objects, self._resources.settings.vault_id, area)

    def key(self, key_id: str) -> bytes:
        """Return the key of a cache's object."""
        return self.keys[key_id]


class OwnSupply:
    """Samples in the vault's own process; pickles as a loan, made when it is first needed.

    Parameters
    ----------
    resources : Resources
        The open vault.
    place : OwnPlace
        What reads go through.
    plan : Plan
        Which samples there are.
    """

    def __init__(self, resources: Resources, place: OwnPlace, plan: Plan[Member]) -> None:
        self._resources, self._place, self._plan = resources, place, plan
        self._loan: Loan | None = None
        self._lock = threading.Lock()
        self.keys = plan.keys

    def __len__(self) -> int:
        return len(self._plan)

    def __reduce__(self) -> tuple[Any, ...]:
        return LentSupply, (self.loan(), len(self._plan), self.keys)

    @cached_property
    def _maker(self) -> SampleMaker[Member]:
        return SampleMaker(self._plan, Opener(self._plan.wish, self._place, self._resources.options.threads))

    def maker(self) -> SampleMaker[Member]:
        """Return what makes samples here."""
        self._place.check()
        return self._maker

    def loan(self) -> Loan:
        """Return a loan of all that the samples need; the same one for half of its time.

        Raises
        ------
        PolicyDenied
            The data set is closed.
        UsageError
            The vault can't be lent to other processes.
        """
        self._place.check()
        with self._lock:
            if self._loan is None or self._loan.expires < time.time() + LIFETIME / 2:
                frames = any(one.needs_packs for unit in self._plan.units for one in unit.members.values())
                rows = self._place.opened.pack_rows() if frames else ()
                payload = pickle.dumps(self._plan)
                handle = self._place.opened.handle
                self._loan = lend(self._resources, handle, rows, payload, self._place.keys)
            return self._loan

    def count(self, samples: int, size: int) -> None:
        """Count samples, and what workers read for them; refuse after closing."""
        self._place.check()
        self._place.opened.handle.count_samples(samples, size)

    def close(self) -> None:
        """Close the handle: the log gets its counts, and loans end."""
        self._place.opened.close()


class LentSupply:
    """Samples in a process that was lent them.

    Parameters
    ----------
    loan : Loan
        Holds the plan.
    count : int
        Samples.
    keys : tuple of str
        Keys under which samples have images.
    """

    def __init__(self, loan: Loan, length: int, keys: tuple[str, ...]) -> None:
        self._loan, self._length, self.keys = loan, length, keys

    def __len__(self) -> int:
        return self._length

    def __reduce__(self) -> tuple[Any, ...]:
        return LentSupply, (self._loan, self._length, self.keys)

    def maker(self) -> SampleMaker[Member]:
        """Return what makes samples here; opened once a process."""
        return self._loan.open().once("samples", _lent_maker)

    def loan(self) -> Loan:
        """Return the loan as it came."""
        return self._loan

    def count(self, samples: int, size: int) -> None:
        """Count nothing: the lender does."""

    def close(self) -> None:
        """Do nothing: the lender closes."""


def _lent_maker(loan: OpenLoan) -> SampleMaker[Member]:
    # Safe: whoever could change the payload could change the pickle that it came in.
    plan: Plan[Member] = pickle.loads(loan.payload)  # noqa: S301
    return SampleMaker(plan, Opener(plan.wish, loan, 1))


class Opener:
    """Opens members: readers are kept, as many as bounded memory allows.

    Parameters
    ----------
    wish : Wish
        Which stack, units, fill.
    place : Place
        What reads go through.
    threads : int, optional
        That decode the frames of one read; the processors by default.
    """

    def __init__(self, wish: Wish, place: Place, threads: int | None) -> None:
        self._wish, self._place, self._threads = wish, place, threads
        self._bricks: Kept[BrickVolume] = Kept(KEPT_BRICKS, lambda volume: volume.held)
        self._frames: Kept[tuple[FrameVolume, FrameStack]] = Kept(
            KEPT_FRAMES, lambda pair: len(pair[1].refs) + SERIES_FRAMES
        )

    def __call__(self, member: Member) -> Opened:
        """Open one."""
        self._place.check()
        if member.bricks is not None:
            image = self._brick_volume(member.bricks)
            if member.mask_bricks is not None:
                mask = self._brick_volume(member.mask_bricks)
                return Opened(image, relabelled(mask, member.mask_bricks.labels))
            return Opened(image, EmptyVolume(image.shape, image.affine_ras) if member.background else None)
        volume, chosen = self._frames.get(member.series_id, lambda: self._frame_volume(member))
        painted = member.mask
        if painted is None:
            shape, affine = volume.shape, volume.affine_ras
            return Opened(volume, EmptyVolume(shape, affine) if member.background else None)
        return Opened(volume, lambda: self._painted(painted, chosen, volume))

    def _brick_volume(self, bricks: Bricks) -> BrickVolume:
        return self._bricks.get(
            bricks.ref.object_id, lambda: BrickVolume(self._brick_reader(bricks), self._place)
        )

    def _brick_reader(self, bricks: Bricks) -> BrickReader:
        key = self._place.key(bricks.key_id)
        return BrickReader(self._place.sealed(DERIVED), bricks.ref, key, bricks.layout)

    def _frame_volume(self, member: Member) -> tuple[FrameVolume, FrameStack]:
        assert member.source is not None  # noqa: S101 - a member has frames or bricks
        # Not the source's own `stacks`: those would stay for all series of the plan.
        with named_series(member.series_id):
            chosen = choose(frame_stacks(member.source.frames, member.source.layouts), self._wish.stack)
        packs = self._place.packs
        if member.copies:
            packs = CopiedPacks(packs, there(self._brick_reader, member.copies))
        reader = member.source.reader(packs, self._place, threads=self._threads)
        return FrameVolume(reader, chosen, self._wish.units, self._wish.fill), chosen

    def _painted(self, plan: MaskPlan, chosen: FrameStack, volume: FrameVolume) -> ArrayVolume:
        mask = plan.make(self._place.packs, chosen, guard=self._place)
        if self._wish.kind == "slices":
            return ArrayVolume(mask[None], volume.affine_ras)
        return volume.laid(mask)


class BrickVolume:
    """One volume of a cache.

    Parameters
    ----------
    reader : BrickReader
        Its bricks.
    place : Place
        What reads go through.
    """

    channels = 1

    def __init__(self, reader: BrickReader, place: Place) -> None:
        self._reader, self._place = reader, place
        self.shape: tuple[int, ...] = reader.shape
        self.affine_ras, self.fill = reader.affine_ras, float(reader.fill)
        self.held = BRICK_BYTES * (math.prod(reader.layout.grid) + 64)

    def read(self, start: Sequence[int], size: Sequence[int], out: Array) -> Array:
        """Fill `out` with a box."""
        self._reader.read(start, size, out[0])
        self._place.count(0, out.nbytes)
        return out


__all__ = ["Bricks", "LentSupply", "Member", "OwnPlace", "OwnSupply"]
