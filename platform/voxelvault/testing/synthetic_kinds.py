"""One synthetic file of each kind that a vault meets: encodings, pixel formats, objects without pixels."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from typing import Any

import imagecodecs as _typed_too_narrowly
import numpy as np
from pydicom.dataset import Dataset
from pydicom.pixels.encoders.base import RLELosslessEncoder
from pydicom.sequence import Sequence as Items

from voxelvault.testing.synthetic_object import (
    BIG_ENDIAN,
    COMMENT,
    DEFLATED,
    EXPLICIT,
    IMPLICIT,
    Pixels,
    encapsulated,
    header,
    image,
    put_pixels,
    to_bytes,
)
from voxelvault.testing.synthetic_series import AXIAL, phantom, slice_positions

imagecodecs: Any = _typed_too_narrowly

ENHANCED_CT, ENHANCED_MR = "1.2.840.10008.5.1.4.1.1.2.1", "1.2.840.10008.5.1.4.1.1.4.1"
SEGMENTATION, PARAMETRIC_MAP = "1.2.840.10008.5.1.4.1.1.66.4", "1.2.840.10008.5.1.4.1.1.30"
BASIC_TEXT_SR, PDF, RT_DOSE = (
    "1.2.840.10008.5.1.4.1.1.88.11",
    "1.2.840.10008.5.1.4.1.1.104.1",
    "1.2.840.10008.5.1.4.1.1.481.2",
)
VIDEO_ENDOSCOPIC = "1.2.840.10008.5.1.4.1.1.77.1.1.1"

GREY = ((phantom(1, 32, 40, seed=7)[0].astype(np.int32) + 1000) * 255 // 2000).astype(np.uint8)
DEEP = (phantom(1, 32, 40, seed=8)[0].astype(np.int32) + 1024).astype(np.uint16)
COLOUR = np.stack([GREY, GREY[::-1], GREY[:, ::-1]], axis=-1)


def enhanced(n: int = 5, rows: int = 24, columns: int = 20, *, modality: str = "CT", seed: int = 0) -> bytes:
    """Return an enhanced multi-frame object with functional groups.

    Parameters
    ----------
    n, rows, columns : int
        Frames and their size.
    modality : str
        CT (a rescale for each frame) or MR (a rescale shared by all).
    seed : int
        Another seed is another study.

    Returns
    -------
    bytes
        The file; frames stand in reverse order of position.

    References
    ----------
    DICOM PS3.3 C.7.6.16.
    """
    made = header(
        modality,
        sop_class=ENHANCED_CT if modality == "CT" else ENHANCED_MR,
        seed=seed,
        series=_series(modality),
    )
    shared = Dataset()
    shared.PlaneOrientationSequence = _one(ImageOrientationPatient=list(AXIAL))
    shared.PixelMeasuresSequence = _one(PixelSpacing=[0.7, 0.9], SliceThickness=2.0)
    if modality == "MR":
        shared.PixelValueTransformationSequence = _rescale(2.0, -5.0, "US")
    frames = []
    for at, position in enumerate(slice_positions(n)[::-1]):
        frame = Dataset()
        frame.FrameContentSequence = _one(
            StackID="1", InStackPositionNumber=n - at, DimensionIndexValues=[1, n - at]
        )
        frame.PlanePositionSequence = _one(ImagePositionPatient=[float(v) for v in position])
        if modality == "CT":
            frame.PixelValueTransformationSequence = _rescale(1.0 + at, -1024.0, "HU")
        frames.append(frame)
    made.SharedFunctionalGroupsSequence = Items([shared])
    made.PerFrameFunctionalGroupsSequence = Items(frames)
    made.NumberOfFrames = n
    return to_bytes(put_pixels(made, phantom(n, rows, columns, seed)))


def _one(**attributes: Any) -> Items:
    item = Dataset()
    for keyword, value in attributes.items():
        setattr(item, keyword, value)
    return Items([item])


def _rescale(slope: float, intercept: float, kind: str) -> Items:
    return _one(RescaleSlope=slope, RescaleIntercept=intercept, RescaleType=kind)


def segmentation(n: int = 5, rows: int = 13, columns: int = 11) -> bytes:
    """Return a binary segmentation whose frames do not end on whole bytes.

    Parameters
    ----------
    n, rows, columns : int
        Frames and their size.

    Returns
    -------
    bytes
        The file, 1 bit a pixel.

    References
    ----------
    DICOM PS3.3 C.8.20.2.
    """
    made = header("SEG", sop_class=SEGMENTATION, series=5, attributes={"SegmentationType": "BINARY"})
    made.SegmentSequence = _one(SegmentNumber=1, SegmentLabel="marker", SegmentAlgorithmType="MANUAL")
    return to_bytes(put_pixels(made, np.random.default_rng(3).random((n, rows, columns)) > 0.5))


def _series(*parts: object) -> int:
    """Return a SeriesNumber of its own for whatever `parts` tell apart."""
    return 100 + zlib.crc32(repr(parts).encode()) % 100_000


def colour(photometric: str = "RGB", *, planar: bool = False) -> bytes:
    """Return a native colour image.

    Parameters
    ----------
    photometric : str
        RGB, YBR_FULL, YBR_FULL_422 or PALETTE COLOR.
    planar : bool
        Colour planes instead of colour pixels.

    Returns
    -------
    bytes
        The file.

    References
    ----------
    DICOM PS3.3 C.7.6.3.1.2 and C.7.6.3.1.3.
    """
    if photometric == "PALETTE COLOR":
        return _palette()
    made = put_pixels(
        header("OT", series=_series(photometric, planar)), COLOUR[None], photometric=photometric
    )
    if planar:
        made.PlanarConfiguration, made.PixelData = 1, np.moveaxis(COLOUR, -1, 0).tobytes()
    if photometric == "YBR_FULL_422":
        pairs = COLOUR.reshape(-1, 2, 3)
        quads = np.concatenate([pairs[:, :, 0], pairs[:, 0, 1:]], axis=-1)
        made.PixelData = quads.tobytes()
    return to_bytes(made)


def _palette() -> bytes:
    made = put_pixels(header("OT", series=6), GREY, photometric="PALETTE COLOR")
    for name, table in zip(("Red", "Green", "Blue"), np.stack([GREY.reshape(-1)[:256]] * 3), strict=True):
        setattr(made, f"{name}PaletteColorLookupTableDescriptor", [256, 0, 16])
        setattr(made, f"{name}PaletteColorLookupTableData", (table.astype(np.uint16) * 257).tobytes())
    return to_bytes(made)


def structured_report() -> bytes:
    """Return a text report.

    Returns
    -------
    bytes
        A Basic Text SR of one sentence, which is planted.

    References
    ----------
    DICOM PS3.3 A.35.1.
    """
    made = header("SR", sop_class=BASIC_TEXT_SR, series=7, attributes={"FrameOfReferenceUID": None})
    made.CompletionFlag, made.VerificationFlag, made.ValueType = "COMPLETE", "UNVERIFIED", "CONTAINER"
    made.ContinuityOfContent = "SEPARATE"
    code = _one(CodeValue="121106", CodingSchemeDesignator="DCM", CodeMeaning="Comment")
    made.ContentSequence = _one(
        RelationshipType="CONTAINS", ValueType="TEXT", ConceptNameCodeSequence=code, TextValue=COMMENT
    )
    return to_bytes(made)


def encapsulated_pdf() -> bytes:
    """Return an encapsulated PDF.

    Returns
    -------
    bytes
        The file.

    References
    ----------
    DICOM PS3.3 A.45.1.
    """
    made = header("DOC", sop_class=PDF, series=8, attributes={"FrameOfReferenceUID": None})
    made.MIMETypeOfEncapsulatedDocument = "application/pdf"
    made.EncapsulatedDocument = b"%PDF-1.4\n%%EOF\n" + b"\0"
    return to_bytes(made)


def video(frames: int = 40) -> bytes:
    """Return an MPEG-4 object whose stream is no video: nothing here may try to decode it.

    Parameters
    ----------
    frames : int
        NumberOfFrames.

    Returns
    -------
    bytes
        The file; one fragment of transport stream packets.

    References
    ----------
    DICOM PS3.5 A.4.6.
    """
    packet = b"\x47\x40\x00\x10" + bytes(184)
    syntax = "1.2.840.10008.1.2.4.102"
    return encapsulated(
        [packet * 50], syntax, COLOUR, SOPClassUID=VIDEO_ENDOSCOPIC, NumberOfFrames=frames, Modality="ES"
    )


def _rle(frame: Pixels) -> bytes:
    samples = frame.shape[2] if frame.ndim == 3 else 1
    return bytes(
        RLELosslessEncoder.encode(
            np.ascontiguousarray(frame),
            rows=frame.shape[0],
            columns=frame.shape[1],
            samples_per_pixel=samples,
            photometric_interpretation="RGB" if samples == 3 else "MONOCHROME2",
            bits_allocated=8 * frame.itemsize,
            bits_stored=8 * frame.itemsize,
            pixel_representation=0,
            number_of_frames=1,
            planar_configuration=0,
        )
    )


def _jpeg_in_jxl(frame: Pixels) -> bytes:
    return bytes(imagecodecs.jpegxl_encode_jpeg(imagecodecs.jpeg8_encode(frame, level=90), usecontainer=True))


_C = "1.2.840.10008.1.2.4."
CODESTREAMS: dict[str, tuple[Pixels, Callable[[Pixels], bytes], dict[str, Any]]] = {
    _C + "50": (GREY, lambda a: imagecodecs.jpeg8_encode(a, level=90), {}),
    _C + "51": (DEEP, lambda a: imagecodecs.jpeg8_encode(a, level=90, bitspersample=12), {"BitsStored": 12}),
    _C + "57": (
        DEEP,
        lambda a: imagecodecs.jpeg8_encode(a, lossless=True, predictor=4, bitspersample=16),
        {},
    ),
    _C + "70": (
        DEEP,
        lambda a: imagecodecs.jpeg8_encode(a, lossless=True, predictor=1, bitspersample=16),
        {},
    ),
    _C + "80": (DEEP, imagecodecs.jpegls_encode, {}),
    _C + "81": (GREY, lambda a: imagecodecs.jpegls_encode(a, level=2), {}),
    _C + "90": (DEEP, lambda a: imagecodecs.jpeg2k_encode(a, codecformat="j2k", reversible=True), {}),
    _C + "91": (GREY, lambda a: imagecodecs.jpeg2k_encode(a, codecformat="j2k", level=40), {}),
    _C + "110": (DEEP, lambda a: imagecodecs.jpegxl_encode(a, lossless=True, numthreads=1), {}),
    _C + "111": (GREY, _jpeg_in_jxl, {}),
    _C + "112": (GREY, lambda a: imagecodecs.jpegxl_encode(a, level=90, numthreads=1), {}),
    _C + "201": (DEEP, lambda a: imagecodecs.htj2k_encode(a, reversible=True), {}),
    _C + "202": (DEEP, lambda a: imagecodecs.htj2k_encode(a, reversible=True, tlm=True), {}),
    _C + "203": (GREY, lambda a: imagecodecs.htj2k_encode(a, level=0.02, reversible=False), {}),
    "1.2.840.10008.1.2.5": (DEEP, _rle, {}),
    "1.2.840.10008.1.2.8.1": (DEEP, lambda a: zlib.compress(a.tobytes(), wbits=-15), {}),
}
"""By transfer syntax UID: a frame, its encoder, attributes that differ from the frame's own."""

