"""Instances and frames as DICOM files: what other people's programs read is what came in."""

from __future__ import annotations

import io
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import pydicom
import pytest
from pydicom.pixels import pixel_array

import voxelvault as vv
from voxelvault.dicom import write
from voxelvault.dicom.codestream import coding_style
from voxelvault.dicom.served_header import frame_uid
from voxelvault.errors import NoPixels, PolicyDenied, UnknownUID, UsageError
from voxelvault.reading.many import open_many
from voxelvault.series import series_of
from voxelvault.storage import codecs
from voxelvault.testing import synthetic

NATIVE, HTJ2K, J2K, RLE = ("1.2.840.10008.1.2." + tail for tail in ("1", "4.201", "4.90", "5"))
RNG = np.random.default_rng(5)
UNSIGNED = RNG.integers(0, 4096, (24, 40)).astype(np.uint16)
SIGNED = (UNSIGNED.astype(np.int16) - 2048).astype(np.int16)
COLOUR = RNG.integers(0, 256, (24, 40, 3)).astype(np.uint8)
PLANE = (RNG.integers(0, 2, (24, 40)) == 1).astype(np.uint16)
MANY = RNG.integers(0, 4096, (3, 24, 40)).astype(np.uint16)


def tool(name: str) -> str:
    """Find a program that CI must have and a laptop may lack."""
    found = shutil.which(name)
    if found is None and os.environ.get("CI"):
        pytest.fail(f"{name} is missing; .ci/run installs dcmtk and dicom3tools")
    if found is None:
        pytest.skip(f"{name} is not installed")
    return found


def with_overlay(words: np.ndarray, **begun: Any) -> bytes:
    """An image of 12 bits with an overlay plane in bit 12, as before 2004."""
    dataset = synthetic.put_pixels(
        synthetic.header("OT", **begun), words | (PLANE.astype(words.dtype) << 12), bits_stored=12
    )
    dataset.add_new(0x60000010, "US", words.shape[0])
    dataset.add_new(0x60000011, "US", words.shape[1])
    dataset.add_new(0x60000040, "CS", "G")
    dataset.add_new(0x60000050, "SS", [1, 1])
    dataset.add_new(0x60000100, "US", 16)
    dataset.add_new(0x60000102, "US", 12)
    return synthetic.to_bytes(dataset)


def unextended() -> bytes:
    """Signed values of 12 bits whose sign was not carried into the upper four."""
    file = synthetic.image(SIGNED, "OT", bits_stored=12, series=75)
    return file.replace(SIGNED.tobytes(), (SIGNED.view(np.uint16) & 0x0FFF).tobytes())


def high_bits() -> bytes:
    """Values of 12 bits in the upper end of their words."""
    dataset = synthetic.put_pixels(synthetic.header("OT", series=76), UNSIGNED << 4, bits_stored=12)
    dataset.HighBit = 15
    return synthetic.to_bytes(dataset)


CASES: dict[str, tuple[bytes, np.ndarray]] = {
    "unsigned": (synthetic.image(UNSIGNED, "OT", bits_stored=12, series=71), UNSIGNED),
    "signed": (synthetic.image(SIGNED, "OT", bits_stored=12, series=72), SIGNED),
    "colour": (synthetic.image(COLOUR[None], "OT", series=73), COLOUR),
    "overlay": (with_overlay(UNSIGNED, series=74), UNSIGNED),
    "unextended": (unextended(), SIGNED),
    "high bits": (high_bits(), UNSIGNED),
    "implicit": (
        with_overlay(UNSIGNED, series=77, transfer_syntax=synthetic.IMPLICIT),
        UNSIGNED,
    ),
    "big endian": (
        synthetic.image(SIGNED, "OT", bits_stored=12, series=78, transfer_syntax=synthetic.BIG_ENDIAN),
        SIGNED,
    ),
    "many": (synthetic.image(MANY, "OT", bits_stored=12, series=79), MANY),
    "kept": (synthetic.compressed(RLE), np.empty(0)),
}


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[vv.Vault, dict[str, str]]]:
    """A vault of the cases, and the SOP Instance UID of each."""
    place = tmp_path_factory.mktemp("served")
    (place / "inbox").mkdir()
    uids = {}
    for name, (data, _) in CASES.items():
        (place / "inbox" / f"{name}.dcm").write_bytes(data)
        uids[name] = str(pydicom.dcmread(io.BytesIO(data)).SOPInstanceUID)
    (place / "inbox" / "report.dcm").write_bytes(synthetic.structured_report())
    uids["report"] = str(pydicom.dcmread(io.BytesIO(synthetic.structured_report())).SOPInstanceUID)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("VOXELVAULT_CONFIG_HOME", str(place / "configuration"))
        with vv.create(place / "vault") as vault:
            assert vault.ingest(place / "inbox", progress=False).complete
            yield vault, uids


