"""A frozen cohort stays what it was, and says what became of it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from cohort_support import made, person, put, subject, write

import voxelvault as vv
from voxelvault.audit.events import Kind, Outcome
from voxelvault.catalog.catalog import Change
from voxelvault.errors import AuditError, CatalogError, IntegrityError, UsageError
from voxelvault.rows import changes
from voxelvault.testing import synthetic
from voxelvault.testing.practice import practice_studies

MANY = 4


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("freezing")
    with made(folder) as vault:
        for number in range(MANY):
            write(folder / "in", number, person(number))
        vault.ingest(folder / "in", progress=False)
    return folder


@pytest.fixture
def vault(filled: Path, tmp_path: Path) -> Iterator[vv.Vault]:
    with made(tmp_path, filled) as vault:
        yield vault


def labels(values: list[object]) -> dict[str, list[object]]:
    return {"StudyInstanceUID": [synthetic.uid(at) for at in range(len(values))], "label": values}


def test_reprs_outlive_the_vault(vault: vv.Vault) -> None:
    selection, cohort = vault.select(), vault.select().freeze("heads-v1")
    vault.close()
    assert (repr(selection), repr(cohort)) == ("<Selection: closed vault>", "<Cohort heads-v1: closed vault>")
    assert selection._repr_html_() == "&lt;Selection: closed vault&gt;"


def remove(vault: vv.Vault, table: str, where: str) -> None:
    """What an erasure does to a table."""
    rows = vault.resources.catalog.query(f"select * from {table} where {where}")
    key = {"cohort_members": ["cohort_id", "instance_id"], "patients": ["subject_id"]}.get(table)
    vault.resources.catalog.commit([Change(table, rows.select(key or [f"{table[:-1]}_id"]), "delete")])


def test_freezing_stores_members_and_labels_and_is_logged(vault: vv.Vault) -> None:
    selection = vault.select("Modality = 'CT'").with_labels(labels([1, 0, 1]), on="StudyInstanceUID")
    cohort = selection.freeze("heads-v1")
    entries = [entry for entry in vault.audit.log() if entry.kind == Kind.COHORT_FROZEN]
    assert [entry.outcome for entry in entries] == [Outcome.INTENT, Outcome.OK]
    assert entries[1].counts["members"] == 2 * MANY
    assert entries[1].digests["catalog"] == vault.resources.catalog.head().digest
    again = vault.cohort("heads-v1")
    assert again.series_ids == cohort.series_ids == selection.series_ids
    assert again.labels == cohort.labels == selection.labels
    assert not again.erased
    assert not again.changed
    assert repr(again).startswith(f"<Cohort heads-v1: {MANY} series of {MANY} subjects, CT {MANY}")
    assert vault.cohorts().columns[:4] == ["name", "frozen", "members", "subjects"]
    assert vault.cohorts().fetchall()[0][0] == "heads-v1"
    assert [series.load().shape for series in again] == [(2, 16, 16)] * MANY
    assert vault.audit.log(1)[0].codes["type"] == ("cohort",)


def test_stored_labels_are_read_after_an_entry_that_names_the_cohort(vault: vv.Vault) -> None:
    frozen = vault.select().with_labels(labels([1, 0, 1]), on="StudyInstanceUID").freeze("a")
    vault.select().freeze("without")
    before = len(vault.audit.log())
    vault.cohort("without")
    assert len(vault.audit.log()) == before
    vault.cohort("a")
    (entry,) = vault.audit.log()[before:]
    assert (entry.kind, entry.ids) == (Kind.IDENTIFYING_READ, {"cohort": (frozen.cohort_id,)})


def test_names_and_nothing(vault: vv.Vault) -> None:
    for name in ("", "1st", "a b", "x" * 65, "../up", "a\n", "é"):
        with pytest.raises(UsageError, match="name"):
            vault.select().freeze(name)
    with pytest.raises(UsageError, match="nothing"):
        vault.select("false").freeze("b")
    with pytest.raises(UsageError, match="no cohort"):
        vault.cohort("b")


def test_freezing_the_same_again_gives_the_cohort_there_is(vault: vv.Vault) -> None:
    asked = vault.select("Modality = 'CT'").with_labels(labels([1, 0, 1]), on="StudyInstanceUID")
    first = asked.freeze("a")
    split = first.split(train=0.5, test=0.5, stratify=[])
    before = len(vault.audit.log())
    again = vault.select().with_labels(labels([1, 0, 1]), on="StudyInstanceUID").freeze("a")
    assert again.frozen == vault.cohort("a").frozen
    assert again.labels == first.labels
    assert again.split()["train"].series_ids == split["train"].series_ids
    assert vault.cohort("a").freeze("a").cohort_id == first.cohort_id
    assert len(vault.cohorts()) == 1
    since = vault.audit.log()[before:]
    assert Kind.COHORT_FROZEN not in {entry.kind for entry in since}
    found = [entry for entry in since if entry.kind == Kind.QUERY and "cohort" in entry.ids]
    assert [entry.ids for entry in found] == [{"cohort": (first.cohort_id,)}] * 2


def test_a_taken_name_says_in_counts_how_the_content_differs(vault: vv.Vault, tmp_path: Path) -> None:
    cohort = vault.select().freeze("a")
    told = r"already.*8 instances of 4 subjects then, 6 of 3 now: 0 new, 2 not among them any more\)"
    with pytest.raises(UsageError, match=told):
        vault.select("PatientID != 'P0'").freeze("a")
    with pytest.raises(UsageError, match="same 8 instances, but other labels: 0 columns then, 1 now"):
        vault.select().with_labels(labels([1]), on="StudyInstanceUID").freeze("a")
    put(vault, tmp_path / "more", 9, person(9))
    with pytest.raises(UsageError, match="10 of 5 now: 2 new, 0 not"):
        vault.select().freeze("a")
    assert cohort.freeze("a").cohort_id == cohort.cohort_id
    gone = subject(vault, "P2")
    for table in ("cohort_members", "instances", "patients"):
        remove(vault, table, f"subject_id = '{gone}'")
    with pytest.raises(UsageError, match="2 erased since"):
        vault.cohort("a").freeze("a")
    assert len(vault.cohorts()) == 1


def test_no_entry_no_cohort(vault: vv.Vault, monkeypatch: pytest.MonkeyPatch) -> None:
    selection = vault.select()
    len(selection)

    def refuse(*_: object) -> None:
        raise AuditError("no")

    with monkeypatch.context() as patch:
        patch.setattr(type(vault.resources.audit), "append", refuse)
        with pytest.raises(AuditError):
            selection.freeze("a")
    assert len(vault.cohorts()) == 0


def test_what_was_asked_for_is_kept_only_where_it_names_nobody(vault: vv.Vault) -> None:
    plain = vault.select("Modality = 'CT'").freeze("plain")
    named = vault.select("PatientID = 'P1'").freeze("named")
    stored = vault.resources.catalog.query("select name, selection from cohorts order by name").to_pylist()
    assert plain.frozen.selection["text"] == "where Modality = 'CT'"
    assert named.frozen.selection["text"] is None
    assert "P1" not in stored[0]["selection"]


def test_what_comes_later_is_no_member_and_a_series_that_grew_is_refused(
    vault: vv.Vault, tmp_path: Path
) -> None:
    cohort = vault.select().freeze("a")
    put(vault, tmp_path / "more", 9, person(9))
    assert len(vault.cohort("a")) == MANY
    assert not cohort.changed
    put(vault, tmp_path / "grown", 0, person(0), slices=3)
    # The first two slices lie elsewhere among three: they are other files of the same UIDs.
    changed = vault.cohort("a").changed
    assert len(changed.grown) == len(changed.series) == 1
    assert "1 grew" in repr(cohort)
    for use in (lambda: list(cohort), cohort.to_dask, cohort.to_xarray, lambda: list(cohort.sample(4))):
        with pytest.raises(UsageError, match="no longer what was frozen"):
            use()
    kept = cohort - vault.select(list(changed.series))
    assert [len(series) for series in kept] == [2] * (MANY - 1)
    lax = vault.cohort("a", allow_changed=True)
    assert sorted(len(series) for series in lax) == [2, 2, 2, 3]
    assert sorted(len(series) for series in cohort.freeze("b")) == [2, 2, 2, 3]
    difference = cohort.diff(vault.cohort("b"))
    assert difference.changed == changed.series
    assert difference.same == MANY - 1


def test_an_instance_sent_again_is_told(vault: vv.Vault, tmp_path: Path) -> None:
    cohort = vault.select().freeze("a")
    put(vault, tmp_path / "again", 1, person(1, ImageComments="other bytes"))
    changed = cohort.changed
    assert len(changed.superseded) == 2
    assert len(changed.series) == 1
    assert "2 instances were replaced" in str(changed)
    with pytest.raises(UsageError, match="no longer"):
        list(cohort)


def test_what_an_erasure_took(vault: vv.Vault) -> None:
    cohort = vault.select().with_labels(labels([1, 0, 1, 0]), on="StudyInstanceUID").freeze("a")
    gone = subject(vault, "P2")
    for table in ("cohort_members", "instances", "patients"):
        remove(vault, table, f"subject_id = '{gone}'")
    erased = vault.cohort("a").erased
    assert (erased.members, erased.subjects) == (2, 1)
    assert len(vault.cohort("a")) == MANY - 1
    assert "2 instances of 1 subjects were erased" in repr(vault.cohort("a"))
    assert not vault.cohort("a").changed
    assert cohort.frozen.members == 2 * MANY


def test_a_merge_is_no_erasure(vault: vv.Vault) -> None:
    cohort = vault.select().freeze("a")
    vault.merge_subjects(subject(vault, "P0"), subject(vault, "P1"))
    again = vault.cohort("a")
    assert not again.erased
    assert not again.changed
    assert again.series_ids == cohort.series_ids
    assert "4 series of 3 subjects" in repr(again)


def test_two_series_that_became_one_have_no_label_where_theirs_differed(tmp_path: Path) -> None:
    with made(tmp_path) as vault:
        write(tmp_path / "in" / "a", 1, person(1))
        write(tmp_path / "in" / "b", 1, person(2))
        vault.ingest(tmp_path / "in", progress=False)
        table = {"PatientID": ["P1", "P2"], "label": [0, 1], "site": ["x", "x"]}
        vault.select().with_labels(table, on="PatientID").freeze("a")
        vault.merge_subjects(subject(vault, "P1"), subject(vault, "P2"))
        cohort = vault.cohort("a")
        assert len(cohort) == 1
        assert cohort.labels.of(cohort.series_ids[0]) == {"site": "x"}


def test_members_that_somebody_changed_are_noticed(vault: vv.Vault) -> None:
    vault.select().freeze("a")
    member = vault.resources.catalog.query("select * from cohort_members limit 1").to_pylist()[0]
    row = {**{key: member[key] for key in ("cohort_id", "instance_id")}, "sha256": "0" * 64}
    vault.resources.catalog.commit(changes("cohort_members", [row], "merge"))
    with pytest.raises(IntegrityError, match="not those that were frozen"):
        vault.cohort("a")


def test_labels_come_back_as_they_were(vault: vv.Vault) -> None:
    values: list[object] = ["x", None, "", "word"]
    sops = [synthetic.uid(at, 1, slice + 1) for at in range(MANY) for slice in range(2)]
    selection = (
        vault.select()
        .with_labels(labels(values), on="StudyInstanceUID")
        .with_labels(
            {"SOPInstanceUID": sops, "bleeds": [0, 1, 0, 0, 1, 1, 0, 1]}, on="SOPInstanceUID", reduce="max"
        )
    )
    again = selection.freeze("a")
    assert again.labels == selection.labels
    assert vault.cohort("a").labels.instances == selection.labels.instances


def test_diff(vault: vv.Vault) -> None:
    uids = labels([1, 0, 1, 0])
    one = vault.select("PatientID != 'P3'").with_labels(uids, on="StudyInstanceUID").freeze("one")
    other = vault.select("PatientID != 'P0'")
    two = other.with_labels(labels([1, 1, 1, 0]), on="StudyInstanceUID").freeze("two")
    found = one.diff(two)
    assert (len(found.added), len(found.removed), len(found.relabelled), len(found.changed)) == (1, 1, 1, 0)
    assert (found.subjects_added, found.subjects_removed, found.same) == (1, 1, 1)
    assert not one.diff(vault.cohort("one"))
    assert "1 added (1 new subjects)" in str(found)


def test_provenance_names_nobody(vault: vv.Vault) -> None:
    table = {**labels(["SECRETLABEL", "b", "SECRETLABEL", "b"])}
    cohort = vault.select("PatientID != 'X'").with_labels(table, on="StudyInstanceUID").freeze("heads")
    split = cohort.split(train=0.5, test=0.5, stratify="label")
    text = json.dumps(cohort.provenance())
    planted = [*synthetic.PLANTED, "PLANTED", "SECRETLABEL", "P1", "PatientID", "2.25."]
    assert not [one for one in planted if one in text]
    assert cohort.provenance()["cohort"]["name"] == "heads"
    parts = cohort.provenance()["split"]["parts"]
    assert [parts[name]["series"] for name in ("train", "test")] == [len(split["train"]), len(split["test"])]
    train = split["train"].provenance()
    assert train["part"] == "train"
    assert train["members_sha256"] != cohort.provenance()["members_sha256"]
    whole = cohort.provenance()
    assert whole["members_sha256"] == whole["cohort"]["members_sha256"]
    assert whole["audit"]["size"] <= len(vault.audit)
    again = vault.select("PatientID != 'X'").with_labels(table, on="StudyInstanceUID")
    assert again.provenance()["labels"] == whole["labels"]
    other = vault.select().with_labels(labels(["c"] * 4), on="StudyInstanceUID").provenance()
    assert other["labels"]["digest"] != whole["labels"]["digest"]


def test_provenance_tells_when_another_segmentation_came(tmp_path: Path) -> None:
    with made(tmp_path) as vault:
        practice_studies(tmp_path / "in", patients=2, slices=4, size=16)
        outline = (tmp_path / "in" / "patient-001" / "outline.dcm").rename(tmp_path / "later.dcm")
        vault.ingest(tmp_path / "in", progress=False)
        cohort = vault.select().freeze("heads")
        before = cohort.provenance()
        vault.ingest(outline, progress=False)
        after = cohort.provenance()
        assert after["members_sha256"] == before["members_sha256"]
        assert [record["segmentations"]["objects"] for record in (before, after)] == [0, 1]
        assert after["segmentations"]["sha256"] != before["segmentations"]["sha256"]
        assert cohort.provenance()["segmentations"] == after["segmentations"]


def test_a_vault_without_cohorts(vault: vv.Vault) -> None:
    assert len(vault.cohorts()) == 0
    with pytest.raises(CatalogError):
        vault.sql("select nothing from cohorts")
