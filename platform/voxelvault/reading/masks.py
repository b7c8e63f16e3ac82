"""Segments and contours onto a series' grid: by frame of reference and position, never by index.

Everything here works from packs alone, so a worker process that was lent packs makes the same masks
as the vault's own process; `segments` says what a vault holds.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from voxelvault.dicom.mask_contours import contour_step, paint_contours
from voxelvault.dicom.mask_grid import Grid, grid_of
from voxelvault.dicom.mask_planes import Planes, paint_planes, planes_of
from voxelvault.dicom.part10 import parse
from voxelvault.dicom.read import Header
from voxelvault.dicom.rtstruct import Region, read_structure_set
from voxelvault.dicom.segmentation import Segmentation, SegmentFrame, read_segmentation
from voxelvault.errors import GeometryError, NoPixels, UsageError
from voxelvault.model import MOST_LABELS
from voxelvault.reading.packs import PackSource
from voxelvault.reading.stacks import FrameStack
from voxelvault.storage.pack_reader import PackReader

if TYPE_CHECKING:
    from voxelvault.reading.volumes import Guard

Array = npt.NDArray[Any]


@dataclass(frozen=True, slots=True)
class MaskSource:
    """One stored object, and which of its segments become which value: opaque ids and numbers only.

    Parameters
    ----------
    kind : str
        SEG or RTSTRUCT.
    instance_id, pack_id, series_id : str
        Where it is stored.
    values : tuple of (int, int)
        Segment or ROI number, and the value in the mask; later ones cover earlier ones.
    refers : bool
        It names the series that the mask is for: contours were drawn on its slices.
    """

    kind: str
    instance_id: str
    pack_id: str
    series_id: str
    values: tuple[tuple[int, int], ...]
    refers: bool = True


@dataclass(frozen=True, slots=True)
class MaskPlan:
    """How the mask of one series is made; small, and pickles without a name or UID.

    Parameters
    ----------
    sources : tuple of MaskSource
        Painted in this order.
    """

    sources: tuple[MaskSource, ...]

    @property
    def pack_ids(self) -> tuple[str, ...]:
        """PackSource that it reads, beside those of the series."""
        return tuple(sorted({source.pack_id for source in self.sources}))

    @property
    def series_ids(self) -> tuple[str, ...]:
        """Series that it reads, for the handle that must cover them."""
        return tuple(sorted({source.series_id for source in self.sources}))

    def make(
        self,
        packs: PackSource,
        stack: FrameStack,
        *,
        fractional: bool = False,
        guard: Guard | None = None,
    ) -> Array:
        """Make the mask of a volume.

        Parameters
        ----------
        packs : PackSource
            Readers of the sources' packs and of the volume's.
        stack : FrameStack
            The volume.
        fractional : bool
            The stored fraction instead of a label: one label only.
        guard : Guard, optional
            The handle or open loan that the reads go under.

        Returns
        -------
        ndarray
            (slice, row, column) uint8 labels, or float32 from 0 to 1.

        Raises
        ------
        GeometryError
            A source lies in another frame of reference, or has no place.
        UsageError
            A fraction of several labels, or more labels than fit.
        NoPixels
            A segmentation's frames can't be decoded.
        """
        labels = {value for source in self.sources for _, value in source.values}
        if fractional and len(labels) > 1:
            raise UsageError("fractions of several labels don't go into one array; ask for one label")
        if len(labels) > MOST_LABELS:
            raise UsageError(f"a mask holds {MOST_LABELS} labels; ask for fewer at once")
        if guard is not None:
            guard.check()
        target = Target(packs, stack, guard)
        out = np.zeros(target.shape, np.float32 if fractional else np.uint8)
        for source in self.sources:
            _PAINTERS[source.kind](packs, source, target, out)
        return out


class Target:
    """The volume that a mask is for.

    Parameters
    ----------
    packs : PackSource
        Readers of the volume's packs; their manifests name its instances.
    stack : FrameStack
        The volume.
    guard : Guard, optional
        Counts what is read.
    """

    def __init__(self, packs: PackSource, stack: FrameStack, guard: Guard | None = None) -> None:
        self._packs = packs
        self._stack = stack
        self._guard = guard
        self.shape = (len(stack.refs), stack.layout.rows, stack.layout.columns)

    def count(self, stored: Array) -> None:
        """Count frames that were read for it."""
        if self._guard is not None:
            self._guard.count(len(stored), stored.nbytes)

    def grid(self) -> Grid:
        """Return where its voxels lie; `GeometryError` where they lie nowhere."""
        return grid_of(self._stack.group, *self.shape[1:])

    def frame_of_reference(self) -> str | None:
        """Return its frame of reference; `GeometryError` where slices have several."""
        found = {frame.mark("FrameOfReferenceUID") for frame in self._stack.attributes}
        if len(found) > 1:
            raise GeometryError(
                "the slices of this stack lie in several frames of reference; no mask fits all"
            )
        uid = found.pop() if found else None
        return None if uid is None else str(uid)

    def slices(self) -> Mapping[tuple[str, int | None], list[int]]:
        """Return which slices show an image: by SOPInstanceUID and FrameNumber, None for any frame."""
        uids = {
            record.instance_id: record.sop_instance_uid
            for pack_id in {ref.pack_id for ref in self._stack.refs}
            for record in self._packs.reader(pack_id).manifest.instances
        }
        found: dict[tuple[str, int | None], list[int]] = {}
        for index, ref in enumerate(self._stack.refs):
            uid = uids[ref.instance_id]
            found.setdefault((uid, ref.number + 1), []).append(index)
            found.setdefault((uid, None), []).append(index)
        return found


def _header(reader: PackReader, instance_id: str) -> tuple[Header, bytes | bytearray | memoryview]:
    """Return an instance's header and the data set that it was read from."""
    part10 = parse(reader.literal_head(reader.manifest.instance(instance_id)))
    return Header.from_part10(part10), part10.data


