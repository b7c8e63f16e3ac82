"""Where frames lie: order, groups to choose among, affines.

Header to frame attributes (`frames`), frames to groups (`grouping`), a group to its grid (`slices`),
an uneven or tilted grid to an even one (`resample`); stored values to the modality's (`values`).
The public names of all of them are here.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from voxelvault.dicom.coerce import HeaderLike
from voxelvault.dicom.frames import FrameAttributes, frame_attributes, is_mosaic, pixel_aspect
from voxelvault.dicom.grouping import Part, chronological, places_along, separate
from voxelvault.dicom.resample import Resampled, resample_regular
from voxelvault.dicom.slices import (
    SAME_PLACE,
    STEP_TOLERANCE,
    Floats,
    FrameGroup,
    Indexes,
    normal_of,
    place,
)
from voxelvault.dicom.values import (
    RealWorldMap,
    padding_mask,
    real_world_maps,
    suv_factor,
    to_modality,
)
from voxelvault.errors import GeometryError, StackChoiceNeeded

COSINE_TOLERANCE = 1e-3
"""Direction cosines that differ by less are one orientation."""

SPACING_TOLERANCE = 1e-3
"""Pixel spacings that differ by less than this part are one spacing."""

_AXES = (("sagittal", 0), ("coronal", 1), ("axial", 2))


@dataclass(frozen=True, eq=False)
class Arrangement:
    """The groups of a series' frames; the one with most frames first, frames without a place last.

    Parameters
    ----------
    groups : tuple of FrameGroup
        Each frame is in exactly one.
    """

    groups: tuple[FrameGroup, ...]

    @property
    def labels(self) -> tuple[str, ...]:
        """What `choose` takes."""
        return tuple(group.label for group in self.groups)

    def choose(self, stack: int | str | None = None) -> FrameGroup:
        """Return the group that is meant.

        Parameters
        ----------
        stack : int or str, optional
            Index or label; needed as soon as there are two groups.

        Raises
        ------
        StackChoiceNeeded
            There are several groups and none is named, or no such group.
        GeometryError
            There are no frames.
        """
        if not self.groups:
            raise GeometryError("there are no frames here; choose an image series")
        if stack is None and len(self.groups) == 1:
            return self.groups[0]
        if isinstance(stack, int) and 0 <= stack < len(self.groups):
            return self.groups[stack]
        for group in self.groups:
            if stack == group.label:
                return group
        raise StackChoiceNeeded(
            f"{_complaint(stack, self.groups)}; pass stack= one of {_choices(self.labels)}"
        )


def arrange(frames: Sequence[FrameAttributes]) -> Arrangement:
    """Sort frames into volumes: by orientation, contrast and time, then along the normal.

    The result does not depend on the order in which the frames come, as long as their instance
    numbers differ.

    Parameters
    ----------
    frames : sequence of FrameAttributes
        Frames of equal size, in any order.

    Returns
    -------
    Arrangement
        `order` of each group holds indexes into `frames`.

    References
    ----------
    DICOM PS3.3 C.7.6.2.1.1 (position and orientation).
    """
    groups: list[FrameGroup] = []
    for members in _by_plane(frames):
        groups += _volumes(frames, members)
    flat = [i for i, frame in enumerate(frames) if _plane(frame) is None]
    groups = _named(groups)
    if flat:
        groups.append(_without_place(frames, flat, alone=not groups))
    return Arrangement(_uniquely(groups))


def plane_name(orientation: Floats) -> str:
    """Name the plane: axial, coronal or sagittal, with `oblique` when more than 5 degrees off.

    Parameters
    ----------
    orientation : ndarray
        float64, shape (6,).
    """
    normal = np.abs(normal_of(orientation))
    name, axis = max(_AXES, key=lambda pair: normal[pair[1]])
    return name if normal[axis] > np.cos(np.radians(5)) else f"oblique {name}"


def _plane(frame: FrameAttributes) -> tuple[float, ...] | None:
    """Return orientation and spacing, what frames of one volume share."""
    if frame.position is None or frame.orientation is None:
        return None
    return (*frame.orientation, *(frame.pixel_spacing or (0.0, 0.0)))


def _by_plane(frames: Sequence[FrameAttributes]) -> list[list[int]]:
    """Cluster frames by orientation and pixel spacing; largest cluster first."""
    by_value: dict[tuple[float, ...], list[int]] = defaultdict(list)
    # In the order of their making, so that groups come out the same however the frames came in.
    for i in sorted(range(len(frames)), key=lambda i: chronological(frames[i], i)):
        plane = _plane(frames[i])
        if plane is not None:
            by_value[plane].append(i)
    centres = np.empty((len(by_value), 8))
    clusters: list[list[int]] = []
    for plane, members in by_value.items():
        known = _nearest(centres[: len(clusters)], np.array(plane))
        if known is None:
            centres[len(clusters)] = plane
            clusters.append(list(members))
        else:
            clusters[known] += members
    return sorted(clusters, key=len, reverse=True)


def _nearest(centres: Floats, plane: Floats) -> int | None:
    """Return the first cluster that the plane belongs to."""
    near = np.abs(centres[:, :6] - plane[:6]).max(axis=1, initial=0) <= COSINE_TOLERANCE
    near &= (np.abs(centres[:, 6:] - plane[6:]) <= SPACING_TOLERANCE * plane[6:]).all(axis=1)
    return int(near.argmax()) if near.any() else None


def _volumes(frames: Sequence[FrameAttributes], members: Sequence[int]) -> list[FrameGroup]:
    """Split frames of one plane into volumes and place each."""
    first = frames[members[0]]
    orientation = np.array(first.orientation)
    positions = np.full((len(frames), 3), np.nan)
    positions[list(members)] = [frames[i].position for i in members]
    places = [-1] * len(frames)
    along = places_along(positions[list(members)] @ normal_of(orientation), SAME_PLACE)
    for i, number in zip(members, along, strict=True):
        places[i] = number
    parts = separate(frames, members, places)
    return [_group(frames, part, positions, orientation) for part in parts]


def _group(
    frames: Sequence[FrameAttributes], part: Part, positions: Floats, orientation: Floats
) -> FrameGroup:
    members: Indexes = np.array(
        sorted(part.members, key=lambda i: chronological(frames[i], i)), dtype=np.int32
    )
    first = frames[members[0]]
    keys = {"orientation": plane_name(orientation), **dict(part.keys)}
    group = place(
        _label(part.keys),
        keys,
        members,
        positions[members],
        orientation,
        first.pixel_spacing,
        first.slice_thickness,
    )
    if part.certain:
        return group
    reason = "places repeat unequally often and no attribute tells the repetitions apart"
    return replace(group, regular=False, spacing=None, tilt=(0.0, 0.0), reason=reason)


def _without_place(frames: Sequence[FrameAttributes], members: Sequence[int], alone: bool) -> FrameGroup:
    """Group frames that lie nowhere, in order of their making."""
    order: Indexes = np.array(sorted(members, key=lambda i: chronological(frames[i], i)), dtype=np.int32)
    mosaic = any("MOSAIC" in frames[i].image_type for i in members)
    reason = (
        "a Siemens mosaic holds tiles of many slices in one frame, which is no single plane"
        if mosaic
        else "the header gives these frames no position or orientation in the patient"
    )
    spacings = {frames[i].pixel_spacing for i in members}
    return FrameGroup(
        "frames" if alone else "frames without position",
        {},
        order,
        np.full((len(order), 3), np.nan),
        pixel_spacing=spacings.pop() if len(spacings) == 1 else None,
        reason=reason,
    )


def _label(keys: Sequence[tuple[str, str | float]]) -> str:
    units = {"echo": " ms", "inversion time": " ms"}
    parts = [
        f"{name} {value:g}{units.get(name, '')}" if isinstance(value, float) else f"{name} {value.lower()}"
        for name, value in keys
    ]
    return ", ".join(parts)


def _named(groups: Sequence[FrameGroup]) -> list[FrameGroup]:
    """Put the plane's name before the label where orientations differ."""
    planes = {tuple(group.orientation.round(3)) for group in groups if group.orientation is not None}
    several = len(planes) > 1
    named = []
    for group in groups:
        plane = str(group.keys["orientation"])
        parts = [plane] if several or not group.label else []
        named.append(replace(group, label=", ".join([*parts, group.label] if group.label else parts)))
    return named


