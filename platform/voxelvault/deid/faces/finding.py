"""Faces of one study: its slices are looked at once, small, and each frame of reference gets one mask.

References
----------
DICOM PS3.3 C.7.4.1 (frame of reference); PS3.15 E.3.2 (clean recognizable visual features).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from voxelvault.deid.faces.grid import Plane, Slice, on_grid
from voxelvault.deid.faces.head import find_head
from voxelvault.deid.faces.mask import FaceMask, face_of
from voxelvault.deid.model import Refused
from voxelvault.dicom.frames import FrameAttributes, frame_attributes
from voxelvault.dicom.read import Header

MODALITIES = ("CT", "MR", "PT")
"""In the order in which one is believed: bone shows best where a brain ends."""

LEAST_SLICES = 8

FINE = 2.0
"""mm between pixels that are looked at."""

_SCREENS = "1.2.840.10008.5.1.4.1.1.7"
"""Secondary capture, and below it its multi-frame classes."""


@dataclass(slots=True)
class FaceFinder:
    """Takes the frames of one study, and finds the faces in them."""

    _series: dict[tuple[str, str, str, tuple[float, ...]], list[Slice]] = field(default_factory=dict)

    def wants(self, header: Header) -> bool:
        """Say whether an object's pixels are worth looking at: a slice of a body, in a known place."""
        return header.get("Modality") in MODALITIES and bool(header.get("FrameOfReferenceUID"))

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
        reference, series = str(header.get("FrameOfReferenceUID")), str(header.get("SeriesInstanceUID"))
        for place, frame in zip(frame_attributes(header, len(frames)), frames, strict=True):
            plane = plane_of(place)
            if plane is None:
                continue
            key = (reference, str(header.get("Modality")), series, tuple(np.round(plane.orientation, 3)))
            self._series.setdefault(key, []).append(_small(plane, frame, place))

    def masks(self) -> Mapping[str, FaceMask]:
        """Return the mask of each frame of reference in which a face can be made out."""
        found: dict[str, FaceMask] = {}
        order = sorted(self._series.items(), key=lambda one: (MODALITIES.index(one[0][1]), -len(one[1])))
        for (reference, modality, _, _), slices in order:
            if reference in found:
                continue
            stack = _stack(slices)
            head = find_head(on_grid(stack), hounsfield=modality == "CT") if stack else None
            mask = face_of(head) if head is not None else None
            if mask is not None:
                found[reference] = mask
        return found


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


def face_on(
    masks: Mapping[str, FaceMask], header: Header, shape: tuple[int, ...]
) -> npt.NDArray[np.bool_] | None:
    """Return what is to be blanked on one object's frames.

    Parameters
    ----------
    masks : mapping
        As `FaceFinder.masks` gave them for the object's study.
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
    mask = masks.get(str(header.get("FrameOfReferenceUID") or ""))
    if mask is None:
        if masks and _pictures_a_head(header):
            raise Refused("face_unmapped")
        return None
    planes = [plane_of(place) for place in frame_attributes(header, shape[0])]
    if any(plane is None for plane in planes):
        raise Refused("face_unmapped")
    found = np.stack([mask.on(plane, (shape[1], shape[2])) for plane in planes if plane is not None])
    return found if found.any() else None


def _pictures_a_head(header: Header) -> bool:
    """Say whether an object without a known place may be a rendering of the face."""
    derived = "DERIVED" in header.values("ImageType")
    screen = str(header.get("SOPClassUID") or "").startswith(_SCREENS)
    return screen or (derived and header.get("Modality") in MODALITIES)


def touches(mask: FaceMask, points: npt.NDArray[np.float64]) -> bool:
    """Say whether points (n, 3), mm (LPS), such as a contour's, lie on the face."""
    return bool(len(points)) and bool(mask.at(points).any())


__all__ = ["FaceFinder", "face_on", "plane_of", "touches"]