def _same_space(theirs: str | None, ours: str | None) -> bool:
    """Tell whether positions of both mean the same mm; False where one says nothing of it."""
    if theirs and ours and theirs != ours:
        raise GeometryError(
            "the segmentation lies in another frame of reference than this series; register the two first"
        )
    return bool(theirs and ours)


def _paint_segmentation(packs: PackSource, source: MaskSource, target: Target, out: Array) -> None:
    reader = packs.reader(source.pack_id)
    segmentation = read_segmentation(_header(reader, source.instance_id)[0])
    frames = _Frames(reader, source.instance_id, segmentation, target)
    placed = any(frame.place.position is not None for frame in segmentation.frames)
    if placed and _same_space(segmentation.frame_of_reference, target.frame_of_reference()):
        _by_position(frames, source, target, out)
    else:
        _by_reference(frames, source, target, out)


def _by_position(frames: _Frames, source: MaskSource, target: Target, out: Array) -> None:
    grid, all_frames = target.grid(), frames.segmentation.frames
    families = planes_of([frame.place for frame in all_frames], frames.segmentation.step, grid)
    for numbers, wanted in frames.turns(source.values):
        for planes in families:
            here = [
                k for k, index in enumerate(planes.members) if all_frames[index].segment in (*numbers, None)
            ]
            here = _of_this_stack(all_frames, planes, here, target)
            if here:
                indexes = [int(planes.members[k]) for k in here]
                paint_planes(out, grid, planes, here, frames.values(indexes, wanted, out.dtype))


def _of_this_stack(
    frames: Sequence[SegmentFrame], planes: Planes, chosen: list[int], target: Target
) -> list[int]:
    """Where frames repeat at one place (time points, echoes), keep those that were drawn on this stack."""
    at = Counter((int(planes.at[k]), planes.origins[k].round(2).tobytes()) for k in chosen)
    if not at or max(at.values()) == 1:
        return chosen
    shown = target.slices()
    own = [k for k in chosen if any(image in shown for image in frames[planes.members[k]].sources)]
    return own or chosen


def _by_reference(frames: _Frames, source: MaskSource, target: Target, out: Array) -> None:
    """Lay frames without a place in the patient on the very images that they were drawn on."""
    shown, every = target.slices(), frames.segmentation.frames
    drawn = [
        {index for image in frame.sources for index in shown.get(image, ())} if frame.same_pixels else set()
        for frame in every
    ]
    if frames.shape != target.shape[1:] or not any(drawn):
        raise GeometryError(
            "the segmentation has no place in this series: no common frame of reference, and it names none"
            " of these images as the one whose pixels it labels"
        )
    for numbers, wanted in frames.turns(source.values):
        indexes = [i for i, frame in enumerate(every) if drawn[i] and frame.segment in (*numbers, None)]
        for index, pixels in zip(indexes, frames.values(indexes, wanted, out.dtype), strict=True):
            for slice_index in drawn[index]:
                np.copyto(out[slice_index], pixels, where=pixels != 0)


