"""Faces of one study: its slices are looked at once, small, and each frame of reference gets one mask.

References
----------
DICOM PS3.3 C.7.4.1 (frame of reference); PS3.15 E.3.2 (clean recognizable visual features).
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from voxelvault.deid.faces.grid import Plane, Slice, on_grid
from voxelvault.deid.faces.head import find_head, outline_of
from voxelvault.deid.faces.mask import FaceMask, face_of
from voxelvault.deid.model import Refused
from voxelvault.dicom.frames import FrameAttributes, frame_attributes
from voxelvault.dicom.read import Header

MODALITIES = ("CT", "MR", "PT")
"""In the order in which one is believed: bone shows best where a brain ends."""

LEAST_SLICES = 8

FINE = 2.0
"""mm between pixels that are looked at."""

_STORAGE = "1.2.840.10008.5.1.4.1.1."
_CLASSES = {
    _STORAGE + one: modality
    for modality, classes in (("CT", "2 2.1 2.2"), ("MR", "4 4.1 4.3 4.4"), ("PT", "128 128.1 130"))
    for one in classes.split()
}
_SCREENS = _STORAGE + "7"
"""Secondary capture, and below it its multi-frame classes."""
_PROJECTED = re.compile(
    "(CSA )?(MIP|MINIP|3D|SSD|VRT?|MPVR|RAYSUM|CPR|CURVED.*|SHADED.*|PROJECTION( IMAGE)?"
    "|(VOLUME|SURFACE)?[ _]?RENDER.*)"
)
_Key = tuple[str, str, tuple[float, ...]]
_Places = dict[tuple[Any, ...], Slice]


@dataclass(frozen=True, slots=True)
class Faces:
    """What is known of the faces of one study.

    Parameters
    ----------
    masks : mapping of str to FaceMask
        By frame of reference, as `reference_of` names it.
    doubtful : frozenset of str
        Other frames of reference that may show a head, of which nobody can say where its face is.
    unseen : frozenset of str
        SOP Instance UIDs of slices that could not be looked at.
    searched : bool
        False where faces stay, and nobody looked for any.
    """

    masks: Mapping[str, FaceMask] = field(default_factory=dict)
    doubtful: frozenset[str] = frozenset()
    unseen: frozenset[str] = frozenset()
    searched: bool = True

    def on(self, header: Header, shape: tuple[int, ...]) -> npt.NDArray[np.bool_] | None:
        """Return what is to be blanked on one object's frames.

        Parameters
        ----------
        header : Header
            The object's own.
        shape : tuple of int
            (frame, row, column) of its pixels.

        Returns
        -------
        ndarray or None
            (frame, row, column) bool; None where the object shows no part of a face.

        Raises
        ------
        Refused
            It may show the face, and its header does not say where.
        """
        if str(header.get("SOPInstanceUID")) in self.unseen:
            raise Refused("pixels_undecodable")
        reference = reference_of(header)
        mask = self.masks.get(reference)
        if mask is None:
            if self.masks and (reference in self.doubtful or _pictures_a_head(header)):
                raise Refused("face_unmapped")
            return None
        planes = [plane_of(place) for place in frame_attributes(header, shape[0])]
        if _is_projected(header) or any(plane is None for plane in planes):
            raise Refused("face_unmapped")
        found = np.stack([mask.on(plane, (shape[1], shape[2])) for plane in planes if plane is not None])
        return found if found.any() else None

    def touch(self, points: npt.NDArray[np.floating]) -> bool:
        """Say whether points (n, 3), mm (LPS), such as a contour's, lie on a face."""
        return bool(len(points)) and any(bool(mask.at(points).any()) for mask in self.masks.values())


