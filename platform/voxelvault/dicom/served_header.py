"""The header of a served image: what it must say so that it agrees with the pixels that follow.

A codestream says its own precision, sign and colour transform; HTJ2K as we write it holds 16 bits
for images of 12, and red, green and blue mixed. Bits above HighBit that held something else are
cleared, and overlay planes that lay there stand in OverlayData, as every edition since 2004 wants.
Pixel values stay what they were, and so do the UIDs: nothing here is a derivation.

References
----------
DICOM PS3.5 8.1.1 (bits that are not used), 8.2.4 and 8.2.14 (JPEG 2000, HTJ2K: photometric
interpretation and planar configuration), PS3.3 C.7.6.1.1.2 and C.12.4.1.1 (a lossless coding is no
derivation), C.9.2 (overlay plane), C.12.3 (frame extraction).
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from struct import pack
from typing import Any

import numpy as np

from voxelvault.dicom.codestream import coding_style, jpeg2000_info
from voxelvault.dicom.native import Pixels
from voxelvault.dicom.read import Header
from voxelvault.dicom.write import Change, element, sequence
from voxelvault.errors import IntegrityError
from voxelvault.model import Buffer, FrameSpec

EXPLICIT_LITTLE = "1.2.840.10008.1.2.1"
HTJ2K_LOSSLESS = "1.2.840.10008.1.2.4.201"

OVERLAYS = range(0x6000, 0x6020, 2)
"""Groups of overlay planes (PS3.5 7.6)."""

VECTORS = frozenset(
    [
        *(0x00181065, 0x00182001, 0x00182002, 0x00182003, 0x00182004, 0x00182005, 0x00182006),
        *(0x00540010, 0x00540020, 0x00540030, 0x00540050, 0x00540060, 0x00540070, 0x00540080),
        *(0x00540090, 0x00540100),
    ]
)
"""Attributes with a value for each frame, which NumberOfFrames counts (PS3.3 C.7.6.5, C.8.4.8)."""

GRID_OFFSETS, PER_FRAME, FRAMES = 0x3004000C, 0x52009230, 0x00280008

_LOSSY = frozenset(f"1.2.840.10008.1.2.4.{process}" for process in (50, 51, 53, 55))

SPECS: Mapping[str, int] = {
    "samples": 0x00280002,
    "bits_allocated": 0x00280100,
    "bits_stored": 0x00280101,
    "pixel_representation": 0x00280103,
}


@dataclass(frozen=True, slots=True)
class Cells:
    """How values lie in the words of native pixels.

    Parameters
    ----------
    spec : FrameSpec
        What the header says of each frame.
    high_bit : int
        HighBit: the most significant bit of a value.
    """

    spec: FrameSpec
    high_bit: int

    @classmethod
    def of(cls, header: Header, spec: FrameSpec) -> Cells:
        """Read HighBit; where it is nonsense, values take the lowest bits."""
        found = header.get("HighBit")
        fits = isinstance(found, int) and spec.bits_stored - 1 <= found < spec.bits_allocated
        return cls(spec, found if fits else spec.bits_stored - 1)

    @property
    def plain(self) -> bool:
        """True when values take the lowest bits."""
        return self.high_bit == self.spec.bits_stored - 1

    def values(self, words: Pixels) -> Pixels:
        """Return values without what else lay in their words, the sign extended.

        Parameters
        ----------
        words : ndarray
            Integers of BitsAllocated bits, any shape.

        Returns
        -------
        ndarray
            Of the same shape and dtype.
        """
        width = 8 * words.dtype.itemsize
        if self.spec.bits_stored >= width:
            return words
        return (words << (width - 1 - self.high_bit)) >> (width - self.spec.bits_stored)

    def plane(self, words: Pixels, position: int) -> bytes:
        """Return one bit of each word as OverlayData: the first pixel in the lowest bit.

        References
        ----------
        DICOM PS3.5 8.1.2, PS3.3 C.9.2.
        """
        width = 8 * words.dtype.itemsize
        bits = (words.view(f"u{words.dtype.itemsize}") >> min(position, width - 1)) & 1
        return np.packbits(bits.astype(np.uint8).reshape(-1), bitorder="little").tobytes()

    def embedded(self, header: Header) -> dict[int, int]:
        """Return the overlay groups whose planes lie in the pixels' words, with the bit of each."""
        lowest = self.high_bit + 1 - self.spec.bits_stored
        found: dict[int, int] = {}
        for group in OVERLAYS if self.spec.samples == 1 else ():
            position = header.get(group << 16 | 0x0102)
            held = group << 16 | 0x3000 in header
            if not held and isinstance(position, int) and 0 <= position < self.spec.bits_allocated:
                outside = not lowest <= position <= self.high_bit
                found |= {group: position} if outside else {}
        return found


