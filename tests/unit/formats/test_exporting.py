"""Volumes that go out as NIfTI and OME-Zarr: values, places, names, and what the report says."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import os
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pydicom
import pytest
import xarray
import zarr

import voxelvault as vv
from voxelvault.audit import about
from voxelvault.errors import MissingExtra, NoSpace, UnknownUID, UsageError
from voxelvault.formats import exporting
from voxelvault.formats.exporting import export_as
from voxelvault.formats.report import FormatReport, LeavesTheVault
from voxelvault.formats.volumes import SIDECAR
from voxelvault.policy.access import Decision
from voxelvault.testing import synthetic

MARKER_MM = (-12.0, -6.0, 11.0)
"""LPS; in RAS (12, 6, 11)."""

MADE: dict[str, Sequence[bytes]] = {
    "ct": synthetic.ct_series(8, 24, 20, marker=MARKER_MM, shuffled=True, series=11),
    "pet": synthetic.pet_series(series=12),
    "echoes": synthetic.mr_series(3, 16, 16, echoes=(20.0, 35.0), series=13),
    "sagittal": synthetic.ct_series(5, 80, 70, orientation=synthetic.SAGITTAL, series=14),
    "wide": synthetic.ct_series(5, 80, 70, series=15),
    "colour": [synthetic.colour()],
    "uneven": synthetic.ct_series(4, 16, 16, uneven=(2.0, 3.5, 2.0), series=16),
    "tilted": synthetic.ct_series(4, 16, 16, tilt=12.0, series=17),
    "slanted": synthetic.ct_series(4, 16, 16, tilt=20.0, uneven=(2.0, 3.5, 2.0), series=18),
    "report": [synthetic.structured_report()],
}


@dataclass(frozen=True)
class Filled:
    """A vault, and which series in it is which."""

    vault: vv.Vault
    uids: dict[str, str]
    ids: dict[str, str]

    def series(self, name: str) -> Any:
        return self.vault.series(self.uids[name])

    def outcomes(self) -> list[str]:
        """Return how the exports ended, in order."""
        return [str(entry.outcome) for entry in self.vault.audit.log() if entry.kind == "export"]


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Filled]:
    root = tmp_path_factory.mktemp("exporting")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("VOXELVAULT_CONFIG_HOME", str(root / "configuration"))
        uids = {}
        (root / "inbox").mkdir()
        for name, files in MADE.items():
            for number, data in enumerate(files):
                data = named_by_its_maker(data) if name == "tilted" else data
                (root / "inbox" / f"{name}-{number}.dcm").write_bytes(data)
            uids[name] = str(pydicom.dcmread(io.BytesIO(files[0])).SeriesInstanceUID)
        with vv.create(root / "vault", codec="fast") as vault:
            assert not vault.ingest(root / "inbox", progress=False).quarantined
            rows = vault.resources.catalog.query(
                "select SeriesInstanceUID, series_id from series"
            ).to_pylist()
            ids = {row["SeriesInstanceUID"]: row["series_id"] for row in rows}
            yield Filled(vault, uids, {name: ids[uid] for name, uid in uids.items()})


def out_of(filled: Filled, out: Path, format: str, *names: str, **options: Any) -> FormatReport:
    """Export the series of these names, or all."""
    ids = [filled.ids[name] for name in names or MADE]
    with pytest.warns(LeavesTheVault, match="outside the vault"):
        report = export_as(filled.vault.resources, out, format, series_ids=ids, progress=False, **options)
    assert isinstance(report, FormatReport)
    return report


@pytest.fixture(scope="module")
def as_nifti(filled: Filled, tmp_path_factory: pytest.TempPathFactory) -> FormatReport:
    return out_of(filled, tmp_path_factory.mktemp("nifti"), "nifti")


@pytest.fixture(scope="module")
def as_ome_zarr(filled: Filled, tmp_path_factory: pytest.TempPathFactory) -> FormatReport:
    return out_of(filled, tmp_path_factory.mktemp("ome-zarr"), "ome-zarr")


def nifti_of(report: FormatReport, series_id: str, tail: str = "") -> Any:
    return nibabel.load(report.folder / f"{series_id}{tail}.nii.gz")


def facts_of(report: FormatReport, series_id: str, tail: str = "") -> dict[str, Any]:
    found: dict[str, Any] = json.loads((report.folder / f"{series_id}{tail}.json").read_text())
    return found


def named_by_its_maker(data: bytes) -> bytes:
    """Put a word of the patient's name where the manufacturer stands."""
    dataset, buffer = pydicom.dcmread(io.BytesIO(data)), io.BytesIO()
    dataset.Manufacturer = "Plantedworth Imaging"
    dataset.save_as(buffer)
    return buffer.getvalue()


