"""The pixels of one object: read frame by frame, and written anew into the rewritten data set.

Native pixels are cut to their frames and cleared above BitsStored; codestreams go along without
what isn't the image. Frames that were changed are stored uncompressed: nothing is lost twice.

References
----------
DICOM PS3.5 8 (pixel data), A.4 (encapsulation); PS3.3 C.7.6.3.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

import numpy as np
import numpy.typing as npt
from pydicom.dataset import Dataset
from pydicom.uid import UID, ExplicitVRLittleEndian

from voxelvault.deid.model import Refused
from voxelvault.deid.stripping import strip
from voxelvault.dicom import native
from voxelvault.dicom.decode import DecoderPool, can_decode, photometric_of_decoded
from voxelvault.dicom.part10 import Part10, frame_fragments
from voxelvault.dicom.read import Header, frame_spec, number_of_frames
from voxelvault.errors import DicomError
from voxelvault.model import FrameSpec
from voxelvault.storage.prepare import Wire

Pixels = npt.NDArray[Any]

_PIXEL_DATA, _OFFSETS, _LENGTHS = 0x7FE00010, 0x7FE00001, 0x7FE00002
_FLOATS = {32: (0x7FE00008, "OF"), 64: (0x7FE00009, "OD")}


@dataclass(frozen=True)
class PixelData:
    """The pixels of one object as they came.

    Parameters
    ----------
    part10 : Part10
        The parsed file.
    spec : FrameSpec
        What its header says of each frame.
    count : int
        Frames.
    """

    part10: Part10
    spec: FrameSpec
    count: int

    @classmethod
    def of(cls, part10: Part10, header: Header) -> PixelData:
        """Describe the pixels of a file.

        Raises
        ------
        Refused
            The header makes no frames of them.
        """
        if part10.pixels is None:
            raise Refused("pixels_undecodable")
        try:
            return cls(part10, frame_spec(header), number_of_frames(header))
        except DicomError:
            raise Refused("pixels_undecodable") from None

    @property
    def encapsulated(self) -> bool:
        """They are codestreams."""
        return self.part10.pixels is not None and self.part10.pixels.encapsulated

    def codestreams(self) -> list[bytes]:
        """Return the codestream of each frame.

        Raises
        ------
        Refused
            Nothing tells which fragment belongs to which frame.
        """
        span = self.part10.pixels
        assert span is not None  # noqa: S101 - `of` made sure
        data = memoryview(span.data or self.part10.data)
        try:
            fragments = frame_fragments(span, self.count)
        except DicomError:
            raise Refused("pixels_undecodable") from None
        return [b"".join(data[start:stop] for start, stop in frame) for frame in fragments]

    def frames(self, pool: DecoderPool) -> Pixels:
        """Return all frames: (frame, row, column[, sample]) stored values, components as coded.

        Raises
        ------
        Refused
            They can't be decoded, so nobody can say what they show.
        """
        try:
            if not self.encapsulated:
                found = self._native()
                return native.expand_422(found) if self._wire().subsampled else found
            syntax = self.part10.transfer_syntax
            if not can_decode(syntax):
                raise Refused("pixels_undecodable")
            return pool.decode_many(syntax, self.codestreams(), self.spec)
        except Refused:
            raise
        except (DicomError, MemoryError):
            raise Refused("pixels_undecodable") from None

    def pass_on(self, target: Dataset) -> None:
        """Put the pixels into a data set as they are, without anything that isn't the image.

        Raises
        ------
        Refused
            They can't be taken apart.
        """
        if self.encapsulated:
            syntax = self.part10.transfer_syntax
            target.file_meta.TransferSyntaxUID = UID(syntax)
            put_codestreams(target, [strip(syntax, one, self.spec) for one in self.codestreams()])
            return
        try:
            frames = native.stored_values(self._native(), self.spec)
        except DicomError:
            raise Refused("pixels_undecodable") from None
        self._put(target, frames)

    def put(self, target: Dataset, frames: Pixels) -> None:
        """Put changed frames into a data set, uncompressed.

        Parameters
        ----------
        target : Dataset
            Gets pixels, transfer syntax, and what the header must say of them.
        frames : ndarray
            As `frames` returned them, changed.
        """
        if self.spec.samples == 3:
            target.PhotometricInterpretation = self.photometric
            target.PlanarConfiguration = 0
        target.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        packed = (
            np.packbits(frames.reshape(-1), bitorder="little") if self.spec.bits_allocated == 1 else frames
        )
        _put_bytes(target, self.spec, np.ascontiguousarray(packed).tobytes())

    @property
    def photometric(self) -> str:
        """Photometric interpretation of what `frames` returns."""
        if not self.encapsulated:
            return "YBR_FULL" if self.spec.photometric == "YBR_FULL_422" else self.spec.photometric
        return photometric_of_decoded(self.part10.transfer_syntax, self.spec, self.codestreams()[0])

    def _wire(self) -> Wire:
        assert self.part10.pixels is not None  # noqa: S101 - `of` made sure
        return Wire.of(self.part10, self.part10.pixels, self.spec, self.count)

    def _native(self) -> Pixels:
        span, wire = self.part10.pixels, self._wire()
        assert span is not None  # noqa: S101 - `of` made sure
        data = memoryview(self.part10.data)[span.start : span.start + wire.length(self.count)]
        return wire.unpack(data, self.count)

    def _put(self, target: Dataset, frames: Pixels) -> None:
        target.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        _put_bytes(target, self.spec, bytes(native.pack_native(frames, self.spec)))


def _put_bytes(target: Dataset, spec: FrameSpec, data: bytes) -> None:
    if spec.floating:
        tag, vr = _FLOATS[spec.bits_allocated]
    else:
        tag, vr = _PIXEL_DATA, "OB" if spec.bits_allocated <= 8 else "OW"
    target.add_new(tag, vr, data + bytes(len(data) % 2))


def put_codestreams(target: Dataset, frames: Sequence[bytes]) -> None:
    """Put codestreams into a data set, a fragment a frame, with an offset table made anew."""
    sizes = [len(frame) + len(frame) % 2 for frame in frames]
    offsets = [0, *accumulate(size + 8 for size in sizes)][: len(frames)]
    table = struct.pack(f"<{len(offsets)}I", *offsets) if offsets[-1] <= 0xFFFFFFFF else b""
    if not table:
        target.add_new(_OFFSETS, "OV", struct.pack(f"<{len(offsets)}Q", *offsets))
        target.add_new(_LENGTHS, "OV", struct.pack(f"<{len(frames)}Q", *map(len, frames)))
    target.add_new(_PIXEL_DATA, "OB", b"".join(_items([table, *frames])))


def _items(parts: Sequence[bytes]) -> Iterator[bytes]:
    for part in parts:
        yield b"\xfe\xff\x00\xe0" + struct.pack("<I", len(part) + len(part) % 2)
        yield part + bytes(len(part) % 2)


__all__ = ["PixelData", "put_codestreams"]
