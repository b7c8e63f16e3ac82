"""The table of decoders, against pydicom, against each other and against codestreams that lie."""

from __future__ import annotations

import csv
import zlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import imagecodecs
import numpy as np
import pydicom
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydicom.encaps import generate_frames
from pydicom.pixels import pixel_array

from voxelvault.dicom.codestream import jpeg2000_info, jpeg_info, jpegxl_info
from voxelvault.dicom.decode import DECODERS, VIDEO, can_decode, decode_frame, photometric_of_decoded
from voxelvault.errors import DecodeError, VoxelVaultError
from voxelvault.model import FrameSpec

JPEG, JPEG_LOSSLESS, JPEG_LS, J2K, JXL, HTJ2K, HTJ2K_LOSSY, RLE, DEFLATED = (
    "1.2.840.10008.1.2." + tail
    for tail in ("4.50", "4.70", "4.80", "4.90", "4.110", "4.201", "4.203", "5", "8.1")
)


def spec_of(dataset: pydicom.Dataset) -> FrameSpec:
    """What the header of a file says of its frames."""
    return FrameSpec(
        dataset.Rows,
        dataset.Columns,
        dataset.SamplesPerPixel,
        dataset.BitsAllocated,
        dataset.BitsStored,
        dataset.get("PixelRepresentation", 0),
        dataset.PhotometricInterpretation,
        dataset.get("PlanarConfiguration", 0) or 0,
    )


def load(path: Path) -> tuple[str, FrameSpec, list[bytes], pydicom.Dataset]:
    dataset = pydicom.dcmread(path, force=True)
    frames = int(dataset.get("NumberOfFrames", 1) or 1)
    codestreams = list(generate_frames(dataset.PixelData, number_of_frames=frames))
    return dataset.file_meta.TransferSyntaxUID, spec_of(dataset), codestreams, dataset


@pytest.mark.filterwarnings("ignore")
def test_every_real_codestream_decodes_as_pydicom_decodes_it(shared_dicom: Path) -> None:
    rows = list(csv.DictReader((shared_dicom / "MANIFEST.csv").open()))
    compared = decoded = 0
    for row in rows:
        if row["transfer_syntax_uid"] not in DECODERS or row["decode_ok"] != "yes":
            continue
        syntax, spec, codestreams, dataset = load(shared_dicom / row["path"])
        ours = np.stack([decode_frame(syntax, codestream, spec) for codestream in codestreams[:3]])
        decoded += 1
        try:
            theirs = pixel_array(dataset, raw=True, index=0)
        except (RuntimeError, NotImplementedError):
            continue  # pydicom needs plugins for these that are not installed; other tests cross-check them
        np.testing.assert_array_equal(ours[0], theirs, row["path"])
        compared += 1
    assert decoded >= 110
    assert compared >= 70


@pytest.mark.parametrize("image", ["CT1", "XA1"])
def test_one_image_is_the_same_in_every_lossless_syntax(shared_dicom: Path, image: str) -> None:
    base = shared_dicom / "robyoung+dicom-test-files/data/WG04"
    decoded = []
    for folder, name in (("JPLL", "JPLL"), ("JLSL", "JLSL"), ("J2KR", "J2KR"), ("RLE", "RLE")):
        syntax, spec, codestreams, _ = load(base / folder / f"{image}_{name}")
        decoded.append(decode_frame(syntax, codestreams[0], spec))
    htj2k = sorted(shared_dicom.glob(f"chafey+DICOMHTJ2K/**/{image}_JPH*"))[0]
    syntax, spec, codestreams, _ = load(htj2k)
    for other in decoded:
        np.testing.assert_array_equal(other, decode_frame(syntax, codestreams[0], spec))


@pytest.mark.parametrize("process", ["57", "70"])
def test_lossless_jpeg_agrees_with_another_decoder(shared_dicom: Path, process: str) -> None:
    for path in shared_dicom.glob(f"cornerstonejs*/**/*1.2.840.10008.1.2.4.{process}.dcm"):
        syntax, spec, codestreams, _ = load(path)
        np.testing.assert_array_equal(
            decode_frame(syntax, codestreams[0], spec).view(np.uint16),
            imagecodecs.ljpeg_decode(codestreams[0]),
        )


def test_lossy_htj2k_is_clamped_not_wrapped(shared_dicom: Path) -> None:
    path = shared_dicom / "pydicom+pydicom-data/data_store/data/HTJ2K_08_RGB.dcm"
    syntax, spec, codestreams, _ = load(path)
    assert syntax == HTJ2K_LOSSY
    np.testing.assert_array_equal(
        decode_frame(syntax, codestreams[0], spec), imagecodecs.jpeg2k_decode(codestreams[0])
    )