LOSSLESS = frozenset(
    {_C + tail for tail in ("57", "70", "80", "90", "110", "201", "202")}
    | {"1.2.840.10008.1.2.5", "1.2.840.10008.1.2.8.1"}
)


def compressed(transfer_syntax: str, frames: int = 1, *, offsets: bool = True) -> bytes:
    """Return an image in an encapsulated transfer syntax.

    Parameters
    ----------
    transfer_syntax : str
        A key of `CODESTREAMS`.
    frames : int
        How many; each is the one before turned upside down.
    offsets : bool
        Fill the basic offset table.

    Returns
    -------
    bytes
        The file.
    """
    frame, encode, changes = CODESTREAMS[transfer_syntax]
    codestreams = [encode(np.ascontiguousarray(frame[::-1] if at % 2 else frame)) for at in range(frames)]
    high = {"HighBit": changes["BitsStored"] - 1} if "BitsStored" in changes else {}
    series = _series(transfer_syntax, frames, offsets)
    return encapsulated(
        codestreams, transfer_syntax, frame, offsets=offsets, series=series, **changes, **high
    )


def without_preamble() -> bytes:
    """Return a file that begins at its meta elements.

    Returns
    -------
    bytes
        No preamble, no DICM.
    """
    return image(DEEP, series=9)[132:]


