"""Samples out of volumes: the arrays of one index of a plan, and nothing that knows how they are stored."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Generic, TypeVar

import numpy as np
import numpy.typing as npt

from voxelvault.training.patches import (
    Array,
    Box,
    Foreground,
    balanced_start,
    cut,
    foreground_of,
    moved_affine,
    random_start,
)
from voxelvault.training.plan import Plan, Unit
from voxelvault.training.volumes import ArrayVolume, EmptyVolume, FrameVolume, Kept, Volume

M = TypeVar("M")

Room = Callable[[str, tuple[int, ...], npt.DTypeLike], Array]
"""Called as ``room(key, shape, dtype)``: memory for one array of a sample, its content of no matter."""

POINTS_LIMIT = 64 << 20
"""Bytes of foreground voxels that a process remembers; a volume has at most 48 KiB a class."""


@dataclass(frozen=True, slots=True)
class Opened:
    """One member of a unit, open.

    Parameters
    ----------
    image : FrameVolume or Volume
        Frames may lie unevenly; any other volume is on an even grid.
    mask : Volume or callable, optional
        One channel, uint8, on the image's grid once that is even (slices: as it is); or what makes it,
        and then it is kept for a while.
    """

    image: FrameVolume | Volume
    mask: Volume | Callable[[], ArrayVolume] | None = None


@dataclass(frozen=True, slots=True)
class _Placed:
    """What a unit's members are read from."""

    images: Mapping[str, Volume]
    mask: Volume | None