GREY = np.random.default_rng(1).integers(0, 256, (24, 40)).astype(np.uint8)
DEEP = np.random.default_rng(2).integers(0, 4096, (24, 40)).astype(np.uint16)
SIGNED = (DEEP.astype(np.int16) - 2048).astype(np.int16)
COLOUR = np.random.default_rng(3).integers(0, 256, (24, 40, 3)).astype(np.uint8)

Encoder = Callable[[np.ndarray], bytes]
ENCODERS: dict[str, Encoder] = {
    JPEG_LOSSLESS: lambda a: imagecodecs.jpeg8_encode(
        a, lossless=True, bitspersample=12 if a.dtype.itemsize == 2 else 8
    ),
    JPEG_LS: imagecodecs.jpegls_encode,
    J2K: lambda a: imagecodecs.jpeg2k_encode(a, codecformat="j2k", reversible=True),
    JXL: lambda a: imagecodecs.jpegxl_encode(a, lossless=True, numthreads=1),
    HTJ2K: lambda a: imagecodecs.htj2k_encode(a, reversible=True),
    DEFLATED: lambda a: zlib.compress(a.tobytes(), wbits=-15),
}


def described(array: np.ndarray, **changes: object) -> FrameSpec:
    rows, columns, *samples = array.shape
    bits = 8 * array.dtype.itemsize
    sign = int(array.dtype.kind == "i")
    spec = FrameSpec(
        rows, columns, samples[0] if samples else 1, bits, bits, sign, "RGB" if samples else "MONOCHROME2"
    )
    return replace(spec, **changes)


@pytest.mark.parametrize("syntax", ENCODERS)
@pytest.mark.parametrize("array", [GREY, DEEP], ids=["8", "16"])
def test_lossless_round_trips(syntax: str, array: np.ndarray) -> None:
    frame = decode_frame(syntax, ENCODERS[syntax](array), described(array))
    np.testing.assert_array_equal(frame, array)
    assert frame.dtype == array.dtype
    assert frame.flags.c_contiguous


@pytest.mark.parametrize("syntax", [J2K, HTJ2K, JXL, DEFLATED])
def test_lossless_colour_round_trips(syntax: str) -> None:
    np.testing.assert_array_equal(decode_frame(syntax, ENCODERS[syntax](COLOUR), described(COLOUR)), COLOUR)


@pytest.mark.parametrize("syntax", [J2K, HTJ2K, DEFLATED])
def test_signed_codestreams_keep_their_sign(syntax: str) -> None:
    np.testing.assert_array_equal(decode_frame(syntax, ENCODERS[syntax](SIGNED), described(SIGNED)), SIGNED)


@pytest.mark.parametrize("syntax", [JPEG_LOSSLESS, J2K])
def test_the_headers_sign_is_extended_from_the_codestreams_precision(syntax: str) -> None:
    words = SIGNED.view(np.uint16) & 0x0FFF
    coded = imagecodecs.jpeg2k_encode(words, codecformat="j2k", reversible=True, bitspersample=12)
    coded = ENCODERS[JPEG_LOSSLESS](words) if syntax == JPEG_LOSSLESS else coded
    assert (jpeg2000_info if syntax == J2K else jpeg_info)(coded).precision == 12
    np.testing.assert_array_equal(decode_frame(syntax, coded, described(SIGNED, bits_stored=12)), SIGNED)


def test_a_signed_codestream_under_an_unsigned_header_is_masked() -> None:
    coded = imagecodecs.jpeg2k_encode(SIGNED, codecformat="j2k", reversible=True)
    frame = decode_frame(J2K, coded, described(DEEP))
    np.testing.assert_array_equal(frame, SIGNED.view(np.uint16))


def test_one_bit_frames_in_rle_are_packed(shared_dicom: Path) -> None:
    base = shared_dicom / "pydicom+pydicom-data/data_store/data"
    for name in ("liver", "liver_nonbyte_aligned"):
        frames = {}
        for kind in ("rle", "j2k", "deflate"):
            syntax, spec, codestreams, _ = load(base / f"{name}_{kind}.dcm")
            frames[kind] = [decode_frame(syntax, codestream, spec) for codestream in codestreams]
        np.testing.assert_array_equal(frames["rle"], frames["j2k"])
        np.testing.assert_array_equal(frames["deflate"], frames["j2k"])


