"""Splits of a vault: people stay together, stay where they are, and a merge across parts is told."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from cohort_support import made, person, subject, write

import voxelvault as vv
from voxelvault.audit.events import Kind
from voxelvault.errors import SplitViolation, UsageError
from voxelvault.model import new_id
from voxelvault.rows import changes
from voxelvault.testing import synthetic


@pytest.fixture(scope="module")
def empty(tmp_path_factory: pytest.TempPathFactory) -> Iterator[vv.Vault]:
    with made(tmp_path_factory.mktemp("splitting")) as vault:
        yield vault


def people(vault: vv.Vault, number: int, series_each: int = 2, start: float = 0.0) -> list[str]:
    """Write catalog rows of people with series; what splits look at, and no pixels."""
    subjects = [new_id() for _ in range(number)]
    rows: dict[str, list[dict[str, object]]] = {
        name: [] for name in ("patients", "studies", "series", "packs", "instances")
    }
    for at, subject_id in enumerate(subjects):
        ids = {"subject_id": subject_id, "study_id": new_id()}
        rows["patients"].append({"subject_id": subject_id, "provisional": False})
        rows["studies"].append({**ids, "StudyInstanceUID": f"1.2.{ids['study_id']}"})
        for turn in range(series_each):
            series = {**ids, "series_id": new_id()}
            came = datetime(2026, 1, 1) + timedelta(seconds=start + turn * number + at)
            rows["series"].append({**series, "Modality": ("CT", "MR")[(at // 3) % 2]})
            rows["packs"].append({**series, "pack_id": new_id(), "created": came})
            instance = {"instance_id": new_id(), "sha256": new_id() * 2, "superseded": False}
            rows["instances"].append({**series, **instance, "pack_id": rows["packs"][-1]["pack_id"]})
    vault.resources.catalog.commit(
        [change for name, some in rows.items() for change in changes(name, some, "insert")]
    )
    return subjects


def conflict(vault: vv.Vault, *pairs: tuple[str, str]) -> None:
    rows = [
        {"conflict_id": new_id(), "kind": "subject", "subject_id": one, "other_subject_id": other}
        for one, other in pairs
    ]
    rows = [{**row, "resolved": False} for row in rows]
    vault.resources.catalog.commit(changes("conflicts", rows, "insert"))


def merge(vault: vv.Vault, one: str, into: str) -> None:
    """Merge as `lifecycle` does, without the keys."""
    found = changes("patients", [{"subject_id": one, "merged_into": into}], "merge")
    for table, key in (
        ("studies", "study_id"),
        ("series", "series_id"),
        ("packs", "pack_id"),
        ("instances", "instance_id"),
        ("cohort_members", "cohort_id, instance_id"),
    ):
        rows = vault.resources.catalog.query(f"select {key} from {table} where subject_id = $id", {"id": one})
        found += changes(table, [{**row, "subject_id": into} for row in rows.to_pylist()], "merge")
    vault.resources.catalog.commit(found)


def parts_of(vault: vv.Vault, split: object) -> dict[str, set[str]]:
    """Return subject to parts."""
    owner = {
        row["series_id"]: row["subject_id"]
        for row in vault.resources.catalog.query("select series_id, subject_id from series").to_pylist()
    }
    found: dict[str, set[str]] = {}
    for name, part in split.parts.items():  # type: ignore[attr-defined]
        for series_id in part.series_ids:
            found.setdefault(owner[series_id], set()).add(name)
    return found


def of(vault: vv.Vault, subjects: list[str]) -> vv.cohort.Selection:  # type: ignore[name-defined]
    return vault.select(subjects)


def test_all_series_of_a_person_are_in_one_part_and_all_are_somewhere(empty: vv.Vault) -> None:
    subjects = people(empty, 60, 3)
    for options in ({}, {"stratify": "Modality"}):
        split = of(empty, subjects).split(**options)
        assert all(len(parts) == 1 for parts in parts_of(empty, split).values())
        assert sum(len(part) for part in split) == 180
        split.check()
    train, val, test = of(empty, subjects).split(stratify="Modality")
    # Of 30 people each with CT and MR, 21 train; 4.5 are 4 or 5.
    assert len(train) == 126
    assert {len(val), len(test)} <= {24, 27, 30}
    assert train.part == "train"
    text = str(of(empty, subjects).split(stratify="Modality").report())
    assert '"CT"' in text or "CT" in text
    assert "<table" in of(empty, subjects).split()._repr_html_()


def test_who_contradicts_or_shares_a_study_goes_together(empty: vv.Vault) -> None:
    # So many that no part is empty by chance.
    subjects = people(empty, 100)
    pairs = list(zip(subjects[:12], subjects[12:24], strict=True))
    merge(empty, subjects[24], subjects[25])
    conflict(empty, *pairs, (subjects[24], subjects[26]))
    uid = {"StudyInstanceUID": f"1.2.3.{new_id()}"}
    rows = empty.resources.catalog.query(
        "select study_id from studies where subject_id in (select unnest($ids))", {"ids": subjects[27:30]}
    ).to_pylist()
    empty.resources.catalog.commit(changes("studies", [{**row, **uid} for row in rows], "merge"))
    for options in ({}, {"stratify": []}):
        found = parts_of(empty, of(empty, subjects[:24] + subjects[25:]).split(**options))
        for one, other in pairs:
            assert found[one] == found[other]
        assert found[subjects[25]] == found[subjects[26]]
        assert found[subjects[27]] == found[subjects[28]] == found[subjects[29]]
    report = of(empty, subjects[:24] + subjects[25:]).split().report()
    assert report.columns[4] == "people"
    assert sum(row[4] for row in report.rows) == 99 - len(pairs) - 1 - 2


def test_a_hash_puts_a_person_where_every_selection_has_him(empty: vv.Vault) -> None:
    subjects = people(empty, 80)
    whole = parts_of(empty, of(empty, subjects).split(seed=1))
    some = parts_of(empty, of(empty, subjects[20:]).split(seed=1))
    assert all(whole[one] == some[one] for one in subjects[20:])
    other = parts_of(empty, of(empty, subjects).split(seed=2))
    assert other != whole


def test_a_part_can_be_split_again(empty: vv.Vault) -> None:
    rest, test = of(empty, people(empty, 200, 1)).split(rest=0.8, test=0.2)
    train, val = rest.split(train=0.8, val=0.2)
    assert set(train.series_ids) | set(val.series_ids) == set(rest.series_ids)
    assert 10 <= len(val) <= 60
    assert len(test) >= 20


def test_folds(empty: vv.Vault) -> None:
    selection = of(empty, people(empty, 11))
    folds = selection.kfold(5)
    assert sorted(len(val) // 2 for _, val in folds) == [2, 2, 2, 2, 3]
    for train, val in folds:
        assert not set(train.series_ids) & set(val.series_ids)
        assert set(train.series_ids) | set(val.series_ids) == set(selection.series_ids)
    assert sorted(one for _, val in folds for one in val.series_ids) == list(selection.series_ids)
    assert [val.series_ids for _, val in selection.kfold(5)] == [val.series_ids for _, val in folds]
    with pytest.raises(UsageError, match=r"11 people \(.*\) cannot fill 12 parts"):
        selection.kfold(12)
    with pytest.raises(UsageError, match="k is"):
        selection.kfold(1)


def test_what_cannot_be_split(empty: vv.Vault) -> None:
    few = of(empty, people(empty, 2))
    with pytest.raises(UsageError, match=r"2 people \(.*\) cannot fill 3 parts"):
        few.split(train=0.5, val=0.25, test=0.25)
    with pytest.raises(UsageError, match="not split yet: name the parts"):
        few.freeze("few").split()
    with pytest.raises(UsageError, match="add up"):
        few.split(train=0.8)
    with pytest.raises(UsageError, match="seed"):
        few.split(seed="x")
    with pytest.raises(UsageError, match="no column 'nothing'"):
        few.split(stratify="nothing")
    with pytest.raises(UsageError, match=r"0 people \(.*\) cannot fill 3 parts"):
        empty.select("false").split()


def test_strata_are_those_of_a_persons_first_series(empty: vv.Vault) -> None:
    selection = of(empty, people(empty, 30))
    table = {"series_id": list(selection.series_ids), "y": [at % 3 for at in range(60)]}
    split = selection.with_labels(table, on="series_id").split(stratify="y", train=0.5, test=0.5)
    rows = split.report().rows
    for stratum in ("0", "1", "2"):
        counts = [row[4] for row in rows if row[1] == stratum]
        assert abs(counts[0] - counts[1]) <= 1


def test_a_cohorts_split_is_stored_and_given_again(empty: vv.Vault) -> None:
    subjects = people(empty, 20)
    cohort = of(empty, subjects).freeze(f"c{new_id()[:8]}")
    first = cohort.split(stratify="Modality", seed=4)
    assert [entry.kind for entry in empty.audit.log(2)] == [Kind.COHORT_SPLIT] * 2
    size = len(empty.audit)
    again = empty.cohort(cohort.name)
    for split in (again.split(), again.split(stratify="Modality", seed=4)):
        assert [part.series_ids for part in split] == [part.series_ids for part in first]
    assert not [entry for entry in empty.audit.log()[size:] if entry.kind == Kind.COHORT_SPLIT]
    assert again.split().report().rows == first.report().rows
    assert len({row[1] for row in first.report().rows}) > 1
    with pytest.raises(UsageError, match=r"no part 'tests'; this split has train, val, test"):
        first["tests"]
    with pytest.raises(UsageError, match="split already"):
        again.split(seed=5)
    other = again.split(seed=5, stratify=[], resplit=True)
    assert [part.series_ids for part in empty.cohort(cohort.name).split()] == [p.series_ids for p in other]
    assert other["train"].cohort_id == cohort.cohort_id


def test_a_merge_across_parts_is_a_violation_until_it_is_split_anew(empty: vv.Vault) -> None:
    subjects = people(empty, 20)
    cohort = of(empty, subjects).freeze(f"c{new_id()[:8]}")
    split = cohort.split(train=0.5, test=0.5, stratify=[])
    found = parts_of(empty, split)
    one = next(who for who, parts in found.items() if parts == {"train"})
    other = next(who for who, parts in found.items() if parts == {"test"})
    merge(empty, one, other)
    for use in (split.check, empty.cohort(cohort.name).split):
        with pytest.raises(SplitViolation, match="resplit") as caught:
            use()
        assert other in str(caught.value)
    assert "violated" in repr(empty.cohort(cohort.name))
    mended = cohort.split(train=0.5, test=0.5, stratify=[], resplit=True)
    mended.check()
    assert all(len(parts) == 1 for parts in parts_of(empty, mended).values())
    assert len(empty.cohort(cohort.name).split()["train"]) == len(mended["train"])


def test_a_contradiction_found_later_is_a_violation_too(empty: vv.Vault) -> None:
    subjects = people(empty, 20)
    split = of(empty, subjects).freeze(f"c{new_id()[:8]}").split(train=0.5, test=0.5, stratify=[])
    found = parts_of(empty, split)
    one = next(who for who, parts in found.items() if parts == {"train"})
    other = next(who for who, parts in found.items() if parts == {"test"})
    conflict(empty, (one, other))
    with pytest.raises(SplitViolation):
        split.check()


def test_a_real_merge_after_a_split_is_reported(tmp_path: Path) -> None:
    with made(tmp_path) as vault:
        for number in range(6):
            write(tmp_path / "in", number, person(number))
        # One study under two names: one person at all events, and one series once they are merged.
        write(tmp_path / "in" / "twin", 7, person(7))
        vault.ingest(tmp_path / "in", progress=False)
        cohort = vault.select().freeze("a")
        split = cohort.split(train=0.5, test=0.5, stratify=[])
        names = {
            name: [row["PatientID"] for row in part.arrow().to_pylist()] for name, part in split.parts.items()
        }
        vault.merge_subjects(subject(vault, names["train"][0]), subject(vault, names["test"][0]))
        with pytest.raises(SplitViolation) as caught:
            vault.cohort("a").split()
        assert not any(name in str(caught.value) for name in (*names["train"], "2.25."))
        assert synthetic.PATIENT_ID not in str(caught.value)
        cohort.split(resplit=True, train=0.5, test=0.5, stratify=[]).check()