def test_a_marker_is_at_its_place_in_nifti(filled: Filled, as_nifti: FormatReport) -> None:
    series, image = filled.series("ct"), nifti_of(as_nifti, filled.ids["ct"])
    assert image.get_data_dtype() == np.int16
    assert (image.dataobj.slope, image.dataobj.inter) == (1.0, -1024.0)
    np.testing.assert_array_equal(np.asarray(image.dataobj), series.load().transpose(2, 1, 0))
    np.testing.assert_array_equal(image.affine, series.affine_ras.astype(np.float32))
    np.testing.assert_allclose(image.get_qform(), image.get_sform(), atol=1e-5)
    assert (image.header["qform_code"], image.header["sform_code"]) == (1, 1)
    voxel = np.linalg.inv(image.affine) @ [-MARKER_MM[0], -MARKER_MM[1], MARKER_MM[2], 1]
    assert image.get_fdata()[tuple(voxel[:3].round().astype(int))] == synthetic.MARKER
    assert facts_of(as_nifti, filled.ids["ct"])["KVP"] == 120


def test_slopes_that_differ_become_float32(filled: Filled, as_nifti: FormatReport) -> None:
    image = nifti_of(as_nifti, filled.ids["pet"])
    assert image.get_data_dtype() == np.float32
    np.testing.assert_array_equal(np.asarray(image.dataobj), filled.series("pet").load().transpose(2, 1, 0))
    assert facts_of(as_nifti, filled.ids["pet"])["Units"] == "BQML"


def test_each_echo_is_a_file_with_its_own_sidecar(filled: Filled, as_nifti: FormatReport) -> None:
    series, series_id = filled.series("echoes"), filled.ids["echoes"]
    items = [item for item in as_nifti.written if item.series_id == series_id]
    assert [item.path for item in items] == [f"{series_id}_stack-{n}.nii.gz" for n in (0, 1)]
    assert [item.stack for item in items] == list(series.stacks)
    times = []
    for number, tail in enumerate(("_stack-0", "_stack-1")):
        image, facts = nifti_of(as_nifti, series_id, tail), facts_of(as_nifti, series_id, tail)
        np.testing.assert_array_equal(np.asarray(image.dataobj), series.load(number).transpose(2, 1, 0))
        times.append(facts["EchoTime"])
        assert facts["RepetitionTime"] == 2.0
    assert sorted(times) == [0.02, 0.035]


def test_nothing_that_goes_out_names_anybody(
    filled: Filled, as_nifti: FormatReport, as_ome_zarr: FormatReport
) -> None:
    told = []
    for report in (as_nifti, as_ome_zarr):
        told += [str(report), report._repr_html_(), report.df().to_csv()]
        for path in report.folder.rglob("*"):
            told.append(str(path.relative_to(report.folder)))
            if path.is_file():
                data = path.read_bytes()
                told.append((gzip.decompress(data) if path.suffix == ".gz" else data).decode("latin-1"))
    for value in (*synthetic.PLANTED, *filled.uids.values()):
        assert not any(value in text for text in told), value
    assert any("KVP" in text for text in told)


def test_the_sidecar_has_no_key_of_who_where_or_when() -> None:
    keywords = {keyword for keyword, _ in SIDECAR.values()}
    unfit = ("Name", "Date", "UID", "Description", "Comments", "Serial", "Address", "Protocol", "Operator")
    assert [word for word in keywords if any(part in word for part in unfit)] == ["ManufacturerModelName"]


