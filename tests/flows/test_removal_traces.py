"""What a removal must not leave behind, and what must not go along with it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from flow_support import counts, digest, exported, open_again, person_file, rows, write
from test_rebuild import rebuilt, tables

from voxelvault.crypto.keyring import KeyRing
from voxelvault.crypto.providers.recovery import RecoveryProvider, new_code
from voxelvault.errors import IntegrityError, StorageError, UsageError
from voxelvault.intake import candidates
from voxelvault.upkeep import removal
from voxelvault.upkeep.lifecycle import move_study
from voxelvault.upkeep.removal import delete_instances, delete_study
from voxelvault.upkeep.verify import VerifyOptions, verify
from voxelvault.vault import Vault


def take(vault: Vault, folder: Path, *files: bytes) -> None:
    vault.ingest(write(folder / digest(files[0])[:8], list(files)), progress=False)


def of(vault: Vault, file: bytes) -> dict[str, Any]:
    return rows(vault, f"select * from instances where sha256 = '{digest(file)}'")[0]


def whole(vault: Vault, files: list[bytes], out: Path) -> None:
    report = vault.verify(progress=False)
    assert report.ok, report.failures
    assert exported(vault, out) == sorted(map(digest, files))


def test_what_only_it_told_goes_with_it(vault: Vault, vault_path: Path, tmp_path: Path) -> None:
    """A study's, a series' and a person's rows say what those who stay say, as a rebuild would."""
    told = person_file(StudyDescription="Zanzibar", SeriesDescription="Zanzibar", PatientBirthDate="19300303")
    silent = [
        person_file(instance=2, pixel=2, PatientBirthDate=None, SeriesDescription="second"),
        person_file(series=2, pixel=3, PatientBirthDate=None),
        person_file(study=2, pixel=4, PatientBirthDate=None),
    ]
    take(vault, tmp_path, told)
    take(vault, tmp_path, *silent)
    before = tables(vault)
    assert "Zanzibar" in str(before)
    assert "1930" in str(before["patients"])
    delete_instances(vault.resources, [of(vault, told)["instance_id"]])
    after = tables(vault)
    assert [name for name in after if "Zanzibar" in str(after[name])] == []
    assert "1930" not in str(after)
    assert "second" in str(after["series"])
    assert rows(vault, "select PatientName from patients") == [{"PatientName": "Doe^Jo"}]
    vault.close()
    assert rebuilt(vault_path).complete
    with open_again(vault_path) as again:
        assert tables(again) == after
        whole(again, silent, tmp_path / "out")


def test_bytes_in_quarantine_go_along(
    vault: Vault, vault_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file that was kept aside before it could come in is there twice: it must go twice."""
    files = [person_file(), person_file("B", study=2, pixel=2)]
    with monkeypatch.context() as patch:
        patch.setattr(candidates, "_candidate", lambda *_: 1 / 0)
        take(vault, tmp_path, *files)
    assert counts(vault, "quarantine", "instances") == (2, 0)
    kept = rows(vault, f"select * from quarantine where sha256 = '{digest(files[0])}'")[0]
    take(vault, tmp_path, *files)
    report = delete_study(vault.resources, of(vault, files[0])["study_id"])
    assert kept["key_id"] in report.keys.destroyed
    assert not list(vault_path.rglob(kept["object_id"]))
    assert rows(vault, "select sha256 from quarantine") == [{"sha256": digest(files[1])}]
    whole(vault, files[1:], tmp_path / "out")
    vault.close()
    assert rebuilt(vault_path).complete, "what was removed is not lost"


def test_what_comes_meanwhile_stays(vault: Vault, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing of a person was to be left, and another study comes in: the person's key holds that up."""
    first, second = person_file(), person_file(study=2, pixel=2)
    take(vault, tmp_path, first)
    objects = removal._objects

    def meanwhile(*arguments: Any) -> Any:
        monkeypatch.setattr(removal, "_objects", objects)
        take(vault, tmp_path, second)
        return objects(*arguments)

    row = of(vault, first)
    monkeypatch.setattr(removal, "_objects", meanwhile)
    with pytest.raises(IntegrityError, match="run it again"):
        delete_instances(vault.resources, [row["instance_id"]])
    whole(vault, [first, second], tmp_path / "once")
    delete_study(vault.resources, of(vault, second)["study_id"])
    monkeypatch.setattr(removal, "_objects", meanwhile)
    with pytest.raises(IntegrityError, match="run it again"):
        delete_study(vault.resources, row["study_id"])
    whole(vault, [first, second], tmp_path / "twice")


def test_keys_that_seal_nothing_hold_up_others(vault: Vault, tmp_path: Path) -> None:
    """Three studies of one UID become one, and of the second nothing is left but its key."""
    files = [person_file(name, study=1, pixel=n) for n, name in enumerate("ABC")]
    more = person_file("A", study=1, instance=2, pixel=9)
    for file in (*files, more):
        take(vault, tmp_path, file)
    a, b, c = (of(vault, file) for file in files)
    move_study(vault.resources, c["study_id"], b["subject_id"])
    move_study(vault.resources, b["study_id"], a["subject_id"])
    delete_instances(vault.resources, [b["instance_id"]])
    delete_instances(vault.resources, [a["instance_id"]])
    whole(vault, [files[2], more], tmp_path / "out")


def test_a_secret_for_a_slot_that_is_not_there(vault: Vault, tmp_path: Path) -> None:
    """Nothing is done: half a removal would leave its keys."""
    take(vault, tmp_path, person_file())
    row, size = of(vault, person_file()), vault.resources.log.size
    roll = {"0" * 32: RecoveryProvider(new_code()).slot()}
    with pytest.raises(UsageError, match="no slot"):
        delete_instances(vault.resources, [row["instance_id"]], roll=roll)
    with pytest.raises(UsageError, match="no slot"):
        delete_study(vault.resources, row["study_id"], roll=roll)
    assert vault.resources.log.size == size
    whole(vault, [person_file()], tmp_path / "out")


def test_keys_that_could_not_go_yet(vault: Vault, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The disk refused after the commit: the message says what finishes it, and that does."""
    take(vault, tmp_path, person_file())
    row = of(vault, person_file())
    (key,) = (row["key_id"] for row in rows(vault, "select key_id from studies"))

    def refuses(*_: Any, **__: Any) -> None:
        raise StorageError("the disk is full: free some")

    with monkeypatch.context() as patch:
        patch.setattr(KeyRing, "destroy", refuses)
        with pytest.raises(IntegrityError, match=r"verify --repair.*the disk is full: free some$"):
            delete_study(vault.resources, row["study_id"])
    assert key in list(vault.resources.keys._state.tree)
    assert verify(vault.resources, VerifyOptions(repair=True, grace=0, readers=0)).ok
    assert key not in list(vault.resources.keys._state.tree)
    assert counts(vault, "patients", "packs") == (0, 0)
