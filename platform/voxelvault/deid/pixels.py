"""Pictures cleaned: text found and blanked until none is found any more, faces taken off.

Only objects that may hold text are searched; what a scanner measured of a body holds none. Changed
frames are written as they came where that loses nothing, else uncompressed.

References
----------
DICOM PS3.15 E.3.1 (clean pixel data), PS3.3 C.7.6.3 (pixel values).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
from pydicom.uid import UID

from voxelvault.deid.blanking import (
    black,
    coded_again,
    has_spare_bits,
    is_blanked,
    is_lossy,
    put_history,
    values_only,
)
from voxelvault.deid.burned_in import Box
from voxelvault.deid.cine import find_everywhere
from voxelvault.deid.jpeg_blocks import blank_blocks
from voxelvault.deid.model import Context, Option, Refused, Rewritten
from voxelvault.deid.overlays import put_overlays
from voxelvault.deid.picture_report import thumbnail
from voxelvault.deid.pixel_data import PixelData, put_codestreams
from voxelvault.deid.risk import known_banners, may_hold_text, outside_regions
from voxelvault.deid.showing import Shown
from voxelvault.deid.stripping import strip
from voxelvault.dicom.decode import DecoderPool
from voxelvault.dicom.part10 import Part10
from voxelvault.dicom.read import Header
from voxelvault.errors import DicomError

Frames = npt.NDArray[Any]
Place: TypeAlias = tuple[int, int, int, int, int]
"""Frame, left, top, right, bottom; in pixels, right and bottom excluded. Frame -1 stands for all."""

_BY_BLOCKS = frozenset(["1.2.840.10008.1.2.4.50", "1.2.840.10008.1.2.4.51"])


@dataclass(frozen=True, slots=True)
class PixelReport:
    """What was done to the pixels of one object.

    Parameters
    ----------
    verdict : str
        ``not_searched``, ``clean`` (nothing was found) or ``blanked``.
    boxes : tuple of Place
        What was blanked.
    before, after : bytes or None
        PNG thumbnails of one frame, where something was blanked or a face taken off. They show the
        patient's own values: for the sealed vault, or where the user says.
    size : (int, int)
        Rows and columns of a frame.
    frame, frames : int
        Which frame is shown, from 0, and how many there are.
    face : int
        Pixels of a face that were taken off that frame.
    """

    verdict: str
    boxes: tuple[Place, ...] = ()
    before: bytes | None = field(default=None, repr=False)
    after: bytes | None = field(default=None, repr=False)
    size: tuple[int, int] = (0, 0)
    frame: int = 0
    frames: int = 1
    face: int = 0


@dataclass(frozen=True)
class PixelCleaner:
    """Cleans the pixels of objects.

    Parameters
    ----------
    pool : DecoderPool
        Decodes codestreams in child processes.
    pictures : bool
        Make thumbnails of what was changed.
    """

    pool: DecoderPool
    pictures: bool = True

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

        Returns
        -------
        PixelReport
            For the receipt, and the pictures for a report.

        Raises
        ------
        Refused
            They can't be decoded, or text stays readable.
        MissingExtra
            They must be searched, and there is no OCR engine.
        """
        pixels = PixelData.of(part10, header)
        searched = may_hold_text(header)
        if not searched and face is None and not has_spare_bits(pixels, header):
            pixels.pass_on(rewritten.dataset)
            put_overlays(part10, None, pixels.spec, rewritten, context)
            return PixelReport("not_searched")
        raw = pixels.frames(self.pool)
        put_overlays(part10, raw, pixels.spec, rewritten, context)
        before = raw if is_lossy(pixels) else values_only(raw, pixels.spec, header)
        boxes = self._text(before, pixels, header, context) if searched else []
        if searched:
            rewritten.applied.add(Option.CLEAN_PIXELS.code)
        after = _changed(before, pixels, boxes, face)
        if np.array_equal(after, raw):
            pixels.pass_on(rewritten.dataset)
        else:
            only_boxes = face is None and np.array_equal(before, raw)
            _write(after, pixels, boxes if only_boxes else None, rewritten, self.pool)
        report = _report(before, boxes, searched)
        if not self.pictures or not (boxes or (face is not None and face.any())):
            return report
        return _pictured(report, before, after, pixels, header, face)

    def clean_page(self, context: Context) -> Callable[[Frames], Frames]:
        """Return what cleans one page of a document: (row, column, 3) uint8, black where text was."""

        def clean(page: Frames) -> Frames:
            boxes, is_clean = find_everywhere(page[None], 0, context.cleaner.harmless)
            if not is_clean:
                raise Refused("pixels_unclean")
            made = page.copy()
            for box in boxes:
                made[box.rows, box.columns] = 0
            return made

        return clean

    def _text(self, frames: Frames, pixels: PixelData, header: Header, context: Context) -> list[Box]:
        """Return what must be blanked in every frame."""
        rows, columns = frames.shape[1:3]
        pictures = Shown(frames, pixels, header)
        dark = 0 if pictures.coloured else black(frames, pixels)
        boxes, is_clean = find_everywhere(
            pictures,
            dark,
            context.cleaner.harmless,
            outside_regions(header, rows, columns),
            known_banners(header, rows, columns),
        )
        if not is_clean:
            raise Refused("pixels_unclean")
        return boxes


