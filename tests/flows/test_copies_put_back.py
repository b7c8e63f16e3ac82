"""Yesterday's parts put back, alone and together: noticed, and nothing that was erased comes back."""

from __future__ import annotations

import itertools
import shutil
from pathlib import Path

import pytest
from flow_support import counts, digest, exported, person_file, rows, write

import voxelvault as vv
from voxelvault.errors import RollbackDetected, VoxelVaultError
from voxelvault.opening import Ways, close_vault, open_vault
from voxelvault.upkeep.rebuilding import rebuild_catalog
from voxelvault.upkeep.removal import delete_study
from voxelvault.upkeep.verify import VerifyOptions, verify

AREAS = ("catalog", "keys", "audit", "objects")
COMBINATIONS = [some for n in range(1, 5) for some in itertools.combinations(AREAS, n)]
KEPT, ERASED, LATER = (person_file(study=n, pixel=n) for n in (1, 2, 3))


@pytest.fixture(scope="module")
def days(pattern: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A vault of yesterday, and of today: one study was erased, another came in."""
    home = tmp_path_factory.mktemp("days")
    shutil.copytree(pattern / "vault", home / "today")
    shutil.copytree(pattern / "config", home / "config")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("VOXELVAULT_CONFIG_HOME", str(home / "config"))
        with vv.open(home / "today") as vault:
            vault.ingest(write(home / "in", [KEPT, ERASED]), progress=False)
        shutil.copytree(home / "today", home / "yesterday")
        with vv.open(home / "today") as vault:
            (row,) = rows(vault, f"select study_id from instances where sha256 = '{digest(ERASED)}'")
            delete_study(vault.resources, row["study_id"])
            vault.ingest(write(home / "later", [LATER]), progress=False)
    return home


@pytest.fixture(scope="module")
def quiet_days(pattern: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same without an erasure: the keys of yesterday open what there is today."""
    home = tmp_path_factory.mktemp("quiet")
    shutil.copytree(pattern / "vault", home / "today")
    shutil.copytree(pattern / "config", home / "config")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("VOXELVAULT_CONFIG_HOME", str(home / "config"))
        with vv.open(home / "today") as vault:
            vault.ingest(write(home / "in", [KEPT]), progress=False)
        shutil.copytree(home / "today", home / "yesterday")
        with vv.open(home / "today") as vault:
            vault.ingest(write(home / "later", [LATER]), progress=False)
    return home


@pytest.mark.parametrize("areas", [(area,) for area in AREAS] + [AREAS], ids="+".join)
def test_a_day_without_an_erasure_is_noticed_too(
    quiet_days: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, areas: tuple[str, ...]
) -> None:
    path = tmp_path / "vault"
    shutil.copytree(quiet_days / "today", path)
    shutil.copytree(quiet_days / "config", tmp_path / "config")
    monkeypatch.setenv("VOXELVAULT_CONFIG_HOME", str(tmp_path / "config"))
    for area in areas:
        shutil.rmtree(path / area)
        shutil.copytree(quiet_days / "yesterday" / area, path / area)
    with pytest.raises(VoxelVaultError, match="restore"):
        vv.open(path)


@pytest.fixture
def put_back(days: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, areas: tuple[str, ...]) -> Path:
    """Today's vault with some of yesterday's parts."""
    path = tmp_path / "vault"
    shutil.copytree(days / "today", path)
    shutil.copytree(days / "config", tmp_path / "config")
    for area in areas:
        shutil.rmtree(path / area)
        shutil.copytree(days / "yesterday" / area, path / area)
    monkeypatch.setenv("VOXELVAULT_CONFIG_HOME", str(tmp_path / "config"))
    return path


def stored(path: Path) -> set[str]:
    return {file.name for file in (path / "objects").rglob("*") if file.is_file()}


@pytest.mark.parametrize("areas", COMBINATIONS, ids="+".join)
def test_what_was_put_back_is_noticed(put_back: Path, tmp_path: Path, areas: tuple[str, ...]) -> None:
    with pytest.raises(VoxelVaultError) as noticed:
        vv.open(put_back)
    assert "restore" in str(noticed.value) or "keys/" in str(noticed.value), noticed.value
    before = stored(put_back)
    try:
        vault = vv.open(put_back, accept_restore=True)
    except VoxelVaultError:
        # Parts that do not go together: what one of them needs, another never had.
        assert areas != AREAS
        assert stored(put_back) == before
        return
    with vault:
        entries = [entry.kind for entry in vault.resources.log.entries()]
        assert entries[-2:] == ["restore.accepted", "vault.opened"]
        # Accepted is not repaired: everything stays as it was put back, and verify tells.
        assert stored(put_back) == before
        assert counts(vault, "instances") == (2,)
        report = vault.verify(progress=False)
        assert report.ok is (areas == AREAS), report.failures
        if areas == AREAS:
            assert exported(vault, tmp_path / "out") == sorted(map(digest, (KEPT, ERASED)))


@pytest.mark.parametrize("areas", [("catalog",), ("objects",), ("catalog", "objects")], ids="+".join)
def test_log_and_keys_of_today_bring_nothing_back(
    put_back: Path, tmp_path: Path, areas: tuple[str, ...]
) -> None:
    """What was erased opens with no key, whatever else was put back; what came since is named if lost."""
    before = stored(put_back)
    resources = open_vault(put_back, Ways(), anew=True)
    report = rebuild_catalog(resources)
    close_vault(resources)
    assert stored(put_back) == before
    assert len(report.lost) == ("objects" in areas)
    if "objects" in areas:
        return
    with vv.open(put_back) as vault:
        assert exported(vault, tmp_path / "out") == sorted(map(digest, (KEPT, LATER)))
        assert vault.verify(progress=False).ok
        assert verify(vault.resources, VerifyOptions(repair=True, grace=0, readers=0)).ok


@pytest.mark.parametrize("areas", [("objects",)], ids="+".join)
def test_missing_objects_are_named_and_nothing_is_swept(put_back: Path, areas: tuple[str, ...]) -> None:
    with pytest.raises(RollbackDetected, match="objects/"):
        vv.open(put_back)
    before = stored(put_back)
    with vv.open(put_back, accept_restore=True) as vault:
        report = vault.verify(progress=False)
        assert len(report.failures) > 0
        with pytest.raises(VoxelVaultError):
            verify(vault.resources, VerifyOptions(quick=True, repair=True, grace=0, readers=0))
    assert stored(put_back) == before