@pytest.mark.parametrize("name", ["wide", "sagittal"])
def test_ome_zarr_opens_in_zarr_and_xarray(filled: Filled, as_ome_zarr: FormatReport, name: str) -> None:
    series, path = filled.series(name), as_ome_zarr.folder / f"{filled.ids[name]}.ome.zarr"
    group = zarr.open_group(path, mode="r")
    array: Any = group["0"]
    assert (array.dtype, array.chunks, array.metadata.zarr_format) == (np.int16, (5, 64, 64), 3)
    np.testing.assert_array_equal(array[...], series.load())
    attributes: Any = group.attrs.asdict()
    np.testing.assert_array_equal(attributes["affine_ras"], series.affine_ras)
    (multiscale,) = attributes["ome"]["multiscales"]
    assert attributes["ome"]["version"] == "0.5"
    axes = [(axis["name"], axis["type"], axis["unit"]) for axis in multiscale["axes"]]
    assert axes == [(name, "space", "millimeter") for name in "zyx"]
    scale, translation = multiscale["datasets"][0]["coordinateTransformations"]
    assert scale == {"type": "scale", "scale": pytest.approx([2.0, 0.8, 0.6])}
    # Along the array's own axes: z, y, x of the first voxel in LPS; a sagittal slice's are x, z, y.
    first = {"wide": [5.0, -15.0, -20.0], "sagittal": series.affine_lps[:3, 3] @ series_axes(series)}[name]
    assert translation["translation"] == pytest.approx(first)
    dataset = xarray.open_zarr(path)
    assert dataset["0"].dims == ("z", "y", "x")
    assert dataset["0"].attrs["units"] == "HU"
    np.testing.assert_array_equal(dataset["0"].to_numpy(), series.load())


def series_axes(series: Any) -> Any:
    """Return unit vectors along slice, row and column, as columns; LPS."""
    orientation = series.geometry().orientation
    return np.stack([series.geometry().normal, orientation[3:], orientation[:3]], axis=1)


def test_colour_goes_out_as_channels_and_not_as_nifti(
    filled: Filled, as_nifti: FormatReport, as_ome_zarr: FormatReport
) -> None:
    series_id = filled.ids["colour"]
    (item,) = [item for item in as_nifti.skipped if item.series_id == series_id]
    assert "colour" in item.reason
    assert "ome-zarr" in item.reason
    (item,) = [item for item in as_ome_zarr.written if item.series_id == series_id]
    assert "no place" in item.reason
    group = zarr.open_group(as_ome_zarr.folder / item.path, mode="r")
    array: Any = group["0"]
    np.testing.assert_array_equal(np.moveaxis(array[...], 0, -1), filled.series("colour").load())
    multiscale: Any = group.attrs.asdict()["ome"]["multiscales"][0]  # type: ignore[index, call-overload]
    assert multiscale["axes"][0] == {"name": "c", "type": "channel"}
    assert "unit" not in multiscale["axes"][1]


def test_uneven_slices_are_left_out_or_resampled(
    filled: Filled, as_nifti: FormatReport, tmp_path: Path
) -> None:
    series_id = filled.ids["uneven"]
    (item,) = [item for item in as_nifti.skipped if item.series_id == series_id]
    assert "uneven" in item.reason
    assert "resample=True" in str(as_nifti)
    assert not list(as_nifti.folder.glob(f"{series_id}*"))
    report = out_of(filled, tmp_path, "nifti", "uneven", resample=True)
    assert report.complete
    assert "interpolated" in str(report)
    image, resampled = nifti_of(report, series_id), filled.series("uneven").to_xarray(resample=True)
    np.testing.assert_allclose(np.asarray(image.dataobj), resampled.to_numpy().transpose(2, 1, 0))
    np.testing.assert_allclose(image.affine, resampled.attrs["affine_ras"], atol=1e-4)


def test_what_no_slice_reaches_is_filled(filled: Filled, tmp_path: Path) -> None:
    report, series_id = out_of(filled, tmp_path, "nifti", "slanted", resample=True), filled.ids["slanted"]
    even = filled.series("slanted").to_xarray(resample=True).to_numpy().transpose(2, 1, 0)
    outside = np.isnan(even)
    assert outside.any()
    values = np.asarray(nifti_of(report, series_id).dataobj)
    assert (values[outside] == -1024).all()
    np.testing.assert_array_equal(values[~outside], even[~outside])
    assert facts_of(report, series_id)["FillValue"] == -1024
    assert "-1024 outside" in str(report)


def test_a_tilted_gantry_keeps_its_shear(filled: Filled, as_nifti: FormatReport) -> None:
    image = nifti_of(as_nifti, filled.ids["tilted"])
    np.testing.assert_allclose(image.affine, filled.series("tilted").affine_ras, atol=1e-5)
    assert (image.header["qform_code"], image.header["sform_code"]) == (0, 1)
    assert "tilted" in str(as_nifti)