class SampleMaker(Generic[M]):
    """Makes samples of a plan.

    Parameters
    ----------
    plan : Plan
        Which samples there are.
    opener : callable
        Opens a member of a unit.
    """

    def __init__(self, plan: Plan[M], opener: Callable[[M], Opened]) -> None:
        self._plan, self._opener = plan, opener
        self._volumes: Kept[ArrayVolume] = Kept(plan.wish.memory, lambda volume: volume.nbytes)
        self._points: Kept[Foreground] = Kept(POINTS_LIMIT, lambda points: points.nbytes + 256)

    def sample(self, index: int, generator: np.random.Generator, room: Room | None = None) -> dict[str, Any]:
        """Return the arrays of one sample, with ids, affine and label.

        Parameters
        ----------
        index : int
            0 to the plan's length.
        generator : Generator
            What a patch's place is drawn from.
        room : callable, optional
            Gives the memory of images and masks; NumPy's own by default.
        """
        unit, part = self._plan.find(index)
        kind = self._plan.wish.kind
        made = {"slices": self._slice, "volumes": self._volume, "patches": self._patch}[kind](
            unit, part, generator, room or _fresh
        )
        label = unit.labels[part if len(unit.labels) > 1 else 0]
        if label is not None:
            made["label"] = label
        return made | {"id": unit.id, "subject": unit.subject_id}

    def _slice(self, unit: Unit[M], part: int, _: np.random.Generator, room: Room) -> dict[str, Any]:
        [(key, member)] = unit.members.items()
        own = self._opener(member)
        volume = own.image
        size = (1, *volume.shape[1:])
        found: dict[str, Any] = {key: room(key, (volume.channels, *size[1:]), np.float32)}
        volume.read((part, 0, 0), size, found[key][:, None])
        mask = self._mask(unit, own)
        if mask is not None:
            found["mask"] = room("mask", (1, *size[1:]), np.uint8)
            mask.read((part, 0, 0), size, found["mask"][:, None])
        affine = volume.slice_affine(part) if isinstance(volume, FrameVolume) else volume.affine_ras
        return found | {"affine_ras": affine, "slice": part}

    def _volume(self, unit: Unit[M], _: int, __: np.random.Generator, room: Room) -> dict[str, Any]:
        placed = self._placed(unit, keep=False)
        found: dict[str, Any] = {
            key: _all_of(volume, partial(room, key)) for key, volume in placed.images.items()
        }
        if placed.mask is not None:
            found["mask"] = _whole(placed.mask, partial(room, "mask"), np.uint8)
        return found | {"affine_ras": _affines({k: v.affine_ras for k, v in placed.images.items()})}

    def _patch(self, unit: Unit[M], _: int, generator: np.random.Generator, room: Room) -> dict[str, Any]:
        placed = self._placed(unit, keep=True)
        key, first = next(iter(placed.images.items()))
        size = self._plan.wish.patch_size
        start = self._start(unit, first, placed.mask, generator)
        starts = {key: start} | {
            other: _same_place(first, start, volume, size)
            for other, volume in placed.images.items()
            if other != key
        }
        found: dict[str, Any] = {
            name: cut(
                volume.read,
                volume.shape,
                starts[name],
                room(name, (volume.channels, *size), np.float32),
                volume.fill,
            )
            for name, volume in placed.images.items()
        }
        if placed.mask is not None:
            found["mask"] = cut(
                placed.mask.read, placed.mask.shape, start, room("mask", (1, *size), np.uint8), 0
            )
        affines = {
            name: moved_affine(volume.affine_ras, starts[name]) for name, volume in placed.images.items()
        }
        return found | {"affine_ras": _affines(affines)}

    def _start(
        self, unit: Unit[M], image: Volume, mask: Volume | None, generator: np.random.Generator
    ) -> Box:
        wish = self._plan.wish
        if wish.sampling == "random" or mask is None:
            return random_start(image.shape, wish.patch_size, generator)
        # Which voxels are remembered is the same in every process and epoch.
        points = self._points.get(
            unit.id,
            lambda: foreground_of(
                _whole(mask, np.empty, np.uint8)[0], np.random.default_rng([wish.seed, int(unit.id[:15], 16)])
            ),
        )
        return balanced_start(image.shape, wish.patch_size, points, wish.foreground, generator)

    def _placed(self, unit: Unit[M], *, keep: bool) -> _Placed:
        """Return the members' volumes on even grids; decoded ones are kept for the next patch."""
        images: dict[str, Volume] = {}
        mask: Volume | None = None
        for number, (key, member) in enumerate(unit.members.items()):
            opened = self._opener(member)
            images[key] = self._even(opened.image, (unit.id, key), keep)
            if number == 0:
                mask = self._mask(unit, opened)
                if isinstance(mask, EmptyVolume):
                    mask = EmptyVolume(images[key].shape, images[key].affine_ras)
        return _Placed(images, mask)

    def _mask(self, unit: Unit[M], opened: Opened) -> Volume | None:
        if callable(opened.mask):
            return self._volumes.get((unit.id, "mask"), opened.mask)
        return opened.mask

    def _even(self, volume: FrameVolume | Volume, name: tuple[str, str], keep: bool) -> Volume:
        if not isinstance(volume, FrameVolume):
            return volume
        if keep and volume.nbytes <= self._plan.wish.memory:
            return self._volumes.get(name, volume.whole)
        return volume if volume.even else volume.whole()


def _fresh(_: str, shape: tuple[int, ...], dtype: npt.DTypeLike) -> Array:
    return np.empty(shape, dtype)


def _all_of(volume: Volume, room: Callable[..., Array]) -> Array:
    """Return all of a volume that was made for this sample alone."""
    if isinstance(volume, ArrayVolume) and volume.values.dtype == np.float32:
        return volume.values
    return _whole(volume, room, np.float32)


def _whole(volume: Volume, room: Callable[..., Array], dtype: npt.DTypeLike) -> Array:
    """Read all of a volume."""
    return volume.read((0,) * 3, volume.shape, room((volume.channels, *volume.shape), dtype))


def _same_place(first: Volume, start: Box, other: Volume, size: Box) -> Box:
    """Return where a patch of another volume begins whose middle lies at the same mm."""
    middle = np.append(np.asarray(start) + (np.asarray(size) - 1) / 2, 1.0)
    index = np.linalg.inv(other.affine_ras) @ first.affine_ras @ middle
    # Also outside: moved inside it would show another place.
    return tuple(round(at - (length - 1) / 2) for at, length in zip(index[:3].tolist(), size, strict=True))


def _affines(affines: Mapping[str, Array]) -> Any:
    return dict(affines) if len(affines) > 1 else next(iter(affines.values()))


__all__ = ["Opened", "SampleMaker"]