def read(file: bytes) -> pydicom.Dataset:
    return pydicom.dcmread(io.BytesIO(file))


def values(file: bytes) -> np.ndarray:
    """Decode with pylibjpeg and OpenJPEG, which are nobody of ours."""
    dataset = read(file)
    plugin = "pylibjpeg" if dataset.file_meta.TransferSyntaxUID == HTJ2K else ""
    return pixel_array(dataset, decoding_plugin=plugin)


def expected(name: str) -> np.ndarray:
    data, known = CASES[name]
    return known if known.size else pixel_array(read(data))


@pytest.mark.parametrize("syntax", [NATIVE, HTJ2K])
@pytest.mark.parametrize("name", CASES)
def test_other_programs_read_the_values_that_came(
    served: tuple[vv.Vault, dict[str, str]], name: str, syntax: str
) -> None:
    vault, uids = served
    file = vault.instance(uids[name]).as_dicom(syntax)
    dataset = read(file)
    assert dataset.file_meta.TransferSyntaxUID == syntax
    assert dataset.SOPInstanceUID == dataset.file_meta.MediaStorageSOPInstanceUID == uids[name]
    assert dataset.PatientID == synthetic.PATIENT_ID
    shown = values(file)
    if name in ("overlay", "high bits") and syntax == NATIVE:
        assert file == CASES[name][0]  # as it came: the bits are still where they were
        return
    np.testing.assert_array_equal(shown, expected(name))
    assert shown.dtype == expected(name).dtype


@pytest.mark.parametrize("name", CASES)
def test_a_served_header_says_what_its_codestream_does(
    served: tuple[vv.Vault, dict[str, str]], name: str
) -> None:
    vault, uids = served
    dataset = read(vault.instance(uids[name]).as_dicom(HTJ2K))
    frames = int(dataset.get("NumberOfFrames", 1))
    for codestream in pydicom.encaps.generate_frames(dataset.PixelData, number_of_frames=frames):
        siz = codestream[codestream.index(b"\xff\x51") + 2 :]
        assert int.from_bytes(siz[4:8], "big") == dataset.Columns
        assert int.from_bytes(siz[8:12], "big") == dataset.Rows
        assert int.from_bytes(siz[36:38], "big") == dataset.SamplesPerPixel
        assert (siz[38] & 0x7F) + 1 == dataset.BitsStored == dataset.HighBit + 1
        assert siz[38] >> 7 == dataset.PixelRepresentation
        mixed = codestream[codestream.index(b"\xff\x52") + 8]
        assert dataset.PhotometricInterpretation == ("YBR_RCT" if mixed else "MONOCHROME2")
    offsets = pydicom.encaps.parse_basic_offsets(dataset.PixelData)
    assert len(offsets) == frames
    assert dataset.get("PlanarConfiguration", 0) == 0
    assert dataset.get("LossyImageCompression", "00") == "00"


def test_an_embedded_overlay_moves_into_its_own_attribute(served: tuple[vv.Vault, dict[str, str]]) -> None:
    vault, uids = served
    for name, syntax in (("overlay", HTJ2K), ("implicit", HTJ2K), ("implicit", NATIVE)):
        dataset = read(vault.instance(uids[name]).as_dicom(syntax))
        assert (dataset[0x60000100].value, dataset[0x60000102].value) == (1, 0)
        np.testing.assert_array_equal(dataset.overlay_array(0x6000), PLANE)