def overlay_changes(cells: Cells, header: Header, words: Pixels) -> dict[int, Change | bytes | None]:
    """Move overlay planes out of the pixels' words.

    Parameters
    ----------
    cells : Cells
        How the words are divided.
    header : Header
        Of the instance.
    words : ndarray
        (frame, row, column) as they came.
    """
    changes: dict[int, Change | bytes | None] = {}
    for group, position in cells.embedded(header).items():
        base = group << 16
        changes |= {
            base | 0x0010: ("US", pack("<H", cells.spec.rows)),
            base | 0x0011: ("US", pack("<H", cells.spec.columns)),
            base | 0x0100: ("US", pack("<H", 1)),
            base | 0x0102: ("US", pack("<H", 0)),
            base | 0x0200: None,  # OverlayLocation, retired: it named the pixels
            base | 0x3000: ("OW", cells.plane(words, position)),
        }
        if base | 0x0050 not in header:
            changes[base | 0x0050] = ("SS", pack("<hh", 1, 1))
        if len(words) > 1 or base | 0x0015 in header:
            changes[base | 0x0015] = ("IS", str(len(words)).encode())
            changes[base | 0x0051] = ("US", pack("<H", 1))
    return changes


def spec_changes(spec: FrameSpec) -> dict[int, Change | bytes | None]:
    """Return the attributes that describe the pixels (PS3.3 C.7.6.3)."""
    changes: dict[int, Change | bytes | None] = {
        tag: ("US", pack("<H", getattr(spec, name))) for name, tag in SPECS.items()
    }
    return changes | {
        0x00280004: ("CS", spec.photometric.encode()),
        0x00280006: ("US", pack("<H", spec.planar)) if spec.samples > 1 else None,
        0x00280010: ("US", pack("<H", spec.rows)),
        0x00280011: ("US", pack("<H", spec.columns)),
        0x00280102: ("US", pack("<H", spec.bits_stored - 1)),
    }


def coded_spec(spec: FrameSpec, codestream: Buffer) -> FrameSpec:
    """Return what the header of a served codestream must say, read from the codestream itself.

    Parameters
    ----------
    spec : FrameSpec
        What the source's header says of the same values; RGB or YBR_FULL where there are three.
    codestream : buffer
        One frame in HTJ2K.

    Raises
    ------
    IntegrityError
        It isn't lossless HTJ2K, or not of such a frame.

    References
    ----------
    DICOM PS3.5 8.2.14 and A.4.11; ISO/IEC 15444-1 A.5.1 and A.6.1, 15444-15 A.3.
    """
    info, style = jpeg2000_info(codestream), coding_style(codestream)
    alike = (info.rows, info.columns, info.samples, info.signed) == (
        spec.rows,
        spec.columns,
        spec.samples,
        spec.pixel_representation == 1,
    )
    if not (alike and style.reversible and style.high_throughput and style.uniform):
        raise IntegrityError("a frame's codestream is not what its header promises; run `voxelvault verify`")
    if style.colour_transform and spec.photometric != "RGB":
        raise IntegrityError("a frame's colours were mixed as if they were RGB; serve it as native pixels")
    return replace(
        spec,
        bits_allocated=8 if info.precision <= 8 else 16,
        bits_stored=info.precision,
        photometric="YBR_RCT" if style.colour_transform else spec.photometric,
        planar=0,
    )


def lossy_changes(header: Header, transfer_syntax: str) -> dict[int, Change | bytes | None]:
    """Say that the pixels went through lossy compression, where the sender forgot to.

    References
    ----------
    DICOM PS3.3 C.7.6.1.1.5: once lossy, always so.
    """
    if transfer_syntax in _LOSSY and header.get("LossyImageCompression") != "01":
        return {0x00282110: ("CS", b"01")}
    return {}


def frame_uid(sop_instance_uid: str, frame: int) -> str:
    """Return the SOP Instance UID of one frame cut out: always the same for the same frame.

    References
    ----------
    DICOM PS3.5 B.2 (UIDs of random numbers); RFC 9562 5.8 (version 8: of a hash).
    """
    number = int.from_bytes(hashlib.sha256(f"{sop_instance_uid}#{frame}".encode()).digest()[:16], "big")
    number = number & ~(0xF << 76) & ~(0x3 << 62) | 0x8 << 76 | 0x2 << 62
    return f"2.25.{number}"


def extraction_changes(header: Header, frame: int) -> dict[int, Change | bytes | None]:
    """Return what makes one frame of several an object of its own.

    Parameters
    ----------
    header : Header
        Of the whole instance.
    frame : int
        From 0.

    References
    ----------
    DICOM PS3.3 C.12.3 (frame extraction): a new SOP Instance UID, and where it came from.
    """
    source = str(header.get("SOPInstanceUID", ""))
    item = element(0x00081161, "UL", pack("<I", frame + 1)) + element(0x00081167, "UI", source.encode())
    return {
        0x00080018: ("UI", frame_uid(source, frame).encode()),
        0x00081164: sequence(0x00081164, [item]),
        FRAMES: ("IS", b"1"),
    }


def nth_value(raw: bytes, vr: str, frame: int, frames: int, size: int) -> bytes | None:
    """Return the value that belongs to one frame, None where there aren't as many values as frames."""
    if vr in ("DS", "IS", "SH", "LO", "CS"):
        values: Any = raw.split(b"\\")
        return values[frame].strip(b"\0 ") if len(values) == frames else None
    return raw[frame * size : (frame + 1) * size] if len(raw) == frames * size else None


__all__ = [
    "Cells",
    "EXPLICIT_LITTLE",
    "FRAMES",
    "GRID_OFFSETS",
    "HTJ2K_LOSSLESS",
    "PER_FRAME",
    "VECTORS",
    "coded_spec",
    "extraction_changes",
    "frame_uid",
    "lossy_changes",
    "nth_value",
    "overlay_changes",
    "spec_changes",
]