@pytest.mark.parametrize("syntax", [name for name in ENCODERS if name != DEFLATED])
@pytest.mark.parametrize(
    "change", [{"rows": 23}, {"columns": 41}, {"samples": 3}, {"rows": 60, "columns": 16}]
)
def test_a_codestream_of_another_size_is_refused_before_decoding(
    syntax: str, change: dict[str, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    coded = ENCODERS[syntax](GREY)
    spec = replace(described(GREY), **change)
    for name in ("jpeg8", "jpegls", "jpeg2k", "jpegxl", "htj2k"):
        monkeypatch.setattr(imagecodecs, f"{name}_decode", lambda *a, **k: pytest.fail("a decoder ran"))
    with pytest.raises(DecodeError):
        decode_frame(syntax, coded, spec)


def test_samples_wider_than_the_header_are_refused() -> None:
    with pytest.raises(DecodeError, match="wider"):
        decode_frame(J2K, ENCODERS[J2K](DEEP), replace(described(DEEP), bits_allocated=8, bits_stored=8))


@pytest.mark.parametrize("syntax", sorted(DECODERS))
@given(garbage=st.binary(max_size=300))
@settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_garbage_is_an_error_of_ours(syntax: str, garbage: bytes) -> None:
    with pytest.raises(DecodeError):
        decode_frame(syntax, garbage, FrameSpec(240, 400))


@pytest.mark.parametrize("syntax", ENCODERS)
def test_a_cut_codestream_is_an_error_or_a_whole_frame(syntax: str) -> None:
    coded = ENCODERS[syntax](GREY)
    for cut in (2, len(coded) // 4, len(coded) // 2):
        try:
            frame = decode_frame(syntax, coded[:cut], described(GREY))
        except DecodeError:
            continue
        assert frame.shape == GREY.shape  # JPEG and JPEG 2000 decoders fill what is missing


def test_deflate_bombs_stop_at_the_frames_size() -> None:
    bomb = zlib.compress(bytes(64 << 20), wbits=-15)
    with pytest.raises(DecodeError, match="length"):
        decode_frame(DEFLATED, bomb, described(GREY))


def test_frames_that_no_codestream_explains_are_refused() -> None:
    coded = ENCODERS[J2K](GREY)
    for spec in (FrameSpec(60000, 60000), FrameSpec(9000, 9000)):
        with pytest.raises(DecodeError, match="larger"):
            decode_frame(J2K, coded, spec)


def test_rle_segments_must_fit() -> None:
    header = bytes([2, 0, 0, 0, 64, 0, 0, 0, 200, 0, 0, 0]).ljust(64, b"\0")
    with pytest.raises(DecodeError, match="segments"):
        decode_frame(RLE, header + bytes(20), FrameSpec(4, 4))


@pytest.mark.parametrize("container", [False, True])
@pytest.mark.parametrize("shape", [(24, 40), (512, 512), (333, 100), (600, 800, 3)])
def test_jpeg_xl_headers(shape: tuple[int, ...], container: bool) -> None:
    coded = imagecodecs.jpegxl_encode(
        np.zeros(shape, np.uint16), lossless=True, usecontainer=container, numthreads=1
    )
    info = jpegxl_info(coded)
    assert (info.rows, info.columns, info.samples) == (*shape, 1)[:3]
    assert info.precision == 16


def test_colour_space_of_decoded_components(shared_dicom: Path) -> None:
    base = shared_dicom / "pydicom+pydicom/src/pydicom/data/test_files"
    expected = {
        "SC_rgb_dcmtk_+eb+cr.dcm": "RGB",
        "SC_rgb_dcmtk_+eb+cy+np.dcm": "YBR_FULL",
        "SC_jpeg_no_color_transform.dcm": "RGB",
        "SC_jpeg_no_color_transform_2.dcm": "RGB",
        "examples_jpeg2k.dcm": "RGB",
        "SC_rgb_rle.dcm": "RGB",
    }
    for name, photometric in expected.items():
        syntax, spec, codestreams, _ = load(base / name)
        assert photometric_of_decoded(syntax, spec, codestreams[0]) == photometric, name
    assert photometric_of_decoded(RLE, described(COLOUR, photometric="YBR_FULL")) == "YBR_FULL"
    assert photometric_of_decoded(J2K, described(GREY)) == "MONOCHROME2"


def test_video_and_unknown_syntaxes_have_no_decoder() -> None:
    for syntax in (*VIDEO, "1.2.840.10008.1.2.4.94", "1.2.3"):
        assert not can_decode(syntax)
        with pytest.raises(DecodeError, match="no decoder"):
            decode_frame(syntax, b"\0" * 64, FrameSpec(4, 4))


def test_errors_are_one_line_of_ours() -> None:
    for syntax in DECODERS:
        with pytest.raises(VoxelVaultError) as caught:
            decode_frame(syntax, b"PatientName^Secret" * 20, FrameSpec(64, 64))
        assert "\n" not in str(caught.value)
        assert "Secret" not in str(caught.value)