@dataclass(slots=True)
class FaceFinder:
    """Takes the frames of one study, and finds the faces in them."""

    _series: dict[tuple[str, _Key], _Places] = field(default_factory=dict)
    _unseen: set[str] = field(default_factory=set)

    def wants(self, header: Header) -> bool:
        """Say whether an object's pixels are worth looking at: a slice of a body, in a known place."""
        return bool(_modality(header) and reference_of(header))

    def miss(self, header: Header) -> None:
        """Take one object whose frames can't be decoded."""
        self._unseen.add(str(header.get("SOPInstanceUID")))

    def look(self, header: Header, frames: npt.NDArray[Any]) -> None:
        """Take one object.

        Parameters
        ----------
        header : Header
            Its header.
        frames : ndarray
            (frame, row, column) stored values.
        """
        if frames.ndim != 3:
            return
        reference, series = reference_of(header), str(header.get("SeriesInstanceUID"))
        for place, frame in zip(frame_attributes(header, len(frames)), frames, strict=True):
            plane = plane_of(place)
            if plane is None:
                continue
            key = (reference, _modality(header), tuple(np.round(plane.orientation, 3)))
            small = _small(plane, frame, place)
            # Of many times and contrasts at one place, one is enough.
            where = (*np.round(plane.position, 2), small.values.shape)
            self._series.setdefault((series, key), {})[where] = small

    def faces(self) -> Faces:
        """Return the mask of each frame of reference in which a face can be made out."""
        masks: dict[str, FaceMask] = {}
        told: dict[str, set[str]] = {word: set() for word in ("few", "like", "clear")}
        for (reference, modality, _), slices in self._stacks():
            if reference in masks:
                continue
            found = _judged(slices, hounsfield=modality == "CT")
            if isinstance(found, FaceMask):
                masks[reference] = found
            else:
                told[found].add(reference)
        doubtful = told["like"] | told["few"] - told["clear"]
        return Faces(masks, frozenset(doubtful - set(masks)), frozenset(self._unseen))

    def _stacks(self) -> Iterator[tuple[_Key, list[Slice]]]:
        """Yield series, the most telling first; then what several series of one direction hold together."""
        order = sorted(self._series.items(), key=lambda one: (MODALITIES.index(one[0][1][1]), -len(one[1])))
        together: dict[_Key, list[_Places]] = {}
        for (_, key), places in order:
            together.setdefault(key, []).append(places)
            yield key, list(places.values())
        for key, parts in together.items():
            if len(parts) > 1:
                yield key, [one for places in parts for one in places.values()]


def may_show(headers: Iterable[Header]) -> bool:
    """Say by the headers of one study, taken until it is sure, whether looking for faces is worth it."""
    counts: Counter[tuple[str, str]] = Counter()
    for header in headers:
        key = (reference_of(header), _modality(header))
        if all(key):
            several = str(header.get("NumberOfFrames") or 1).strip() != "1"
            counts[key] += LEAST_SLICES if several else 1
            if counts[key] >= LEAST_SLICES:
                return True
    return False


def reference_of(header: Header) -> str:
    """Return what tells a frame of reference: its UID, or the series' where there is none."""
    return str(header.get("FrameOfReferenceUID") or header.get("SeriesInstanceUID") or "")


def _modality(header: Header) -> str:
    said = str(header.get("Modality"))
    return said if said in MODALITIES else _CLASSES.get(str(header.get("SOPClassUID")), "")


def _judged(slices: Sequence[Slice], *, hounsfield: bool) -> FaceMask | str:
    """Return the mask of a face, or why there is none: ``few`` slices, ``like`` a head, ``clear``."""
    stack = _stack(slices)
    if not stack:
        return "few"
    grid = on_grid(stack)
    outline = outline_of(grid, hounsfield=hounsfield)
    if outline is None:
        return "clear"
    head = find_head(grid, outline, hounsfield=hounsfield)
    return "like" if head is None else face_of(head) or "clear"


def plane_of(place: FrameAttributes) -> Plane | None:
    """Return where a frame lies, None where its header does not say."""
    if place.position is None or place.orientation is None or place.pixel_spacing is None:
        return None
    return Plane(place.position, place.orientation, place.pixel_spacing)


def _small(plane: Plane, frame: npt.NDArray[Any], place: FrameAttributes) -> Slice:
    step = [max(1, int(FINE / spacing)) for spacing in plane.spacing]
    spacing = (plane.spacing[0] * step[0], plane.spacing[1] * step[1])
    values = frame[:: step[0], :: step[1]].astype(np.float32) * place.slope + place.intercept
    return Slice(Plane(plane.position, plane.orientation, spacing), values.astype(np.float32))


def _stack(slices: Sequence[Slice]) -> list[Slice]:
    """Return the slices of the commonest shape, one for each place; none where they are too few."""
    shapes = [one.values.shape for one in slices]
    shape = max(set(shapes), key=shapes.count)
    places = {tuple(np.round(one.plane.position, 2)): one for one in slices if one.values.shape == shape}
    return list(places.values()) if len(places) >= LEAST_SLICES else []


def _pictures_a_head(header: Header) -> bool:
    """Say whether an object without a known place may be a rendering of the face."""
    derived = "DERIVED" in header.values("ImageType")
    screen = f"{header.get('SOPClassUID')}.".startswith(f"{_SCREENS}.")
    return screen or (derived and bool(_modality(header)))


def _is_projected(header: Header) -> bool:
    """Say whether pixels show what lies in front of and behind their plane: a rendering, a projection."""
    technique = str(header.get("VolumeBasedCalculationTechnique") or "NONE").upper()
    kinds = [str(kind).upper() for kind in header.values("ImageType")]
    return technique not in ("NONE", "MPR") or any(map(_PROJECTED.fullmatch, kinds))


__all__ = ["FaceFinder", "Faces", "may_show", "plane_of", "reference_of"]
