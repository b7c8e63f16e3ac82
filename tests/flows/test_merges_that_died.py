"""A merge or a move that is killed on its way: made or not made, and no image lost by what follows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from flow_support import digest, exported, open_again, person_file, rows, write
from test_rebuild import rebuilt, tables

import voxelvault as vv
from voxelvault.audit.events import Kind, Outcome
from voxelvault.crypto.keyring import KeyRing
from voxelvault.upkeep import lifecycle
from voxelvault.upkeep.removal import delete_instances, erase_subject
from voxelvault.upkeep.verify import VerifyOptions, verify
from voxelvault.vault import Vault

A = [person_file("A", study=1, instance=n, pixel=n) for n in (1, 2)]
B = [person_file("B", study=2, instance=n, pixel=n + 5) for n in (1, 2)]


class Killed(BaseException):
    """Stands for the end of the process."""


def of(vault: Vault, file: bytes) -> dict[str, Any]:
    return rows(vault, f"select * from instances where sha256 = '{digest(file)}'")[0]


def change(vault: Vault, what: str) -> None:
    a, b = of(vault, A[0]), of(vault, B[0])
    if what == "merge":
        vault.merge_subjects(a["subject_id"], b["subject_id"])
    else:
        lifecycle.move_study(vault.resources, a["study_id"], b["subject_id"])


def dies_before_the_outcome(patch: pytest.MonkeyPatch) -> None:
    event = lifecycle.turn_event

    def dying(*given: Any) -> Any:
        if Outcome.OK in given:
            raise Killed
        return event(*given)

    patch.setattr(lifecycle, "turn_event", dying)


def dies_before_the_catalog(patch: pytest.MonkeyPatch) -> None:
    commit = KeyRing.commit

    def dying(keys: KeyRing) -> str:
        commit(keys)
        raise Killed

    patch.setattr(KeyRing, "commit", dying)


def killed(path: Path, folder: Path, what: str, dies: Any) -> None:
    with open_again(path) as vault:
        vault.ingest(write(folder / "in", [*A, *B]), progress=False)
        with pytest.MonkeyPatch.context() as patch:
            dies(patch)
            with pytest.raises(Killed):
                change(vault, what)


def outcomes(vault: Vault) -> list[str]:
    kinds = (Kind.SUBJECT_MERGED, Kind.STUDY_MOVED)
    return [entry.outcome for entry in vault.resources.log.entries() if entry.kind in kinds]


def repaired(vault: Vault) -> None:
    report = verify(vault.resources, VerifyOptions(quick=True, repair=True, grace=0))
    assert report.ok, report.failures


@pytest.mark.parametrize("what", ["merge", "move"])
@pytest.mark.parametrize("repair", [True, False])
def test_one_that_was_made_is_made_again_by_a_rebuild(
    vault_path: Path, tmp_path: Path, what: str, repair: bool
) -> None:
    killed(vault_path, tmp_path, what, dies_before_the_outcome)
    with open_again(vault_path) as vault:
        later = person_file("A", study=1, instance=3, pixel=3)
        vault.ingest(write(tmp_path / "later", [later]), progress=False)
        assert of(vault, later)["subject_id"] == of(vault, B[0])["subject_id"]
        if repair:
            repaired(vault)
        before = tables(vault)
    for _ in range(2):
        assert rebuilt(vault_path).complete
        with open_again(vault_path) as vault:
            assert tables(vault) == before
            assert outcomes(vault) == ["intent", "ok"]
            assert vault.verify(progress=False).ok


@pytest.mark.parametrize("what", ["merge", "move"])
def test_one_whose_keys_alone_came_along_is_undone_by_repair(
    vault_path: Path, tmp_path: Path, what: str
) -> None:
    killed(vault_path, tmp_path, what, dies_before_the_catalog)
    with open_again(vault_path) as vault:
        row = rows(vault, f"select * from packs where study_id = '{of(vault, A[0])['study_id']}'")[0]
        assert vault.resources.keys.parent_of(row["key_id"]) == of(vault, B[0])["subject_id"]
        repaired(vault)
        assert vault.resources.keys.parent_of(row["key_id"]) == of(vault, A[0])["subject_id"]
        assert outcomes(vault) == ["intent", "failed"]
        before = tables(vault)
        change(vault, what)
        assert vault.verify(progress=False).ok
        assert tables(vault) != before


@pytest.mark.parametrize("what", ["merge", "move"])
@pytest.mark.parametrize("verb", ["erase", "delete"])
def test_one_that_died_costs_nobody_an_image(vault_path: Path, tmp_path: Path, what: str, verb: str) -> None:
    """Erasing whom the images were to come to leaves them to whom the catalog says they belong."""
    killed(vault_path, tmp_path, what, dies_before_the_catalog)
    with open_again(vault_path) as vault:
        if verb == "erase":
            erase_subject(vault.resources, of(vault, B[0])["subject_id"])
        else:
            delete_instances(vault.resources, [of(vault, file)["instance_id"] for file in B])
        assert exported(vault, tmp_path / "out") == sorted(map(digest, A))
        assert vault.verify(progress=False).ok


def test_one_that_died_elsewhere_costs_nobody_an_image(vault_path: Path, tmp_path: Path) -> None:
    """The process that erases had the vault open before, and knows only its own keys."""
    with open_again(vault_path) as vault:
        vault.ingest(write(tmp_path / "in", [*A, *B]), progress=False)
        killed(vault_path, tmp_path, "merge", dies_before_the_catalog)
        erase_subject(vault.resources, of(vault, B[0])["subject_id"])
        assert exported(vault, tmp_path / "out") == sorted(map(digest, A))
        assert vault.verify(progress=False).ok


def test_one_whose_keys_alone_came_along_is_made_where_no_catalog_is_left(
    vault_path: Path, tmp_path: Path
) -> None:
    killed(vault_path, tmp_path, "merge", dies_before_the_catalog)
    (vault_path / "catalog" / "lake.duckdb").write_bytes(b"")
    rebuilt(vault_path)
    with vv.open(vault_path) as vault:
        assert of(vault, A[0])["subject_id"] == of(vault, B[0])["subject_id"]
        assert outcomes(vault) == ["intent", "ok"]
        assert vault.verify(progress=False).ok
        assert exported(vault, tmp_path / "out") == sorted(map(digest, [*A, *B]))