def without_meta() -> bytes:
    """Return a bare data set, implicit VR little endian.

    Returns
    -------
    bytes
        No preamble, no DICM, no group 0002.
    """
    whole = image(DEEP, series=9, instance=2, transfer_syntax=IMPLICIT)
    length = int.from_bytes(whole[140:144], "little")
    return whole[144 + length :]


def _in_words() -> bytes:
    """Return 8-bit pixels as big-endian words, which swaps each pair of bytes (PS3.5 8.1.1)."""
    made = put_pixels(header(series=33, transfer_syntax=BIG_ENDIAN), GREY)
    made.PixelData = GREY.reshape(-1, 2)[:, ::-1].tobytes()
    made["PixelData"].VR = "OW"
    return to_bytes(made)


def every_kind() -> dict[str, bytes]:
    """Return one file of each kind.

    Returns
    -------
    dict
        Name to file: transfer syntaxes, pixel formats, objects without pixels; all are valid.
    """
    flat = np.arange(64, dtype=np.int64).reshape(8, 8)
    kinds = {
        "implicit": image(DEEP, series=20, transfer_syntax=IMPLICIT),
        "explicit": image(DEEP, series=21, transfer_syntax=EXPLICIT),
        "deflated": image(DEEP, series=22, transfer_syntax=DEFLATED),
        "big endian 16": image(DEEP, series=23, transfer_syntax=BIG_ENDIAN),
        "big endian 8": image(GREY, series=24, transfer_syntax=BIG_ENDIAN),
        "big endian 8 in words": _in_words(),
        "signed 16": image((flat - 32).astype(np.int16), series=25),
        "signed 8": image((flat - 32).astype(np.int8), series=26),
        "unsigned 32": image((flat * 70_000_000).astype(np.uint32), "RTDOSE", sop_class=RT_DOSE, series=27),
        "signed 32": image((flat - 32).astype(np.int32), series=28),
        "float": image((flat / 3).astype(np.float32), sop_class=PARAMETRIC_MAP, series=29),
        "double": image(flat / 7, sop_class=PARAMETRIC_MAP, series=30),
        "multi-frame": image(phantom(3, 17, 19), series=31),
        "odd length": image(GREY[10:15, 10:17], series=32),
        "one bit": segmentation(),
        "enhanced CT": enhanced(modality="CT"),
        "enhanced MR": enhanced(modality="MR"),
        "structured report": structured_report(),
        "PDF": encapsulated_pdf(),
        "video": video(),
        "no preamble": without_preamble(),
        "no meta": without_meta(),
    }
    for photometric in ("RGB", "YBR_FULL", "YBR_FULL_422", "PALETTE COLOR"):
        kinds[photometric] = colour(photometric)
    kinds["RGB planes"] = colour("RGB", planar=True)
    for at, syntax in enumerate(CODESTREAMS):
        kinds[syntax] = compressed(syntax)
        kinds[f"{syntax} frames"] = compressed(syntax, 3, offsets=bool(at % 2))
    return kinds


__all__ = [
    "CODESTREAMS",
    "COLOUR",
    "DEEP",
    "GREY",
    "LOSSLESS",
    "colour",
    "compressed",
    "encapsulated_pdf",
    "enhanced",
    "every_kind",
    "segmentation",
    "structured_report",
    "video",
    "without_meta",
    "without_preamble",
]