def test_the_report_counts_all_of_it(as_nifti: FormatReport) -> None:
    assert (as_nifti.complete, as_nifti.files, as_nifti.without_pixels) == (False, 7, 1)
    assert len(as_nifti.skipped) == 3
    assert as_nifti.bytes == sum(path.stat().st_size for path in as_nifti.folder.iterdir())
    assert list(as_nifti.df()["state"]).count("written") == 7


@pytest.mark.parametrize("format", ["nifti", "ome-zarr"])
def test_what_is_there_is_never_overwritten(filled: Filled, tmp_path: Path, format: str) -> None:
    ending = {"nifti": ".nii.gz", "ome-zarr": ".ome.zarr"}[format]
    there = tmp_path / f"{filled.ids['ct']}{ending}"
    there.write_bytes(b"mine")
    report = out_of(filled, tmp_path, format, "ct", "pet")
    assert there.read_bytes() == b"mine"
    assert ([item.path for item in report.kept], report.files, report.complete) == ([there.name], 1, True)
    again = out_of(filled, tmp_path, format, "ct", "pet")
    assert (len(again.kept), again.files, again.bytes) == (2, 0, 0)


def test_another_sidecar_in_the_way_is_left_alone(filled: Filled, tmp_path: Path) -> None:
    (tmp_path / f"{filled.ids['ct']}.json").write_text("{}")
    report = out_of(filled, tmp_path, "nifti", "ct")
    assert "there already" in str(report)
    assert [path.name for path in tmp_path.iterdir()] == [f"{filled.ids['ct']}.json"]


def changed(patch: pytest.MonkeyPatch, format: str, write: Callable[[Any, Path], int]) -> None:
    """Let a format be written by another function."""
    formats: Any = exporting.FORMATS
    patch.setitem(formats, format, replace(formats[format], write=write))


