"""The main job on real files: all of them in, counted, verified, and out again hash for hash."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
from material import Filled, digests_of

from voxelvault.export import ExportReport
from voxelvault.intake.quarantine import Reason, quarantine_export

TEST_FILES = "pydicom+pydicom/src/pydicom/data/test_files"
DIRECTORIES = (
    "neurolabusc+dcm_qa_ct/In/Philips/S21570/DIRFILE",
    "neurolabusc+dcm_qa_ct/In/Philips/S21570/S2010/DIRFILE",
    "neurolabusc+dcm_qa_ct/In/Philips/S21570/S4010/DIRFILE",
    *(
        f"{TEST_FILES}/dicomdirtests/{name}"
        for name in (
            "DICOMDIR",
            "DICOMDIR-bigEnd",
            "DICOMDIR-empty.dcm",
            "DICOMDIR-implicit",
            "DICOMDIR-nooffset",
            "DICOMDIR-nopatient",
            "DICOMDIR-reordered",
            "TINY_ALPHA/DICOMDIR",
        )
    ),
)
ASIDE = dict.fromkeys(DIRECTORIES, "media_directory") | {
    f"{TEST_FILES}/no_meta.dcm": "unrecognised",
    f"{TEST_FILES}/rtplan_truncated.dcm": "malformed",
}
"""Every real file that is no instance, and why."""


def test_every_file_comes_back_or_is_kept_aside(filled: Filled, exported: ExportReport) -> None:
    """Hashes are taken here, from the files on disk before and after, not from the vault's own word."""
    out = set(digests_of(exported.folder).values())
    aside = {item.sha256 for item in filled.vault.quarantine()}
    wanted = filled.material.manifest or {
        path: {} for path in filled.material.files if path.suffix in (".dcm", ".DCM")
    }
    lost = [path for path in wanted if filled.material.files[path] not in out | aside]
    assert not lost
    assert exported.files == filled.report.stored


def test_the_manifest_is_true(filled: Filled) -> None:
    if not filled.material.manifest:
        pytest.skip("the wheel's files come without a manifest")
    assert len(filled.material.manifest) == 966
    wrong = [p for p, row in filled.material.manifest.items() if filled.material.files[p] != row["sha256"]]
    assert not wrong


def test_quarantine_is_exactly_this(filled: Filled) -> None:
    by_digest = {digest: path for path, digest in filled.material.files.items()}
    found = {by_digest[item.sha256]: item.reason for item in filled.vault.quarantine()}
    assert all(isinstance(reason, Reason) for reason in found.values())
    if filled.material.manifest:
        root = filled.material.folders[0]
        expected = {root / name: Reason.of(code) for name, code in ASIDE.items()}
    else:
        names = {name.removeprefix(TEST_FILES + "/"): code for name, code in ASIDE.items()}
        root = filled.material.folders[0]
        expected = {root / n: Reason.of(code) for n, code in names.items() if (root / n).exists()}
    assert found == expected


def test_what_is_kept_aside_comes_back_too(filled: Filled, tmp_path: Path) -> None:
    listed = filled.vault.quarantine()
    paths = quarantine_export(filled.vault.resources, tmp_path / "aside")
    assert Counter(digests_of(tmp_path / "aside").values()) == Counter(item.sha256 for item in listed)
    assert len(paths) == len(listed)


def test_a_second_ingest_stores_nothing(filled: Filled) -> None:
    before = filled.vault.sql("select count(*), count(distinct pack_id) from instances").fetchall()
    objects = sum(1 for _ in filled.vault.resources.objects.list("objects/"))
    again = filled.vault.ingest(*filled.material.folders, progress=False)
    assert again.stored == again.versions == 0
    assert again.duplicates == filled.report.stored + filled.report.duplicates
    assert len(again.quarantined) == len(filled.report.quarantined)
    assert filled.vault.sql("select count(*), count(distinct pack_id) from instances").fetchall() == before
    assert sum(1 for _ in filled.vault.resources.objects.list("objects/")) == objects
    assert len(filled.vault.quarantine()) == len(filled.report.quarantined)


def test_everything_verifies(filled: Filled) -> None:
    report = filled.vault.verify(progress=False)
    assert report.ok, report.failures[:5]
    assert report.instances == filled.report.stored
    assert report.orphans == 0
    assert report.log is not None


def test_modalities_and_transfer_syntaxes_are_those_of_the_manifest(filled: Filled) -> None:
    if not filled.material.manifest:
        pytest.skip("the wheel's files come without a manifest")
    digests = set(filled.vault.sql("select sha256 from instances").df()["sha256"])
    rows = [row for row in filled.material.manifest.values() if row["sha256"] in digests]
    counted = filled.vault.sql(
        """select header->>'$."00080060".Value[0]', TransferSyntaxUID, sha256 from instances"""
    ).fetchall()
    known = {row["sha256"]: row for row in rows}
    counted = [row for row in counted if row[2] in known]
    assert len(counted) == len(rows) == 966 - len(ASIDE)
    assert Counter(modality or "" for modality, _, _ in counted) == Counter(row["modality"] for row in rows)
    # Six files name no transfer syntax; the vault has to find out, and says what it found.
    named = [row for row in counted if known[row[2]]["transfer_syntax_uid"]]
    assert len(rows) - len(named) == 5
    assert Counter(syntax for _, syntax, _ in named) == Counter(
        row["transfer_syntax_uid"] for row in rows if row["transfer_syntax_uid"]
    )
    assert {syntax for _, syntax, digest in counted if not known[digest]["transfer_syntax_uid"]} <= {
        "1.2.840.10008.1.2",
        "1.2.840.10008.1.2.1",
        "1.2.840.10008.1.2.2",
    }


def test_summary_counts_like_sql(filled: Filled) -> None:
    summary = filled.vault.summary()
    count = filled.vault.sql("select count(*) from instances").fetchall()[0][0]
    assert summary["instances"] == count == filled.report.stored
    assert summary["quarantined"] == len(filled.report.quarantined)
    assert summary["bytes"] == filled.report.bytes


def test_one_study_goes_out_alone(filled: Filled, tmp_path: Path) -> None:
    study, count = filled.vault.sql(
        "select studies.StudyInstanceUID, count(*) as n from instances join studies using (study_id)"
        " group by all having n > 3 order by n, 1 limit 1"
    ).fetchall()[0]
    report = filled.vault.export(tmp_path / "one", study=study, progress=False)
    assert report.files == count
    digests = set(digests_of(tmp_path / "one" / study).values())
    assert len(digests) == count
    assert digests <= set(filled.material.files.values())