def _uniquely(groups: Sequence[FrameGroup]) -> tuple[FrameGroup, ...]:
    """Add a number to labels that groups would share."""
    total = Counter(group.label for group in groups)
    seen: Counter[str] = Counter()
    unique = []
    for group in groups:
        seen[group.label] += 1
        again = total[group.label] > 1
        unique.append(replace(group, label=f"{group.label} #{seen[group.label]}") if again else group)
    return tuple(unique)


def _complaint(stack: int | str | None, groups: Sequence[FrameGroup]) -> str:
    if stack is None:
        return f"these frames make {len(groups)} separate stacks"
    return "there is no such stack"


def _choices(labels: Sequence[str]) -> str:
    shown = [f"{number} ({label})" for number, label in enumerate(labels[:8])]
    return ", ".join(shown) + (f" … {len(labels) - 1}" if len(labels) > 8 else "")


__all__ = [
    "COSINE_TOLERANCE",
    "SAME_PLACE",
    "SPACING_TOLERANCE",
    "STEP_TOLERANCE",
    "Arrangement",
    "FrameAttributes",
    "FrameGroup",
    "HeaderLike",
    "RealWorldMap",
    "Resampled",
    "arrange",
    "frame_attributes",
    "is_mosaic",
    "padding_mask",
    "pixel_aspect",
    "plane_name",
    "real_world_maps",
    "resample_regular",
    "suv_factor",
    "to_modality",
]
