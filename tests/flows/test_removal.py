"""Taken away: what is gone opens with no present key, what stays is as it was, and nothing tells of it."""

from __future__ import annotations

import itertools
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from flow_support import (
    copy_vault,
    counts,
    digest,
    exported,
    open_again,
    person_file,
    python,
    rows,
    series_uid,
    settled,
    write,
)

import voxelvault as vv
from voxelvault.crypto.keyring import Role
from voxelvault.crypto.providers.recovery import RecoveryProvider, new_code
from voxelvault.errors import (
    IntegrityError,
    KeyUnavailable,
    Unanswered,
    UnknownUID,
    UsageError,
    VoxelVaultError,
)
from voxelvault.reading.packs import manifest_ref, open_manifest
from voxelvault.storage.pack import MANIFEST_LABEL
from voxelvault.storage.sealed_objects import SealedObjects
from voxelvault.testing.synthetic import ct_series
from voxelvault.upkeep.removal import delete_instances, delete_study, erase_subject
from voxelvault.upkeep.verify import VerifyOptions, verify
from voxelvault.vault import Vault

FILES = {
    "one": person_file("A", study=1, instance=1, pixel=1),
    "two": person_file("A", study=1, instance=2, pixel=2),
    "newer two": person_file("A", study=1, instance=2, pixel=3),
    "other series": person_file("A", study=1, series=2, pixel=4),
    "other study": person_file("A", study=2, pixel=5),
    "other person": person_file("B", study=3, pixel=6),
}
BATCHES = (("one", "two"), ("newer two", "other series"), ("other study", "other person"))