def _changed(
    frames: Frames, pixels: PixelData, boxes: Sequence[Box], face: npt.NDArray[np.bool_] | None
) -> Frames:
    if not boxes and face is None:
        return frames
    made = frames.copy()
    fill = black(frames, pixels)
    for box in boxes:
        made[:, box.rows, box.columns] = fill
    if face is not None:
        if made.shape[:3] != face.shape:
            raise Refused("face_unmapped")
        made[face] = frames.min()
    return made


def _write(
    frames: Frames, pixels: PixelData, boxes: Sequence[Box] | None, rewritten: Rewritten, pool: DecoderPool
) -> None:
    """Write changed frames; `boxes` where nothing else was changed."""
    coded = _codestreams(frames, pixels, boxes, pool) if pixels.encapsulated else None
    if coded is None:
        pixels.put(rewritten.dataset, frames)
        if is_lossy(pixels):
            put_history(rewritten.dataset, pixels, frames.nbytes)
        return
    rewritten.dataset.file_meta.TransferSyntaxUID = UID(coded[0])
    put_codestreams(rewritten.dataset, coded[1])


def _codestreams(
    frames: Frames, pixels: PixelData, boxes: Sequence[Box] | None, pool: DecoderPool
) -> tuple[str, list[bytes]] | None:
    """Code changed frames without a second loss; None where that can't be done in one syntax."""
    syntax, made = pixels.part10.transfer_syntax, []
    syntaxes = set()
    colour = pixels.photometric
    for frame, codestream in zip(frames, pixels.codestreams(), strict=True):
        blocks = None
        if boxes and syntax in _BY_BLOCKS:
            blocks = _by_blocks(frame, strip(syntax, codestream, pixels.spec), pixels, boxes, colour, pool)
        one = (syntax, blocks) if blocks else coded_again(frame, syntax, codestream, pixels.spec)
        if one is None:
            return None
        syntaxes.add(one[0])
        made.append(one[1])
    return (syntaxes.pop(), made) if len(syntaxes) == 1 else None


def _by_blocks(
    frame: Frames, codestream: bytes, pixels: PixelData, boxes: Sequence[Box], colour: str, pool: DecoderPool
) -> bytes | None:
    """Blank a JPEG block by block, and see that it shows what it should."""
    made = blank_blocks(codestream, boxes, colour)
    if made is None:
        return None
    try:
        shows = pool.decode(pixels.part10.transfer_syntax, made, pixels.spec)
    except DicomError:
        return None
    return made if is_blanked(shows, frame, boxes) else None


def _report(before: Frames, boxes: Sequence[Box], searched: bool) -> PixelReport:
    if not boxes:
        return PixelReport("clean" if searched else "not_searched")
    which = 0 if len(before) == 1 else -1
    places = tuple((which, box.left, box.top, box.right, box.bottom) for box in boxes)
    return PixelReport("blanked", places)


def _pictured(
    report: PixelReport,
    before: Frames,
    after: Frames,
    pixels: PixelData,
    header: Header,
    face: npt.NDArray[np.bool_] | None,
) -> PixelReport:
    """Return the report with pictures of the frame that shows most of what was taken off."""
    boxes = [(slice(top, bottom), slice(left, right)) for _, left, top, right, bottom in report.boxes]
    taken = [
        sum(int(np.count_nonzero(old[box] != new[box])) for box in boxes)
        for old, new in zip(before, after, strict=True)
    ]
    if face is not None:
        taken = face.sum(axis=(1, 2)).tolist()
    most = int(np.argmax(taken))
    inverted = pixels.spec.photometric == "MONOCHROME1"
    first, second = (
        thumbnail(Shown(one, pixels, header)[most], inverted=inverted) for one in (before, after)
    )
    rows, columns = before.shape[1:3]
    size = (int(rows), int(columns))
    shown_face = 0 if face is None else int(face[most].sum())
    made = replace(report, before=first, after=second, size=size, face=shown_face)
    return replace(made, frame=most, frames=len(before))


__all__ = ["PixelCleaner", "PixelReport", "Place"]
