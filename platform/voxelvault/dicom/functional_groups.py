"""Enhanced objects: an attribute of a frame from its own groups, the shared ones, or the root.

The nearest statement counts (PS3.3 C.7.6.16.1.1).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from voxelvault.dicom.coerce import HeaderLike, as_number, as_text, as_texts, first_item

FRAME_TYPES = (
    "MRImageFrameTypeSequence",
    "CTImageFrameTypeSequence",
    "PETFrameTypeSequence",
    "XAXRFFrameCharacteristicsSequence",
    "ParametricMapFrameTypeSequence",
    "MRSpectroscopyFrameTypeSequence",
)
"""Groups that may hold a FrameType."""


class Lookup:
    """Finds an attribute in a frame's own groups, the shared ones, or at the root.

    Parameters
    ----------
    own, shared : HeaderLike, optional
        Items of the per-frame and the shared functional groups.
    root : HeaderLike
        The header itself.
    """

    def __init__(self, own: HeaderLike | None, shared: HeaderLike | None, root: HeaderLike) -> None:
        self._groups = tuple(group for group in (own, shared) if group is not None)
        self._root = root

    def items(self, sequence: str) -> Iterator[HeaderLike]:
        """Yield the sequence's first item, from the nearest group on."""
        for group in self._groups:
            item = first_item(group, sequence)
            if item is not None:
                yield item

    def values(self, sequence: str, keyword: str) -> Sequence[Any]:
        """Return all values of the nearest place that has any."""
        for item in self.items(sequence):
            found = item.values(keyword)
            if found:
                return found
        return self._root.values(keyword)

    def get(self, sequence: str, keyword: str) -> Any:
        """Return the first value of the nearest place that has any."""
        return next(iter(self.values(sequence, keyword)), None)

    def of_root(self, keyword: str) -> Any:
        """Return the header's own first value, of an attribute that is in no group."""
        return self._root.get(keyword)

    def group_value(self, sequence: str, keyword: str) -> Any:
        """Return the first value in the frame's groups, never the root's."""
        found = (item.get(keyword) for item in self.items(sequence))
        return next((value for value in found if value is not None), None)

    def image_type(self) -> tuple[str, ...]:
        """Return FrameType, or ImageType."""
        for sequence in FRAME_TYPES if self._groups else ():
            for item in self.items(sequence):
                if item.values("FrameType"):
                    return as_texts(item.values("FrameType"))
        return as_texts(self._root.values("ImageType"))


def rescale(look: Lookup, modality: str, image_type: Sequence[str]) -> tuple[float, float, str | None]:
    """Return slope, intercept and unit (PS3.3 C.11.1.1.2; C.8.9.1.1.3 Units; C.8.8.3 DoseUnits)."""
    sequence = "PixelValueTransformationSequence"
    if modality == "RTDOSE":
        scaling = as_number(look.get(sequence, "DoseGridScaling"))
        return (scaling, 0.0, as_text(look.get(sequence, "DoseUnits"))) if scaling else (1.0, 0.0, None)
    slope = as_number(look.get(sequence, "RescaleSlope"))
    if not slope:  # absent, or zero, which would erase the image
        return 1.0, 0.0, None
    intercept = as_number(look.get(sequence, "RescaleIntercept")) or 0.0
    unit = as_text(look.get(sequence, "RescaleType")) or as_text(look.of_root("Units"))
    if unit is None and modality == "CT" and "LOCALIZER" not in image_type:
        unit = "HU"
    return slope, intercept, unit