@pytest.fixture(scope="module")
def people(pattern: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A vault of two people with a cohort and bricks."""
    home = tmp_path_factory.mktemp("people")
    with pytest.MonkeyPatch.context() as patch:
        with vv.open(settled(pattern, home, patch)) as vault:
            for number, names in enumerate(BATCHES):
                files = [FILES[name] for name in names]
                vault.ingest(write(home / f"{number}", files), progress=False)
            vault.ingest(write(home / "volume", ct_series(4, 16, 16, series=9)), progress=False)
            everything = vault.select().freeze("all")
            everything.cache(chunks=8, progress=False)
    return home


@pytest.fixture
def path(people: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    return settled(people, tmp_path, monkeypatch)


@pytest.fixture
def vault(path: Path) -> Iterator[Vault]:
    with vv.open(path) as opened:
        yield opened


def of(vault: Vault, name: str) -> dict[str, Any]:
    (row,) = rows(vault, f"select * from instances where sha256 = '{digest(FILES[name])}'")
    return row


def left(vault: Vault, *gone: str) -> list[str]:
    volume = [digest(data) for data in ct_series(4, 16, 16, series=9)]
    return sorted([digest(data) for name, data in FILES.items() if name not in gone] + volume)


def whole(vault: Vault) -> None:
    report = vault.verify(progress=False)
    assert report.ok, report.failures
    assert (report.orphans, report.retired, report.rebuildable) == (0, 0, [])


def opens(vault: Vault, sealed_in: Path, pack: dict[str, Any]) -> bool:
    """Tell whether some present key opens a pack's manifest as it lies in an old copy of objects/."""
    lies = f"objects/{pack['manifest_object_id'][:2]}/{pack['manifest_object_id']}"
    assert (sealed_in / lies).exists()
    put_back = not (vault.path / lies).exists()
    if put_back:
        shutil.copyfile(sealed_in / lies, vault.path / lies)
    try:
        return any(
            _opens(vault, pack, key_id) for role in Role for key_id in vault.resources.keys.keys_of(role)
        )
    finally:
        if put_back:
            (vault.path / lies).unlink()


def _opens(vault: Vault, pack: dict[str, Any], key_id: str) -> bool:
    keys = vault.resources.keys
    try:
        key = keys.sub_key(key_id, MANIFEST_LABEL)
    except UsageError:
        key = keys.dek(key_id)
    try:
        vault.resources.sealed.open_whole(manifest_ref(pack), key)
    except IntegrityError:
        return False
    return True


def pack_of(vault: Vault, name: str) -> dict[str, Any]:
    return rows(vault, f"select * from packs where pack_id = '{of(vault, name)['pack_id']}'")[0]


def test_an_instance_goes_and_the_rest_of_its_study_stays(vault: Vault, path: Path, tmp_path: Path) -> None:
    old = copy_vault(path, tmp_path / "old")
    packs = {name: pack_of(vault, name) for name in FILES}
    row, instances = of(vault, "one"), counts(vault, "instances")[0]
    wanted = vault.cohort("all").erased
    assert not wanted
    report = delete_instances(vault.resources, [row["instance_id"]], reason="sent in error")
    assert report.instances == 1
    assert counts(vault, "instances") == (instances - 1,)
    assert exported(vault, tmp_path / "out") == left(vault, "one")
    whole(vault)
    # The key behaviour: study keys rolled, every slot named that opens an old copy.
    assert set(report.keys.not_rolled) == {slot.slot_id for slot in vault.resources.keys.slots()}
    assert packs["one"]["key_id"] in report.keys.destroyed
    assert not opens(vault, old, packs["one"])
    assert not opens(vault, old, packs["other series"])  # its manifest was sealed anew
    assert opens(vault, old, packs["other study"])
    with pytest.raises(KeyUnavailable):
        open_manifest(vault.resources, manifest_ref(packs["one"]))
    # Who holds an old copy of keys/ and a slot's secret opens what it holds, as the report says.
    with open_again(old, accept_restore=True) as before:
        assert exported(before, tmp_path / "before") == left(before)
    erased = vault.cohort("all").erased
    assert (erased.members, erased.subjects, list(report.cohorts.values())) == (1, 0, [1])
    kinds = [entry.kind for entry in vault.resources.log.entries()]
    assert "instance.removed" in kinds
    assert "cohort.erased" in kinds


def test_the_newest_version_left_counts_again(vault: Vault, tmp_path: Path) -> None:
    assert of(vault, "two")["superseded"]
    delete_instances(vault.resources, [of(vault, "newer two")["instance_id"]])
    assert not of(vault, "two")["superseded"]
    np.testing.assert_array_equal(vault.series(series_uid(1)).load()[:, 0, 0], [1, 2])
    whole(vault)


def test_the_last_instance_takes_its_series_along(vault: Vault) -> None:
    before = counts(vault, "series", "studies", "patients")
    delete_instances(vault.resources, [of(vault, "other person")["instance_id"]])
    assert counts(vault, "series", "studies", "patients") == tuple(n - 1 for n in before)
    whole(vault)


def test_a_study_goes_with_its_key(vault: Vault, path: Path, tmp_path: Path) -> None:
    old = copy_vault(path, tmp_path / "old")
    packs = {name: pack_of(vault, name) for name in FILES}
    study = of(vault, "one")["study_id"]
    code = new_code()
    slot = next(s for s in vault.resources.keys.slots() if s.provider == "recovery")
    report = delete_study(
        vault.resources, study, reason="consent withdrawn", roll={slot.slot_id: RecoveryProvider(code).slot()}
    )
    assert report.instances == 4
    assert report.keys.rolled == (slot.slot_id,)
    assert slot.slot_id not in report.keys.not_rolled
    assert not any(opens(vault, old, packs[name]) for name in ("one", "newer two", "other series"))
    assert opens(vault, old, packs["other study"])
    gone = ("one", "two", "newer two", "other series")
    vault.close()
    with open_again(path) as again:
        assert exported(again, tmp_path / "out") == left(again, *gone)
    # The new code opens the vault, and neither it nor the rolled one opens the other's keys/.
    with vv.open(path, recovery_code=code) as again:
        assert counts(again, "studies") == (3,)
    shutil.rmtree(path / "keys")
    shutil.copytree(old / "keys", path / "keys")
    with pytest.raises(VoxelVaultError):
        vv.open(path, recovery_code=code, accept_restore=True)


def test_no_trace_is_left_at_rest(vault: Vault, path: Path) -> None:
    """No object of the study is left, and no key present opens a file of the catalog from before."""
    (volume,) = rows(vault, "select study_id from series join derived using (study_id)")
    study = volume["study_id"]
    packs = {row["pack_id"] for row in rows(vault, f"select pack_id from packs where study_id = '{study}'")}
    keys = set(vault.resources.keys.keys_of(Role.PARQUET)) | set(vault.resources.keys.keys_of(Role.CATALOG))
    copies = rows(vault, f"select object_id from derived where study_id = '{study}'")
    delete_study(vault.resources, study)
    sealed = vault.resources.sealed
    owners = {sealed.preamble(info.name[-32:]).key_id for info in vault.resources.objects.list("objects/")}
    assert not packs & owners
    for row in copies:
        assert not (path / "derived" / row["object_id"][:2] / row["object_id"]).exists()
    now = set(vault.resources.keys.keys_of(Role.PARQUET)) | set(vault.resources.keys.keys_of(Role.CATALOG))
    assert set(vault.resources.keys.keys_of(Role.CATALOG)) & keys == set()
    whole(vault)
    for table in ("series", "instances", "frames", "packs", "stacks", "derived", "cohort_members"):
        assert rows(vault, f"select 1 from {table} where study_id = '{study}'") == [], table
    assert now


def test_a_subject_goes_with_all_who_were_merged_into_it(vault: Vault, tmp_path: Path) -> None:
    a, b = of(vault, "one")["subject_id"], of(vault, "other person")["subject_id"]
    vault.merge_subjects(b, a)
    report = erase_subject(vault.resources, a)
    assert report.instances == len(FILES)
    assert {a, b} <= set(report.keys.destroyed)
    assert rows(vault, f"select 1 from patients where subject_id in ('{a}', '{b}')") == []
    assert counts(vault, "merges", "moves") == (0, 0)
    assert exported(vault, tmp_path / "out") == left(vault, *FILES)
    whole(vault)


def test_what_is_not_there_is_refused_and_nothing_done(vault: Vault) -> None:
    size = vault.resources.log.size
    for call in (
        lambda: delete_instances(vault.resources, ["0" * 32]),
        lambda: delete_instances(vault.resources, [of(vault, "one")["instance_id"], "0" * 32]),
        lambda: delete_study(vault.resources, "0" * 32),
        lambda: erase_subject(vault.resources, "0" * 32),
    ):
        with pytest.raises(UnknownUID):
            call()
    assert vault.resources.log.size == size


def test_a_catalog_file_that_was_not_seen_keeps_its_key(
    vault: Vault, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The network fails while keys are counted: none is destroyed, and the removal is finished later."""
    preamble = SealedObjects.preamble

    def unanswered(sealed: SealedObjects, object_id: str) -> Any:
        if "catalog/" in sealed.name(object_id):
            raise Unanswered("object storage did not answer within 1 s: check the network")
        return preamble(sealed, object_id)

    before = counts(vault, "patients", "cohorts")
    with monkeypatch.context() as patch:
        patch.setattr(SealedObjects, "preamble", unanswered)
        with pytest.raises(IntegrityError, match=r"--repair.*did not answer"):
            delete_study(vault.resources, of(vault, "other study")["study_id"])
    assert counts(vault, "patients", "cohorts") == before
    report = verify(vault.resources, VerifyOptions(quick=True, repair=True, grace=0, readers=0))
    assert report.ok, report.failures
    whole(vault)


DIES = """
import sys, voxelvault as vv
from dying import dies_before
from voxelvault.storage.objects import LocalObjects
from voxelvault.catalog.lease import DuckLakeLease
from voxelvault.crypto.keyring import KeyRing
from voxelvault.upkeep.removal import delete_instances, delete_study
with vv.open(sys.argv[1]) as vault:
    calls = (LocalObjects, "put"), (LocalObjects, "delete"), (DuckLakeLease, "commit")
    dies_before(int(sys.argv[4]), *calls, (DuckLakeLease, "compact"), (KeyRing, "destroy"))
    if sys.argv[2] == "instance":
        delete_instances(vault.resources, [sys.argv[3]])
    else:
        delete_study(vault.resources, sys.argv[3])
"""


OFTEN = [
    pytest.param(verb, (step,), marks=pytest.mark.long)
    for verb, last in (("instance", 40), ("study", 25))
    for step in range(last)
]


@pytest.mark.parametrize(("verb", "steps"), [("instance", (3, 14)), ("study", (4,)), *OFTEN])
def test_kill_9_is_finished_by_repair(path: Path, tmp_path: Path, verb: str, steps: tuple[int, ...]) -> None:
    """Done or not done, and when done then with all of its keys."""
    with open_again(path) as vault:
        row = of(vault, "one")
        pack = pack_of(vault, "one")
    old = copy_vault(path, tmp_path / "old")
    gone = ("one",) if verb == "instance" else ("one", "two", "newer two", "other series")
    target = row["instance_id"] if verb == "instance" else row["study_id"]
    for step in itertools.chain(steps, (1000,)):
        child = python(DIES, path, verb, target, step)
        _, err = child.communicate(timeout=120)
        assert child.returncode in (0, -signal.SIGKILL), err
        with open_again(path) as vault:
            report = verify(vault.resources, VerifyOptions(quick=True, repair=True, grace=0, readers=0))
            assert report.ok, report.failures
            there = rows(vault, f"select 1 from instances where instance_id = '{row['instance_id']}'")
            if not there:
                break
    assert not there
    with open_again(path) as vault:
        assert exported(vault, tmp_path / "out") == left(vault, *gone)
        whole(vault)
        assert not opens(vault, old, pack)
