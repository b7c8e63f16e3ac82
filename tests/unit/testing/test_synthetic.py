"""The synthetic files are what they say they are."""

from __future__ import annotations

import io
import tarfile
import zipfile

import numpy as np
import pydicom
import pytest
from pydicom.encaps import generate_frames
from pydicom.pixels import pixel_array

from voxelvault.dicom.decode import DECODERS, DecoderPool
from voxelvault.errors import VoxelVaultError
from voxelvault.model import FrameSpec
from voxelvault.testing import synthetic
from voxelvault.testing.synthetic import (
    CODESTREAMS,
    LOSSLESS,
    PLANTED,
    compressed,
    ct_series,
    every_kind,
    hostile,
)

KINDS = every_kind()


def read(file: bytes) -> pydicom.Dataset:
    return pydicom.dcmread(io.BytesIO(file), force=True)


def spec_of(dataset: pydicom.Dataset) -> FrameSpec:
    return FrameSpec(
        dataset.Rows,
        dataset.Columns,
        dataset.SamplesPerPixel,
        dataset.BitsAllocated,
        dataset.BitsStored,
        dataset.PixelRepresentation,
        dataset.PhotometricInterpretation,
    )


def test_the_same_call_gives_the_same_bytes() -> None:
    assert every_kind() == KINDS
    assert ct_series(3, seed=4) == ct_series(3, seed=4)
    assert ct_series(3, seed=4) != ct_series(3, seed=5)


def test_instances_are_all_different() -> None:
    files = [
        *KINDS.values(),
        *ct_series(),
        *synthetic.mr_series(times=2, echoes=(10, 30)),
        *synthetic.pet_series(),
    ]
    assert len({read(file).SOPInstanceUID for file in files}) == len(files)


@pytest.mark.parametrize("name", KINDS)
def test_every_file_carries_what_is_planted(name: str) -> None:
    dataset = read(KINDS[name])
    text = "\n".join(str(element.value) for element in dataset if element.VR not in ("OB", "OW"))
    for value in PLANTED:
        assert value in text, value
    assert dataset.StudyInstanceUID == synthetic.uid(0)


@pytest.mark.parametrize("name", [name for name in KINDS if name not in DECODERS and "frames" not in name])
def test_native_files_are_read_by_pydicom(name: str) -> None:
    dataset = read(KINDS[name])
    if name in ("structured report", "PDF", "video"):
        assert name == "video" or "PixelData" not in dataset
        return
    if not hasattr(dataset.file_meta, "TransferSyntaxUID"):
        dataset.file_meta.TransferSyntaxUID = synthetic.IMPLICIT
    assert pixel_array(dataset).size == dataset.Rows * dataset.Columns * dataset.SamplesPerPixel * int(
        dataset.get("NumberOfFrames", 1)
    )


def test_big_endian_words_hold_the_same_pixels() -> None:
    words, octets = read(KINDS["big endian 8 in words"]), read(KINDS["big endian 8"])
    np.testing.assert_array_equal(pixel_array(words), pixel_array(octets))


def test_every_codestream_decodes_in_a_child() -> None:
    with DecoderPool(2) as pool:
        for syntax, (frame, _, _) in CODESTREAMS.items():
            dataset = read(compressed(syntax, 3))
            codestreams = list(generate_frames(dataset.PixelData, number_of_frames=3))
            frames = pool.decode_many(syntax, codestreams, spec_of(dataset))
            expected = np.stack([frame, frame[::-1], frame])
            if syntax in LOSSLESS:
                np.testing.assert_array_equal(frames, expected, syntax)
            else:
                assert np.abs(frames.astype(int) - expected).mean() < 6, syntax


def test_a_marker_lies_where_it_should() -> None:
    point = (-20 + 7 * 0.6, -15 + 11 * 0.8, 5 + 3 * 2.0)
    files = [read(file) for file in ct_series(marker=point)]
    volume = np.stack([pixel_array(file).astype(int) + int(file.RescaleIntercept) for file in files])
    assert np.argwhere(volume == synthetic.MARKER).tolist() == [[3, 11, 7]]
    with pytest.raises(ValueError, match="outside"):
        ct_series(marker=(500, 0, 0))


def test_tilted_and_uneven_series_say_so_in_their_positions() -> None:
    tilted = np.array([read(file).ImagePositionPatient for file in ct_series(4, tilt=18.5)], float)
    np.testing.assert_allclose(np.diff(tilted, axis=0), [[0, 2 * np.tan(np.deg2rad(18.5)), 2]] * 3, atol=1e-5)
    uneven = np.array([read(file).ImagePositionPatient for file in ct_series(4, uneven=(1, 4, 2))], float)
    np.testing.assert_allclose(np.diff(uneven[:, 2]), [1, 4, 2])
    shuffled = [read(file).InstanceNumber for file in ct_series(6, shuffled=True)]
    assert sorted(shuffled) == [1, 2, 3, 4, 5, 6] != shuffled


def test_series_have_what_their_modality_needs() -> None:
    pet = [read(file) for file in synthetic.pet_series()]
    assert len({file.RescaleSlope for file in pet}) == len(pet)
    mr = [read(file) for file in synthetic.mr_series(3, times=2, echoes=(10, 30))]
    assert len(mr) == 12
    assert {(file.EchoTime, file.TemporalPositionIdentifier) for file in mr} == {
        (10, 1),
        (10, 2),
        (30, 1),
        (30, 2),
    }


def test_hostile_files_are_small_and_lie() -> None:
    files = hostile()
    assert max(map(len, files.values())) < 300_000
    assert len(files["claims 8 GB"]) < 3000
    claims = read(files["claims 8 GB"])
    assert claims.Rows * claims.Columns * int(claims.NumberOfFrames) > 8 * 10**9
    assert synthetic.MARKUP.encode() in files["markup in a name"]
    assert b"../../../../tmp" in files["path in a UID"]


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", ["codestream that lies", "garbage codestream", "blank fragment"])
def test_hostile_codestreams_are_refused(name: str) -> None:
    dataset = read(hostile()[name])
    codestream = next(generate_frames(dataset.PixelData, number_of_frames=1))
    with DecoderPool(1) as pool, pytest.raises(VoxelVaultError):
        pool.decode(dataset.file_meta.TransferSyntaxUID, codestream, spec_of(dataset))


def test_hostile_archives_are_archives() -> None:
    archives = synthetic.hostile_archives()
    assert max(map(len, archives.values())) < 3_000_000
    assert zipfile.ZipFile(io.BytesIO(archives["bomb.zip"])).infolist()[0].file_size == 256 << 20
    assert any(
        name.startswith("..") for name in zipfile.ZipFile(io.BytesIO(archives["escape.zip"])).namelist()
    )
    with tarfile.open(fileobj=io.BytesIO(archives["symlink.tar"])) as archive:
        assert archive.getmembers()[0].issym()


def test_every_public_name_is_listed() -> None:
    public = {name for name in vars(synthetic) if not name.startswith("_") and name != "annotations"}
    assert public == set(synthetic.__all__)