def test_stored_chunks_are_served_without_decoding(
    served: tuple[vv.Vault, dict[str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    vault, uids = served
    monkeypatch.setattr(imagecodecs, "htj2k_decode", lambda *a, **k: pytest.fail("a frame was decoded"))
    for name in ("unsigned", "signed", "colour", "big endian"):
        assert len(vault.instance(uids[name]).frame_as_dicom()) > 1000
    with pytest.raises(pytest.fail.Exception):
        vault.instance(uids["overlay"]).frame_as_dicom()


def test_without_a_syntax_the_file_comes_as_it_came(served: tuple[vv.Vault, dict[str, str]]) -> None:
    vault, uids = served
    for name, (data, _) in CASES.items():
        instance = vault.instance(uids[name])
        assert instance.as_dicom() == data
        assert instance.as_dicom(instance.transfer_syntaxes[0]) == data
        assert instance.uid == uids[name]
    report = vault.instance(uids["report"])
    assert report.transfer_syntaxes == (NATIVE,)
    assert report.as_dicom() == synthetic.structured_report()
    with pytest.raises(NoPixels):
        report.frame_as_dicom()


def test_other_syntaxes_are_refused_by_a_list_of_those_that_work(
    served: tuple[vv.Vault, dict[str, str]],
) -> None:
    vault, uids = served
    with pytest.raises(UsageError, match=rf"{re.escape(RLE)}.*{re.escape(HTJ2K)}"):
        vault.instance(uids["kept"]).as_dicom(J2K)
    with pytest.raises(UsageError, match="choose one of"):
        vault.instance(uids["implicit"]).frame_as_dicom(0, synthetic.IMPLICIT)
    with pytest.raises(UsageError, match="no frame 1"):
        vault.instance(uids["signed"]).frame_as_dicom(1)


def test_a_senders_codestream_is_served_as_it_is(served: tuple[vv.Vault, dict[str, str]]) -> None:
    vault, uids = served
    dataset = read(vault.instance(uids["kept"]).frame_as_dicom())
    assert dataset.file_meta.TransferSyntaxUID == RLE
    sent = read(CASES["kept"][0])
    assert list(pydicom.encaps.generate_frames(dataset.PixelData, number_of_frames=1)) == list(
        pydicom.encaps.generate_frames(sent.PixelData, number_of_frames=1)
    )


def test_a_frame_of_many_is_an_instance_of_its_own(served: tuple[vv.Vault, dict[str, str]]) -> None:
    vault, uids = served
    instance = vault.instance(uids["many"])
    assert len(instance) == 3
    files = [instance.frame_as_dicom(number) for number in range(3)]
    for number, file in enumerate(files):
        dataset = read(file)
        assert dataset.NumberOfFrames == 1
        assert dataset.SOPInstanceUID == frame_uid(uids["many"], number) != uids["many"]
        (source,) = dataset.FrameExtractionSequence
        assert source.MultiFrameSourceSOPInstanceUID == uids["many"]
        assert source.SimpleFrameList == number + 1
        np.testing.assert_array_equal(values(file), MANY[number])
    assert files[1] == instance.frame_as_dicom(1)


@pytest.fixture
def vault(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[vv.Vault]:
    """An empty vault."""
    monkeypatch.setenv("VOXELVAULT_CONFIG_HOME", str(tmp_path / "configuration"))
    with vv.create(tmp_path / "vault") as made:
        yield made


def taken(vault: vv.Vault, folder: Path, *files: bytes) -> list[str]:
    """Take files in; return their series' UIDs."""
    folder.mkdir()
    for number, data in enumerate(files):
        (folder / f"{number}.dcm").write_bytes(data)
    assert vault.ingest(folder, progress=False).complete
    return [str(read(data).SeriesInstanceUID) for data in files]


def test_slices_come_in_order_of_space_and_under_one_handle(vault: vv.Vault, tmp_path: Path) -> None:
    uid = taken(vault, tmp_path / "ct", *synthetic.ct_series(4, 24, 20))[0]
    with vault.series(uid) as series:
        stored = series.frames().compute()
        for index in range(4):
            dataset = read(series.frame_as_dicom(index))
            np.testing.assert_array_equal(pixel_array(dataset), stored[index])
            assert dataset.SOPInstanceUID == series.header(index, stack=0)["00080018"]["Value"][0]
        assert len(series.instances) == 4
        with pytest.raises(UsageError, match="slice 4"):
            series.frame_as_dicom(4)
        assert series.handle.frames >= 4
        instance = series.instances[0]
    with pytest.raises(PolicyDenied):
        instance.as_dicom()


def test_an_instance_opens_and_closes_with_an_entry_each(vault: vv.Vault, tmp_path: Path) -> None:
    data = synthetic.image(SIGNED, "OT", bits_stored=12)
    taken(vault, tmp_path / "in", data)
    uid = str(read(data).SOPInstanceUID)
    before = len(vault.audit)
    with vault.instance(uid) as instance:
        assert instance.header.get("Modality") == "OT"
        instance.as_dicom()
        assert uid not in repr(instance)
    assert len(vault.audit) == before + 2
    with pytest.raises(UnknownUID):
        vault.instance("1.2.3")


def test_functional_groups_and_vectors_are_cut_with_the_frame(vault: vv.Vault, tmp_path: Path) -> None:
    uid = taken(vault, tmp_path / "in", synthetic.enhanced())[0]
    with vault.series(uid) as series:
        whole = read(series.instances[0].as_dicom())
        one = read(series.instances[0].frame_as_dicom(3))
    assert len(one.PerFrameFunctionalGroupsSequence) == 1
    assert one.PerFrameFunctionalGroupsSequence[0] == whole.PerFrameFunctionalGroupsSequence[3]
    assert one.SharedFunctionalGroupsSequence == whole.SharedFunctionalGroupsSequence
    np.testing.assert_array_equal(pixel_array(one), pixel_array(whole)[3])


@pytest.mark.parametrize("codec", ["fast", "raw"])
def test_other_codecs_are_coded_on_the_way_out(
    codec: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VOXELVAULT_CONFIG_HOME", str(tmp_path / "configuration"))
    with vv.create(tmp_path / "vault", codec=codec) as vault:
        uid = taken(vault, tmp_path / "in", synthetic.image(COLOUR[None], "OT"))[0]
        np.testing.assert_array_equal(values(vault.series(uid).frame_as_dicom(0)), COLOUR)


def test_every_kind_that_says_it_can_be_served_can(vault: vv.Vault, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    for number, data in enumerate(synthetic.every_kind().values()):
        (tmp_path / "in" / f"{number}.dcm").write_bytes(data)
    vault.ingest(tmp_path / "in", progress=False)
    ids = vault.resources.catalog.query("select series_id from series")["series_id"].to_pylist()
    opened = open_many(vault.resources, ids, kind_code="series")
    made = coded = 0
    for series_id in ids:
        for instance in series_of(vault.resources, opened, series_id).instances:
            native = None
            for syntax in instance.transfer_syntaxes[1:]:
                dataset = read(instance.as_dicom(syntax))
                assert dataset.file_meta.TransferSyntaxUID == syntax
                native = dataset if syntax == NATIVE else native
                made += 1
            if HTJ2K in instance.transfer_syntaxes:
                file = read(instance.as_dicom(HTJ2K))
                native = native or read(instance.as_dicom(NATIVE))
                if native.PhotometricInterpretation != "YBR_FULL_422":
                    np.testing.assert_array_equal(raw(file), raw(native), native.SeriesInstanceUID)
                    coded += 1
    assert made > 20
    assert coded > 10


def raw(dataset: pydicom.Dataset) -> np.ndarray:
    """Decode with pylibjpeg, colours as they are."""
    plugin = "pylibjpeg" if dataset.file_meta.TransferSyntaxUID == HTJ2K else ""
    return pixel_array(dataset, decoding_plugin=plugin, raw=True)


def test_ybr_full_is_coded_component_by_component(vault: vv.Vault, tmp_path: Path) -> None:
    data = synthetic.colour("YBR_FULL")
    uid = taken(vault, tmp_path / "in", data)[0]
    file = vault.series(uid).frame_as_dicom(0)
    dataset = read(file)
    assert dataset.PhotometricInterpretation == "YBR_FULL"
    codestream = next(pydicom.encaps.generate_frames(dataset.PixelData, number_of_frames=1))
    assert not coding_style(codestream).colour_transform
    np.testing.assert_array_equal(raw(dataset), raw(read(data)))
    # It comes back in as anyone's HTJ2K.
    again = tmp_path / "again"
    again.mkdir()
    (again / "file.dcm").write_bytes(file)
    assert not vault.ingest(again, progress=False).quarantined


def errors_of(file: bytes, folder: Path) -> set[str]:
    """What dciodvfy calls errors.

    Debian's does not know HTJ2K yet and takes it for native: it is told JPEG 2000, whose rules for
    the header are the same (PS3.5 8.2.4, 8.2.14).
    """
    path = folder / "served.dcm"
    dataset = read(file)
    if dataset.file_meta.TransferSyntaxUID == HTJ2K:
        dataset.file_meta.TransferSyntaxUID = pydicom.uid.UID(J2K)
    dataset.save_as(path)
    done = subprocess.run([tool("dciodvfy"), str(path)], capture_output=True, text=True)
    assert "Image" in done.stderr  # it names the object that it found
    return {line for line in done.stderr.splitlines() if line.startswith("Error")}


@pytest.mark.parametrize("name", ["unsigned", "signed", "colour", "overlay", "implicit", "many"])
def test_dciodvfy_finds_no_error_that_the_source_did_not_have(
    served: tuple[vv.Vault, dict[str, str]], name: str, tmp_path: Path
) -> None:
    vault, uids = served
    before = errors_of(CASES[name][0], tmp_path)
    instance = vault.instance(uids[name])
    for file in (instance.as_dicom(HTJ2K), instance.as_dicom(NATIVE), instance.frame_as_dicom()):
        assert errors_of(file, tmp_path) <= before


@pytest.mark.parametrize("name", ["unsigned", "signed", "colour", "overlay", "implicit", "many"])
def test_dcmtk_reads_what_is_served(
    served: tuple[vv.Vault, dict[str, str]], name: str, tmp_path: Path
) -> None:
    vault, uids = served
    for syntax in (HTJ2K, NATIVE):
        file = vault.instance(uids[name]).as_dicom(syntax)
        path = tmp_path / "served.dcm"
        path.write_bytes(file)
        done = subprocess.run([tool("dcmdump"), "+E", str(path)], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        assert not done.stderr
        stored = read(file).BitsStored
        assert f"(0028,0101) US {stored} " in done.stdout


def test_long_offsets_take_the_extended_table() -> None:
    frames = [b"abc", b"defgh", b"ij"]
    written = b"".join(write.encapsulated_pixels(frames, longest=13))
    dataset = pydicom.filereader.read_dataset(io.BytesIO(written), False, True)
    offsets = (dataset.ExtendedOffsetTable, dataset.ExtendedOffsetTableLengths)
    found = list(
        pydicom.encaps.generate_frames(dataset.PixelData, number_of_frames=3, extended_offsets=offsets)
    )
    assert [frame.rstrip(b"\0") for frame in found] == frames
    short = b"".join(write.encapsulated_pixels(frames))
    dataset = pydicom.filereader.read_dataset(io.BytesIO(short), False, True)
    assert pydicom.encaps.parse_basic_offsets(dataset.PixelData) == [0, 12, 26]


def test_a_codestream_that_does_not_fit_its_header_is_not_served(
    vault: vv.Vault, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lossy = imagecodecs.htj2k_encode(UNSIGNED, reversible=False, level=0.01)
    assert not coding_style(lossy).reversible
    codec = codecs.CODECS["htj2k"]
    liar = codecs.ChunkCodec("htj2k", lambda frame: lossy, lambda chunk, out: np.copyto(out, UNSIGNED))
    monkeypatch.setitem(codecs.CODECS, "htj2k", liar)
    uid = taken(vault, tmp_path / "in", synthetic.image(UNSIGNED, "OT", bits_stored=12))[0]
    monkeypatch.setitem(codecs.CODECS, "htj2k", codec)
    with pytest.raises(vv.errors.IntegrityError, match="codestream"):
        vault.series(uid).frame_as_dicom(0)
