"""Whose image is this: subjects, conflicts, merges and moves, from files to what a reader gets."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from flow_support import (
    FRAME,
    copy_vault,
    counts,
    digest,
    exported,
    open_again,
    person_file,
    python,
    rows,
    series_uid,
    snapshot,
    write,
)

from voxelvault.dicom.read import Header
from voxelvault.errors import AmbiguousUID, UnknownUID, UsageError
from voxelvault.testing.synthetic import ct_series, header, to_bytes, uid
from voxelvault.upkeep.lifecycle import move_study
from voxelvault.vault import Vault


def take(vault: Vault, folder: Path, *files: bytes, **options: object) -> object:
    shutil.rmtree(folder, ignore_errors=True)
    return vault.ingest(write(folder, list(files)), progress=False, **options)  # type: ignore[arg-type]


def subjects(vault: Vault) -> list[dict[str, object]]:
    return rows(vault, "select * from patients order by provisional, PatientID, subject_id")


def subject_of(vault: Vault, sha256: str) -> str:
    found = rows(vault, f"select subject_id from instances where sha256 = '{sha256}'")
    assert len(found) == 1
    return str(found[0]["subject_id"])


def test_same_id_of_two_issuers_are_two_subjects(vault: Vault, tmp_path: Path) -> None:
    one = person_file("7", IssuerOfPatientID="HOSPITAL-A")
    other = person_file("7", study=2, IssuerOfPatientID="HOSPITAL-B")
    take(vault, tmp_path / "in", one, other)
    assert counts(vault, "patients", "conflicts") == (2, 0)
    assert subject_of(vault, digest(one)) != subject_of(vault, digest(other))


def test_issuer_is_given_or_the_source_s_name_or_the_default(vault: Vault, tmp_path: Path) -> None:
    config = tmp_path / "config" / "config.toml"
    config.write_text(f'issuer = "house"\n[sources]\nward = "{tmp_path / "ward"}"\n')
    take(vault, tmp_path / "ward", person_file("1"))
    take(vault, tmp_path / "elsewhere", person_file("1", study=2))
    take(vault, tmp_path / "elsewhere", person_file("1", study=3), issuer="given")
    take(vault, tmp_path / "ward", person_file("1", study=4, IssuerOfPatientID="own"))
    assert {row["IssuerOfPatientID"] for row in subjects(vault)} == {"ward", "house", "given", "own"}


def test_empty_patient_id_is_one_subject_for_each_study(vault: Vault, tmp_path: Path) -> None:
    take(
        vault,
        tmp_path / "in",
        person_file("", study=1),
        person_file(None, study=1, instance=2),
        person_file("  ", study=2),
        person_file("", study=2, instance=2, series=2),
    )
    assert counts(vault, "patients", "studies", "series", "conflicts") == (2, 2, 3, 0)
    take(vault, tmp_path / "in", person_file("", study=1, instance=3))
    assert counts(vault, "patients", "studies", "series") == (2, 2, 3)


def test_no_patient_id_and_no_study_uid_are_never_joined(vault: Vault, tmp_path: Path) -> None:
    take(
        vault,
        tmp_path / "in",
        person_file("", StudyInstanceUID=None, instance=1),
        person_file("", StudyInstanceUID=None, instance=2),
    )
    assert counts(vault, "patients") == (2,)


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"PatientBirthDate": "19610203"}, "birth_date"),
        ({"PatientSex": "M"}, "sex"),
        ({"PatientName": "Roe^Richard"}, "name"),
    ],
)
def test_contradiction_makes_a_provisional_subject(
    vault: Vault, tmp_path: Path, changed: dict[str, str], reason: str
) -> None:
    first, other = person_file(), person_file(study=2, **changed)
    take(vault, tmp_path / "in", first, other)
    (conflict,) = rows(vault, "select * from conflicts")
    assert (conflict["kind"], conflict["detail"], conflict["resolved"]) == ("subject", reason, False)
    assert conflict["other_subject_id"] == subject_of(vault, digest(first))
    assert conflict["subject_id"] == subject_of(vault, digest(other))
    assert [row["provisional"] for row in subjects(vault)] == [False, True]

    later, later_other = person_file(instance=2), person_file(study=2, instance=2, **changed)
    take(vault, tmp_path / "in", later_other, later)
    assert subject_of(vault, digest(later)) == subject_of(vault, digest(first))
    assert subject_of(vault, digest(later_other)) == subject_of(vault, digest(other))
    assert counts(vault, "patients", "conflicts", "studies", "series") == (2, 1, 2, 2)


def test_spelling_is_no_contradiction(vault: Vault, tmp_path: Path) -> None:
    take(
        vault,
        tmp_path / "in",
        person_file(PatientName="MÜLLER^ANNA", SpecificCharacterSet="ISO_IR 192"),
        person_file(PatientName="Muller^Anna^Maria", instance=2),
        person_file(PatientName="", PatientSex="", PatientBirthDate="", instance=3),
        person_file(PatientName="Müller", SpecificCharacterSet="ISO_IR 192", instance=4),
    )
    assert counts(vault, "patients", "series", "conflicts") == (1, 1, 0)


def test_what_one_header_tells_later_ones_do_not_take_back(vault: Vault, tmp_path: Path) -> None:
    take(vault, tmp_path / "in", person_file(PatientBirthDate="", PatientName="Doe"))
    take(vault, tmp_path / "in", person_file(PatientName="", instance=2))
    take(
        vault,
        tmp_path / "in",
        person_file(PatientName="Doe^Jo", PatientSex="", PatientBirthDate="", instance=3),
    )
    (row,) = subjects(vault)
    assert (row["PatientName"], str(row["PatientBirthDate"]), row["PatientSex"]) == (
        "Doe^Jo",
        "1950-01-01",
        "F",
    )
    # Both fit the first, shorter name; they don't fit each other.
    take(vault, tmp_path / "in", person_file(PatientName="Doe^Jane", instance=4))
    assert counts(vault, "patients", "conflicts") == (2, 1)


def test_objects_without_a_patient_belong_to_the_vault(vault: Vault, tmp_path: Path) -> None:
    protocol = to_bytes(header(sop_class="1.2.840.10008.5.1.4.38.1", instance=1))
    palette = to_bytes(header(sop_class="1.2.840.10008.5.1.4.39.1", seed=9, instance=2))
    take(vault, tmp_path / "in", protocol, palette, person_file())
    own = subject_of(vault, digest(protocol))
    assert own == subject_of(vault, digest(palette))
    (row,) = rows(vault, "select * from patients where patientless")
    assert (row["subject_id"], row["PatientName"], row["PatientID"]) == (own, None, "")
    other = next(r["subject_id"] for r in subjects(vault) if not r["patientless"])
    with pytest.raises(UsageError, match="vault's own subject"):
        vault.merge_subjects(own, str(other))


def test_same_bytes_are_a_duplicate_other_bytes_a_version(vault: Vault, tmp_path: Path) -> None:
    old, new = person_file(), person_file(pixel=100)
    take(vault, tmp_path / "in", old)
    again = take(vault, tmp_path / "in", old, old)
    assert (again.stored, again.duplicates) == (0, 2)  # type: ignore[attr-defined]
    newer = take(vault, tmp_path / "in", new)
    assert (newer.stored, newer.versions) == (1, 1)  # type: ignore[attr-defined]
    np.testing.assert_array_equal(vault.series(series_uid()).pixels.compute(), [FRAME + 100])
    (conflict,) = rows(vault, "select * from conflicts")
    assert (conflict["kind"], conflict["resolved"]) == ("version", False)
    assert take(vault, tmp_path / "in", old).duplicates == 1  # type: ignore[attr-defined]
    assert exported(vault, tmp_path / "out") == sorted([digest(old), digest(new)])
    assert sorted(path.name.split(".")[-2] for path in (tmp_path / "out").rglob("*.dcm")) == ["v1", "v2"]
    assert vault.verify(progress=False).ok


def test_versions_within_one_batch(vault: Vault, tmp_path: Path) -> None:
    files = [person_file(pixel=n) for n in range(3)]
    report = take(vault, tmp_path / "in", *files)
    assert (report.stored, report.versions) == (3, 2)  # type: ignore[attr-defined]
    found = rows(vault, "select version, superseded from instances order by version")
    assert [(row["version"], row["superseded"]) for row in found] == [(1, True), (2, True), (3, False)]
    np.testing.assert_array_equal(vault.series(series_uid()).pixels.compute(), [FRAME + 2])
    assert vault.verify(progress=False).ok


def test_look_up_of_two_subjects_never_picks(vault: Vault, tmp_path: Path) -> None:
    one, other = person_file("A"), person_file("B", pixel=5)
    take(vault, tmp_path / "in", one, other)
    with pytest.raises(AmbiguousUID):
        vault.series(series_uid())
    with pytest.raises(AmbiguousUID):
        vault.export(tmp_path / "never", study=uid(1), progress=False)
    with pytest.raises(AmbiguousUID):
        vault.export(tmp_path / "never", series=series_uid(), progress=False)
    assert not (tmp_path / "never").exists()
    # By its own id each can go out, and so can everything.
    study = rows(vault, f"select study_id from instances where sha256 = '{digest(other)}'")[0]["study_id"]
    vault.export(tmp_path / "one", study=study, progress=False)
    assert [digest(path.read_bytes()) for path in (tmp_path / "one").rglob("*.dcm")] == [digest(other)]
    assert exported(vault, tmp_path / "all") == sorted([digest(one), digest(other)])


def test_no_pack_holds_two_subjects(vault: Vault, tmp_path: Path) -> None:
    files = [
        person_file(pid, instance=n, pixel=n, PatientSex=sex)
        for n, (pid, sex) in enumerate([(p, s) for p in ("A", "B", "") for s in ("F", "M")] * 2)
    ]
    take(vault, tmp_path / "in", *files)
    mixed = rows(
        vault, "select pack_id from instances group by pack_id having count(distinct subject_id) > 1"
    )
    assert mixed == []
    told: dict[str, set[tuple[str, str]]] = {}
    for row in rows(vault, "select pack_id, header from instances"):
        person = Header.from_json(row["header"])
        told.setdefault(row["pack_id"], set()).add((person.get("PatientID", ""), person.get("PatientSex")))
    assert all(len(people) == 1 for people in told.values())
    assert counts(vault, "patients") == (6,)


def test_merge_rewraps_and_moves_no_object(vault: Vault, tmp_path: Path) -> None:
    first, other = person_file(), person_file(study=2, PatientName="Married^Jo")
    take(vault, tmp_path / "in", first, other)
    (conflict,) = rows(vault, "select * from conflicts")
    before = snapshot(vault.path, "objects")
    vault.merge_subjects(conflict["subject_id"], conflict["other_subject_id"], reason="a marriage")
    assert snapshot(vault.path, "objects") == before
    assert rows(vault, "select resolved from conflicts")[0]["resolved"]
    assert subject_of(vault, digest(other)) == conflict["other_subject_id"]
    for study in rows(vault, "select key_id from studies"):
        assert vault.resources.keys.parent_of(study["key_id"]) == conflict["other_subject_id"]
    with pytest.raises(UnknownUID):
        vault.merge_subjects(conflict["subject_id"], conflict["other_subject_id"])
    # Later objects, whichever name they carry, and those that tell nothing, belong to the one subject.
    later = [
        person_file(instance=2),
        person_file(study=2, instance=2, PatientName="Married^Jo"),
        person_file(study=3, PatientName="Married^Jo"),
        person_file(study=4, PatientName=""),
    ]
    take(vault, tmp_path / "in", *later)
    assert {subject_of(vault, digest(file)) for file in later} == {conflict["other_subject_id"]}
    assert counts(vault, "patients", "studies", "conflicts") == (2, 4, 1)
    assert take(vault, tmp_path / "in", first, other, *later).stored == 0  # type: ignore[attr-defined]
    assert vault.verify(progress=False).ok
    assert exported(vault, tmp_path / "out") == sorted(map(digest, [first, other, *later]))


def test_merge_joins_a_study_that_both_have(vault: Vault, tmp_path: Path) -> None:
    """One study, one series, half of it with a typing error: after the merge it is one again."""
    good = [person_file(instance=n, pixel=n) for n in (1, 2, 3)]
    typo = [person_file(instance=n, pixel=n, PatientBirthDate="19510101") for n in (3, 4, 5)]
    extra = person_file(series=2, PatientBirthDate="19510101")
    take(vault, tmp_path / "in", *good)
    take(vault, tmp_path / "in", *typo, extra)
    with pytest.raises(AmbiguousUID):
        vault.series(series_uid())
    (conflict,) = rows(vault, "select * from conflicts")
    before = snapshot(vault.path, "objects")
    vault.merge_subjects(conflict["subject_id"], conflict["other_subject_id"])
    assert snapshot(vault.path, "objects") == before
    assert counts(vault, "studies", "series") == (1, 2)
    series = vault.series(series_uid())
    np.testing.assert_array_equal(series.pixels.compute()[:, 0, 0], [1, 2, 3, 4, 5])
    # Instance 3 is there in two versions; the newer counts.
    versions = rows(
        vault, "select sha256, version, superseded from instances where InstanceNumber = 3 and not superseded"
    )
    assert [(row["sha256"], row["version"]) for row in versions] == [(digest(typo[0]), 2)]
    assert [row["kind"] for row in rows(vault, "select kind from conflicts where not resolved")] == [
        "version"
    ]
    assert vault.verify(progress=False).ok
    assert exported(vault, tmp_path / "out") == sorted(map(digest, [*good, *typo, extra]))
    later = person_file(instance=6, pixel=6, PatientBirthDate="19510101")
    take(vault, tmp_path / "in", later)
    assert counts(vault, "studies", "series") == (1, 2)
    # One key opens the whole study, and with it all of it goes.
    (study,) = rows(vault, "select key_id from studies")
    packs = {row["key_id"] for row in rows(vault, "select key_id from packs")}
    keys = vault.resources.keys
    assert all(key == study["key_id"] or keys.parent_of(key) == study["key_id"] for key in packs)
    # A joined study moves on as one.
    take(vault, tmp_path / "in", person_file("Z", study=9))
    (other,) = rows(vault, "select subject_id from patients where PatientID = 'Z'")
    move_study(
        vault.resources,
        rows(vault, f"select study_id from series where SeriesInstanceUID = '{series_uid()}'")[0]["study_id"],
        other["subject_id"],
    )
    assert keys.parent_of(study["key_id"]) == other["subject_id"]
    assert all(key == study["key_id"] or keys.parent_of(key) == study["key_id"] for key in packs)
    assert vault.verify(progress=False).ok


def test_merge_of_merges(vault: Vault, tmp_path: Path) -> None:
    names = ("Ann^A", "Bea^B", "Cid^C")
    files = [person_file(study=n, PatientName=name) for n, name in enumerate(names)]
    take(vault, tmp_path / "in", *files)
    a, b, c = (subject_of(vault, digest(file)) for file in files)
    vault.merge_subjects(a, b)
    vault.merge_subjects(b, c)
    later = person_file(study=7, PatientName="Ann^A")
    take(vault, tmp_path / "in", later)
    assert subject_of(vault, digest(later)) == c
    with pytest.raises(UsageError, match="one subject already"):
        vault.merge_subjects(c, c)


def test_moved_study_stays_where_it_was_moved(vault: Vault, tmp_path: Path) -> None:
    wrong, own, right = person_file("A", study=1), person_file("A", study=2), person_file("B", study=3)
    take(vault, tmp_path / "in", wrong, own, right)
    a, b = subject_of(vault, digest(own)), subject_of(vault, digest(right))
    which = f"select study_id from instances where sha256 = '{digest(wrong)}'"
    (study,) = rows(vault, f"select study_id, key_id from studies where study_id = ({which})")
    before = snapshot(vault.path, "objects")
    move_study(vault.resources, study["study_id"], b, reason="filed under the neighbour's id")
    assert snapshot(vault.path, "objects") == before
    assert subject_of(vault, digest(wrong)) == b
    assert vault.resources.keys.parent_of(study["key_id"]) == b
    later = person_file("A", study=1, instance=2)
    again = take(vault, tmp_path / "in", wrong, own, later)
    assert (again.stored, again.duplicates) == (1, 2)  # type: ignore[attr-defined]
    assert subject_of(vault, digest(later)) == b
    assert counts(vault, "studies", "patients") == (3, 2)
    assert vault.verify(progress=False).ok
    move_study(vault.resources, study["study_id"], a)
    assert take(vault, tmp_path / "in", wrong, later).stored == 0  # type: ignore[attr-defined]
    assert subject_of(vault, digest(later)) == a
    with pytest.raises(UnknownUID):
        move_study(vault.resources, "0" * 32, a)


def _states(vault: Vault) -> dict[str, tuple[int, bool]]:
    found = rows(vault, "select sha256, version, superseded from instances")
    return {row["sha256"]: (row["version"], row["superseded"]) for row in found}


@pytest.mark.parametrize("which", [0, 1])
def test_a_moved_version_hides_nothing_any_more(vault: Vault, tmp_path: Path, which: int) -> None:
    """One SOP Instance UID in two studies of a subject: apart, each of them counts."""
    sop = uid(77)
    files = [person_file("A", study=n, pixel=n, SOPInstanceUID=sop) for n in (1, 2)]
    for file in (*files, person_file("B", study=3)):
        take(vault, tmp_path / "in", file)
    one, other = map(digest, files)
    assert (_states(vault)[one], _states(vault)[other]) == ((1, True), (2, False))
    a = subject_of(vault, one)
    (b,) = (str(row["subject_id"]) for row in subjects(vault) if row["subject_id"] != a)
    moved = digest(files[which])
    (study,) = rows(vault, f"select study_id from instances where sha256 = '{moved}'")
    move_study(vault.resources, study["study_id"], b)
    assert (subject_of(vault, moved), subject_of(vault, (other, one)[which])) == (b, a)
    assert not any(superseded for _, superseded in _states(vault).values())
    for n in (1, 2):
        np.testing.assert_array_equal(vault.series(series_uid(n)).pixels.compute(), [FRAME + n])
    # Together again, the later one counts.
    move_study(vault.resources, study["study_id"], a)
    assert (_states(vault)[one], _states(vault)[other]) == ((1, True), (2, False))
    assert vault.verify(progress=False).ok


def test_an_old_copy_keeps_what_it_had(vault: Vault, tmp_path: Path) -> None:
    """Merging is no erasure: a whole old copy opens with its keys, and says that it is old."""
    first, other = person_file(), person_file(study=2, PatientName="Married^Jo")
    take(vault, tmp_path / "in", first, other)
    (conflict,) = rows(vault, "select * from conflicts")
    old = copy_vault(vault.path, tmp_path / "old")
    vault.merge_subjects(conflict["subject_id"], conflict["other_subject_id"])
    vault.close()
    with open_again(old, accept_restore=True) as opened:
        assert exported(opened, tmp_path / "out") == sorted(map(digest, [first, other]))
        assert opened.verify(progress=False).ok


HALF = """
import sys, voxelvault as vv
with vv.open(sys.argv[1]) as vault:
    print("ready", flush=True); sys.stdin.readline()
    print(vault.ingest(sys.argv[2], progress=False))
"""


def test_two_ingests_of_halves_of_one_series_at_once(vault_path: Path, tmp_path: Path) -> None:
    files = ct_series(12, 16, 16)
    halves = [
        write(tmp_path / "odd", files[1::2] + files[:2]),
        write(tmp_path / "even", files[::2] + files[:2]),
    ]
    children = [python(HALF, vault_path, half, stdin=-1) for half in halves]
    for child in children:
        assert child.stdout is not None
        assert child.stdout.readline() == "ready\n"
    for child in children:
        assert child.stdin is not None
        child.stdin.write("\n")
        child.stdin.flush()
    for child in children:
        out, err = child.communicate(timeout=120)
        assert child.returncode == 0, out + err
    with open_again(vault_path) as vault:
        assert counts(vault, "patients", "studies", "series", "instances") == (1, 1, 1, 12)
        assert vault.series(series_uid(0)).load().shape == (12, 16, 16)
        assert vault.verify(progress=False).ok
        assert exported(vault, tmp_path / "out") == sorted(map(digest, files))
