"""Selections, labels and splits of real files, of many makers and kinds."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pandas as pd
import pytest
from cohort_support import made

import voxelvault as vv
from voxelvault.errors import AmbiguousUID, VoxelVaultError

pytestmark = pytest.mark.shared

FOLDERS = (
    "ImagingDataCommons+highdicom",
    "QIICR+dcmqi",
    "pydicom+pydicom",
    "rii-mango+Papaya",
    "fo-dicom+fo-dicom",
)


@pytest.fixture(scope="module")
def vault(tmp_path_factory: pytest.TempPathFactory, shared_dicom: Path) -> Iterator[vv.Vault]:
    with made(tmp_path_factory.mktemp("real")) as vault:
        vault.ingest(*(shared_dicom / name for name in FOLDERS), progress=False)
        yield vault


def test_selections_agree_with_sql(vault: vv.Vault, exercised: Callable[[int], None]) -> None:
    exercised(vault.summary()["instances"])  # type: ignore[arg-type]
    everything = vault.select()
    (count,) = vault.sql("select count(distinct series_id) from instances where not superseded").fetchall()[0]
    assert len(everything) == count > 30
    for (modality,) in vault.sql("select distinct Modality from series").fetchall():
        selection = vault.select("Modality is not distinct from $m", parameters={"m": modality})
        told = vault.sql(
            "select count(distinct i.series_id) from instances i join series s using (series_id)"
            " where not superseded and Modality is not distinct from $m",
            {"m": modality},
        )
        assert len(selection) == told.fetchall()[0][0]
    frame = everything.df()
    assert len(frame) == len(everything)
    assert len(everything.pl()) == len(everything)
    text = repr(everything) + everything._repr_html_()
    for name in ("PatientID", "PatientName", "StudyInstanceUID", "SeriesInstanceUID"):
        values = {str(value) for value in frame[name].dropna() if len(str(value)) > 6}
        assert not [value for value in values if value in text]


def test_uids_of_real_files_mean_one_thing_or_are_refused(vault: vv.Vault) -> None:
    frame = vault.select().df()
    for column in ("SeriesInstanceUID", "StudyInstanceUID"):
        counts = frame.groupby(column)["subject_id"].nunique()
        for uid, people in counts[counts.index != ""].items():
            if people > 1:
                with pytest.raises(AmbiguousUID):
                    len(vault.select([uid]))
    alone = frame.drop_duplicates("SeriesInstanceUID", keep=False)
    alone = alone[alone["SeriesInstanceUID"] != ""]
    assert set(vault.select(alone).series_ids) == set(alone["series_id"])


def test_label_freeze_split(vault: vv.Vault) -> None:
    images = vault.select("frame_count > 0")
    frame = images.df()
    table = pd.DataFrame({"subject_id": sorted(set(frame["subject_id"]))})
    table["label"] = range(len(table))
    table["label"] %= 2
    labelled = images.with_labels(table, on="subject_id")
    assert labelled.label_report is not None
    assert labelled.label_report.labelled == len(images)
    cohort = labelled.freeze("real")
    split = cohort.split(stratify="label")
    split.check()
    parts = {name: set(part.df()["subject_id"]) for name, part in split.parts.items()}
    assert not parts["train"] & parts["test"] | parts["train"] & parts["val"] | parts["val"] & parts["test"]
    assert set().union(*parts.values()) == set(frame["subject_id"])
    reopened = vault.cohort("real")
    assert reopened.labels == labelled.labels
    assert [part.series_ids for part in reopened.split()] == [part.series_ids for part in split]
    assert len(images.kfold(4)) == 4
    text = json.dumps(cohort.provenance())
    for name in ("PatientID", "PatientName", "StudyInstanceUID", "SeriesInstanceUID", "StudyDate"):
        values = {str(value) for value in frame[name].dropna() if len(str(value)) > 6}
        assert not [value for value in values if value in text]


def test_every_series_opens_in_a_loop_and_in_a_tree(vault: vv.Vault) -> None:
    images = vault.select("frame_count > 0")
    read = 0
    for series in images:
        try:
            read += bool(series.frame(0, 0).size)
        except VoxelVaultError:
            # Real files include some whose pixels can't be decoded: each says so, and the loop goes on.
            continue
    assert read > 0.9 * len(images)
    tree = images.to_xarray()
    assert set(images.series_ids) - set(tree.children) == set()
    assert tree.attrs["series"] == len(images)


def test_labels_from_segmentations_and_reports(vault: vv.Vault) -> None:
    images = vault.select("Modality in ('CT', 'MR', 'PT', 'SM')")
    segmented = images.with_labels(from_="SEG", missing="drop")
    assert len(segmented) > 0
    assert all(isinstance(name, str) for row in segmented.labels.rows.values() for name in row["segments"])
    again = segmented.freeze("segmented")
    assert again.labels == segmented.labels
    assert len(segmented.df()["segments"].dropna()) == len(segmented)
    images.with_labels(from_="SR").provenance()
    images.with_labels(from_="RTSTRUCT")
