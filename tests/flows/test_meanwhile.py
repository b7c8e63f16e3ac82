"""Somebody else is at work in the middle of upkeep."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from flow_support import counts, person_file, rows, write

from voxelvault.upkeep import compaction, repair
from voxelvault.upkeep.rebuilding import rebuild_catalog
from voxelvault.upkeep.removal import delete_study
from voxelvault.upkeep.rewriting import rewrite
from voxelvault.upkeep.verify import VerifyOptions, verify
from voxelvault.vault import Vault

FILES = [person_file(instance=n, pixel=n) for n in (1, 2)]


@pytest.fixture
def two(vault: Vault, tmp_path: Path) -> Vault:
    """A series that came in two packs."""
    for number, data in enumerate(FILES):
        vault.ingest(write(tmp_path / f"in {number}", [data]), progress=False)
    return vault


def test_a_plan_to_rebuild_enters_nothing(two: Vault) -> None:
    size = two.resources.log.size
    assert rebuild_catalog(two.resources, dry_run=True).packs == 2
    assert two.resources.log.size == size


def test_packs_that_are_erased_while_they_are_joined(
    two: Vault, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Their key is gone: they are given up, and other series are joined all the same."""
    for number in (1, 2):
        other = person_file("B", study=2, instance=number, pixel=number)
        two.ingest(write(tmp_path / f"other {number}", [other]), progress=False)
    (study,) = rows(
        two, "select study_id from studies join patients using (subject_id) where PatientID = 'P1'"
    )
    wanted = study["study_id"]

    def then_erase(*arguments: Any) -> Any:
        done = rewrite(*arguments)
        if study:
            delete_study(two.resources, study.pop("study_id"))
        return done

    monkeypatch.setattr(compaction, "rewrite", then_erase)
    groups = compaction._groups

    def erased_first(*arguments: Any) -> Any:
        return sorted(groups(*arguments), key=lambda group: group.rows[0]["study_id"] != wanted)

    monkeypatch.setattr(compaction, "_groups", erased_first)
    report = two.compact(progress=False)
    assert (report.packs, report.skipped) == (2, 1)
    assert counts(two, "packs", "instances") == (1, 2)
    found = verify(two.resources, VerifyOptions(repair=True, grace=0, readers=0))
    assert found.ok, found.failures
    assert (found.orphans, found.retired) == (0, 0)


def test_a_repair_reads_manifests_while_others_may_commit(
    two: Vault, monkeypatch: pytest.MonkeyPatch
) -> None:
    held: list[bool] = []
    opened = repair.open_manifest
    lease = type(two.resources.catalog).lease

    @contextmanager
    def holding(*arguments: Any) -> Iterator[Any]:
        with lease(*arguments) as found:
            held.append(True)
            yield found
            held.pop()

    def reading(*arguments: Any) -> Any:
        assert not held
        return opened(*arguments)

    monkeypatch.setattr(type(two.resources.catalog), "lease", holding)
    monkeypatch.setattr(repair, "open_manifest", reading)
    assert verify(two.resources, VerifyOptions(quick=True, repair=True, grace=0)).ok
