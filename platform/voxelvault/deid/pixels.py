"""Pictures cleaned: text found and blanked until none is found any more, faces taken off.

Only objects that may hold text are searched; what a scanner measured of a body holds none. Blanked
frames of JPEG Baseline keep every block that was not touched; any other is stored uncompressed.

References
----------
DICOM PS3.15 E.3.1 (clean pixel data), PS3.3 C.7.6.1.1.2 (image type), C.7.6.3 (pixel values).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from voxelvault.deid.model import Context, Option, Refused, Rewritten
from voxelvault.deid.pixel_data import PixelData
from voxelvault.dicom.decode import DecoderPool
from voxelvault.dicom.part10 import Part10
from voxelvault.dicom.read import Header

Frames = npt.NDArray[Any]
Box = tuple[int, int, int, int, int]
"""Frame, left, top, right, bottom; in pixels, right and bottom excluded."""

LOOKS = 4
"""How often a picture is looked at before it is given up."""

_RISKY_MODALITIES = frozenset(
    "US IVUS SC XA RF XC ES GM SM OP OPT OPV OT CR DX MG IO PX RG DG DOC HC TG LS DMS BI EPS HD".split()
)
_RISKY_CLASSES = ("1.2.840.10008.5.1.4.1.1.7", "1.2.840.10008.5.1.4.1.1.77.1", "1.2.840.10008.5.1.4.1.1.6")
_MEASURED = frozenset(["CT", "MR", "PT", "NM", "SEG", "RTDOSE", "REG", "PMAP"])


class TextFinder(Protocol):
    """Finds text in frames that is not harmless."""

    def find(self, frames: Frames, header: Header, harmless: Callable[[str], bool]) -> Sequence[Box]:
        """Return boxes to be blanked in (frame, row, column[, 3]) stored values."""


@dataclass(frozen=True, slots=True)
class PixelReport:
    """What was done to the pixels of one object.

    Parameters
    ----------
    verdict : str
        ``not_searched``, ``clean`` (nothing was found) or ``blanked``.
    boxes : tuple of Box
        What was blanked.
    before, after : ndarray or None
        The frames, where something was blanked.
    """

    verdict: str
    boxes: tuple[Box, ...] = ()
    before: Frames | None = field(default=None, repr=False)
    after: Frames | None = field(default=None, repr=False)


@dataclass(frozen=True)
class PixelCleaner:
    """Cleans the pixels of objects.

    Parameters
    ----------
    pool : DecoderPool
        Decodes codestreams in child processes.
    finder : TextFinder
        Finds text.
    """

    pool: DecoderPool
    finder: TextFinder

    def frames(self, part10: Part10, header: Header) -> Frames:
        """Return the stored values of a file, for those who only look.

        Raises
        ------
        Refused
            They can't be decoded.
        """
        return PixelData.of(part10, header).frames(self.pool)

    def put(
        self,
        part10: Part10,
        header: Header,
        rewritten: Rewritten,
        context: Context,
        face: npt.NDArray[np.bool_] | None,
    ) -> PixelReport:
        """Put the pixels of a file into its rewritten data set.

        Parameters
        ----------
        part10, header : Part10, Header
            The file as it came.
        rewritten : Rewritten
            Gets the pixels, and what was done to them.
        context : Context
            Says which text is harmless.
        face : ndarray or None
            (frame, row, column) bool: what is face.

        Raises
        ------
        Refused
            They can't be decoded, or text stays readable.
        """
        pixels = PixelData.of(part10, header)
        searched = may_hold_text(header)
        if not searched and face is None:
            pixels.pass_on(rewritten.dataset)
            return PixelReport("not_searched")
        before = pixels.frames(self.pool)
        after, boxes = before, list[Box]()
        if searched:
            after, boxes = self._blanked(before, header, pixels, context)
            rewritten.applied.add(Option.CLEAN_PIXELS.code)
        if face is not None:
            after = _without_face(after, face)
        if after is before:
            pixels.pass_on(rewritten.dataset)
        else:
            pixels.put(rewritten.dataset, after)
        verdict = "blanked" if boxes else "clean" if searched else "not_searched"
        return PixelReport(verdict, tuple(boxes), before if boxes else None, after if boxes else None)

    def clean_page(self, context: Context) -> Callable[[Frames], Frames]:
        """Return what cleans one page of a document: (row, column, 3) uint8."""

        def clean(page: Frames) -> Frames:
            frames, _ = self._until_clean(page[None], Header({}), context, 0)
            return np.asarray(frames[0])

        return clean

    def _blanked(
        self, frames: Frames, header: Header, pixels: PixelData, context: Context
    ) -> tuple[Frames, list[Box]]:
        return self._until_clean(frames, header, context, _blank_value(frames, pixels))

    def _until_clean(
        self, frames: Frames, header: Header, context: Context, value: Any
    ) -> tuple[Frames, list[Box]]:
        """Blank what is found, and look again until nothing is."""
        boxes: list[Box] = []
        for _ in range(LOOKS):
            found = self.finder.find(frames, header, context.cleaner.harmless)
            if not found:
                return frames, boxes
            frames = frames.copy() if not boxes else frames
            for frame, left, top, right, bottom in found:
                frames[frame, top:bottom, left:right] = value
            boxes += found
        raise Refused("pixels_unclean")


def may_hold_text(header: Header) -> bool:
    """Say whether text may be burned into an object's pixels.

    Parameters
    ----------
    header : Header
        Of an image.
    """
    if header.get("BurnedInAnnotation") == "YES":
        return True
    sop_class, modality = str(header.get("SOPClassUID") or ""), str(header.get("Modality") or "")
    if sop_class.startswith(_RISKY_CLASSES) or modality in _RISKY_MODALITIES:
        return True
    if modality not in _MEASURED or int(header.get("SamplesPerPixel") or 1) > 1:
        return True
    # Dose sheets, screens and pictures of results call themselves derived, secondary ones.
    return [str(value) for value in header.values("ImageType")[:2]] == ["DERIVED", "SECONDARY"]


def _blank_value(frames: Frames, pixels: PixelData) -> Any:
    """Return black, as the object's pixels code it."""
    spec = pixels.spec
    if spec.samples == 3 and pixels.photometric.startswith("YBR"):
        return np.array([0, 128, 128], frames.dtype)
    if spec.photometric == "MONOCHROME1":
        return frames.max()
    return frames.min() if spec.samples == 1 and spec.photometric == "MONOCHROME2" else 0


def _without_face(frames: Frames, face: npt.NDArray[np.bool_]) -> Frames:
    if frames.shape[:3] != face.shape:
        raise Refused("face_unmapped")
    made = frames.copy()
    made[face] = frames.min()
    return made


__all__ = ["Box", "PixelCleaner", "PixelReport", "TextFinder", "may_hold_text"]