@dataclass(frozen=True, slots=True)
class _Frames:
    """The frames of a stored segmentation, and what becomes of their pixels."""

    reader: PackReader
    instance_id: str
    segmentation: Segmentation
    target: Target

    @property
    def shape(self) -> tuple[int, int]:
        """(row, column)."""
        spec = self.reader.manifest.stacks[self._stack()[0]].key.spec
        return spec.rows, spec.columns

    def turns(
        self, values: Sequence[tuple[int, int]]
    ) -> Iterable[tuple[tuple[int, ...], Sequence[tuple[int, int]]]]:
        """Yield segment numbers to be painted together: each on its own, a label map's all at once."""
        if self.segmentation.kind == "LABELMAP":
            yield tuple(number for number, _ in values), values
        else:
            yield from (((number,), ((number, value),)) for number, value in values)

    def values(
        self, indexes: Sequence[int], wanted: Sequence[tuple[int, int]], dtype: np.dtype[Any]
    ) -> Array:
        """Read frames and give each pixel its value in the mask, or its fraction."""
        stored = self._stored(indexes)
        kind, full = self.segmentation.kind, self.segmentation.full
        if kind == "LABELMAP":
            found = np.zeros(stored.shape, dtype)
            for number, value in wanted:
                found[stored == number] = 1 if dtype.kind == "f" else value
            return found
        if dtype.kind == "f":
            return np.asarray(np.minimum(stored / np.float32(full), 1), dtype)
        # Half of the full fraction counts as inside.
        inside = stored.astype(np.uint32) * 2 >= full
        return np.asarray(np.where(inside, wanted[0][1], 0), dtype)

    def _stored(self, indexes: Sequence[int]) -> Array:
        stack, first, count = self._stack()
        key = self.reader.manifest.stacks[stack].key
        if key.spec.samples != 1 or max(indexes, default=0) >= count:
            raise NoPixels("the segmentation has fewer or other pixels than its header says")
        stored = np.empty((len(indexes), *key.shape), np.dtype(key.dtype))
        if indexes:
            self.reader.read(stack, [first + index for index in indexes], stored)
            self.target.count(stored)
        return stored

    def _stack(self) -> tuple[int, int, int]:
        record = self.reader.manifest.instance(self.instance_id)
        if record.stack < 0:
            raise NoPixels("the segmentation has no pixels that can be decoded; `export` gives its file")
        return record.stack, record.first, record.count


def _paint_structures(packs: PackSource, source: MaskSource, target: Target, out: Array) -> None:
    structures = read_structure_set(*_header(packs.reader(source.pack_id), source.instance_id))
    grid, ours = target.grid(), target.frame_of_reference()
    regions = {region.number: region for region in structures.regions}
    every = [points for region in structures.regions for points in region.contours if len(points) > 2]
    step = None if source.refers else contour_step(every, grid)
    for number, value in source.values:
        region = regions[number]
        _check_region(region, ours)
        paint_contours(out, grid, region.contours, 1 if out.dtype.kind == "f" else value, step)


def _check_region(region: Region, ours: str | None) -> None:
    if not _same_space(region.frame_of_reference, ours):
        raise GeometryError("the contours or this series name no frame of reference: nothing places them")
    if not region.contours and region.others:
        raise GeometryError("this region has points or lines only; a mask needs closed contours")


_PAINTERS = {"SEG": _paint_segmentation, "RTSTRUCT": _paint_structures}


def without_repeats(sources: Iterable[MaskSource]) -> tuple[MaskSource, ...]:
    """Join sources of one instance that follow each other, so that its header is read once."""
    found: list[MaskSource] = []
    for source in sources:
        if found and found[-1].instance_id == source.instance_id:
            found[-1] = replace(found[-1], values=found[-1].values + source.values)
        else:
            found.append(source)
    return tuple(found)


__all__ = ["MaskPlan", "MaskSource", "Target", "without_repeats"]