def test_a_full_disk_leaves_a_report_and_an_entry(
    filled: Filled, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = exporting.FORMATS["nifti"].write

    def fill(volume: Any, path: Path) -> int:
        if list(tmp_path.iterdir()):
            raise NoSpace("the disk is full; free some space and run it again")
        return real(volume, path)

    with monkeypatch.context() as patch:
        changed(patch, "nifti", fill)
        report = out_of(filled, tmp_path, "nifti", "ct", "pet", "sagittal")
    assert (report.files, report.complete) == (1, False)
    assert "stopped early: the disk is full" in str(report)
    assert filled.outcomes()[-2:] == ["intent", "partial"]
    rest = out_of(filled, tmp_path, "nifti", "ct", "pet", "sagittal")
    assert (rest.files, len(rest.kept), rest.complete) == (2, 1, True)


@pytest.mark.parametrize("format", ["nifti", "ome-zarr"])
def test_ctrl_c_finishes_the_series_at_hand(
    filled: Filled, tmp_path: Path, format: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = exporting.FORMATS[format].write

    def interrupted(volume: Any, path: Path) -> int:
        os.kill(os.getpid(), signal.SIGINT)
        return real(volume, path)

    changed(monkeypatch, format, interrupted)
    report = out_of(filled, tmp_path, format, "ct", "pet")
    assert (report.files, report.stopped) == (1, "interrupted")
    assert filled.outcomes()[-2:] == ["intent", "partial"]


@pytest.mark.parametrize("format", ["nifti", "ome-zarr"])
def test_what_breaks_off_leaves_nothing_under_the_name(
    filled: Filled, tmp_path: Path, format: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> Any:
        raise KeyboardInterrupt

    monkeypatch.setattr("voxelvault.files._name_once", broken)
    monkeypatch.setattr("voxelvault.formats.ome_zarr._settle", broken)
    with pytest.raises(KeyboardInterrupt):
        out_of(filled, tmp_path, format, "ct")
    assert list(tmp_path.iterdir()) == []
    assert filled.outcomes()[-2:] == ["intent", "failed"]


def test_the_vault_exports_a_study_or_a_series_in_any_format(filled: Filled, tmp_path: Path) -> None:
    vault, uid = filled.vault, filled.uids["ct"]
    with pytest.warns(LeavesTheVault):
        report = vault.export(tmp_path / "ome", series=uid, format="ome-zarr", progress=False)
    assert isinstance(report, FormatReport)
    assert [item.series_id for item in report.written] == [filled.ids["ct"]]
    files = vault.export(tmp_path / "files", series=uid, progress=False)
    assert files.files == 8
    entries = [entry for entry in vault.audit.log() if entry.kind == "export"][-4:]
    assert [entry.codes["format"] for entry in entries] == [("ome_zarr",)] * 2 + [("dicom",)] * 2
    assert entries[0].ids["series"] == (filled.ids["ct"],)
    assert entries[1].counts == {"members": 1, "files": 1, "bytes": report.bytes}


def test_wrong_wishes_are_refused_before_anything_is_logged(
    filled: Filled, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    vault, before = filled.vault, len(filled.outcomes())
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match="nifti, ome-zarr"):
        vault.export(tmp_path / "out", format="nrrd", progress=False)
    with pytest.raises(UsageError, match="resampled"):
        vault.export(tmp_path / "out", resample=True, progress=False)
    with pytest.raises(UsageError, match="name a folder"):
        vault.export(tmp_path / "file", format="nifti", progress=False)
    with pytest.raises(UnknownUID):
        vault.export(tmp_path / "out", format="nifti", series="1.2.3", progress=False)
    monkeypatch.setitem(sys.modules, "nibabel", None)
    with pytest.raises(MissingExtra, match=r"voxelvault\[train\]"):
        vault.export(tmp_path / "out", format="nifti", progress=False)
    assert len(filled.outcomes()) == before
    assert not (tmp_path / "out").exists()


def test_a_selection_and_a_cohort_export_what_they_are(filled: Filled, tmp_path: Path) -> None:
    chosen = filled.vault.select(uids=[filled.uids["ct"], filled.uids["pet"]])
    with pytest.warns(LeavesTheVault) as warned:
        report = chosen.export(tmp_path / "nifti", format="nifti", progress=False)
    assert [warning.filename for warning in warned] == [__file__]
    assert isinstance(report, FormatReport)
    assert {item.series_id for item in report.written} == {filled.ids["ct"], filled.ids["pet"]}
    cohort = chosen.freeze("exported")
    assert cohort.export(tmp_path / "files", progress=False).files == len(MADE["ct"]) + len(MADE["pet"])
    with pytest.warns(LeavesTheVault):
        cohort.export(tmp_path / "ome", format="ome-zarr", progress=False)
    entries = [entry for entry in filled.vault.audit.log() if entry.kind == "export"][-4:]
    assert {entry.ids["cohort"] for entry in entries} == {(cohort.cohort_id,)}


@pytest.mark.parametrize("format", ["dicom", "nifti"])
@pytest.mark.filterwarnings("ignore::voxelvault.formats.report.LeavesTheVault")
def test_the_policy_and_the_log_know_which_series_go_out(
    filled: Filled, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, format: str
) -> None:
    chosen = filled.vault.select(uids=[filled.uids["ct"], filled.uids["pet"]])
    wanted, asked = chosen.series_ids, []
    monkeypatch.setattr(
        type(filled.vault.resources.policy),
        "decide",
        lambda _, request: asked.append(request) or Decision(True, "owner"),
    )
    chosen.export(tmp_path / "all", format=format, progress=False)
    assert {request.object_ids for request in asked if request.action == "export"} == {wanted}
    monkeypatch.setattr(about, "NAMED", 1)
    chosen.export(tmp_path / "all", format=format, progress=False)
    entries = [entry for entry in filled.vault.audit.log() if entry.kind == "export"][-4:]
    assert [entry.ids.get("series") for entry in entries] == [wanted, wanted, None, None]
    digest = hashlib.sha256("".join(wanted).encode()).hexdigest()
    assert {(entry.counts["members"], entry.digests["members"]) for entry in entries} == {(2, digest)}


def test_an_empty_selection_is_refused(filled: Filled, tmp_path: Path) -> None:
    for format in ("dicom", "nifti"):
        with pytest.raises(UsageError, match="widen"):
            filled.vault.select("Modality = 'XX'").export(tmp_path / "out", format=format, progress=False)
    assert not (tmp_path / "out").exists()


def test_the_command_line_exports_volumes(
    filled: Filled, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from voxelvault.interfaces.cli import main

    line = ["--vault", str(filled.vault.path), "export", "--out", str(tmp_path), "--format", "nifti"]
    assert main([*line, "--series", filled.uids["ct"]]) == 0
    shown = capsys.readouterr()
    assert "outside the vault" in shown.out
    assert "Warning" not in shown.err
    assert main([*line, "--series", filled.uids["colour"], "--json"]) == 3
    document = json.loads(capsys.readouterr().out)
    assert document["skipped"][0]["series_id"] == filled.ids["colour"]
