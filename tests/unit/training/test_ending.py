"""Data sets end with their vault, the log says what they gave, and workers get no secret of the caller's."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from multiprocessing import forkserver
from pathlib import Path

import pytest

import voxelvault as vv
from voxelvault.audit.events import Kind
from voxelvault.errors import VaultClosed
from voxelvault.testing.practice import practice_studies
from voxelvault.training.workers import start_server


@pytest.fixture
def opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[], vv.Vault]]:
    """Open the vault of two people anew."""
    monkeypatch.setenv("VOXELVAULT_CONFIG_HOME", str(tmp_path / "configuration"))
    practice_studies(tmp_path / "in", 2, 4, 12)
    with vv.create(tmp_path / "vault") as made:
        made.ingest(tmp_path / "in", progress=False)
    vaults: list[vv.Vault] = []

    def again() -> vv.Vault:
        vaults.append(vv.open(tmp_path / "vault"))
        return vaults[-1]

    yield again
    vaults[-1].close()


def closings(vault: vv.Vault) -> list[dict[str, int]]:
    """Return the counts of the data sets that were closed."""
    closed = [entry for entry in vault.audit.log() if entry.kind == Kind.HANDLE_CLOSED]
    return [dict(entry.counts) for entry in closed if tuple(entry.codes["type"]) == ("loader",)]


def test_a_data_set_ends_with_its_vault(opened: Callable[[], vv.Vault]) -> None:
    vault = opened()
    heads = vault.select("Modality = 'CT'")
    samples, narrowed = heads.dataset(), heads.where("true").dataset()
    assert samples[0]["image"].any()
    vault.close()
    for one in (samples, narrowed):
        with pytest.raises(VaultClosed):
            one[1]
    assert len(closings(opened())) == 2


def test_batches_of_workers_end_with_the_vault(opened: Callable[[], vv.Vault]) -> None:
    pytest.importorskip("torch")
    vault = opened()
    loader = vault.select("Modality = 'CT'").loader(1, 1, kind="slices", prefetch_factor=1)
    batches = iter(loader)
    next(batches)
    vault.close()
    with pytest.raises(VaultClosed):
        list(batches)
    loader.close()


@pytest.mark.parametrize("workers", [0, 1])
def test_the_log_says_how_many_samples_came_out(opened: Callable[[], vv.Vault], workers: int) -> None:
    pytest.importorskip("torch")
    vault = opened()
    heads = vault.select("Modality = 'CT'")
    cache = heads.cache((2, 2, 2), progress=False)
    wish = {"kind": "patches", "patches_per_volume": 3, "patch_size": (4, 4, 4)}
    with heads.loader(2, workers, cache=cache, **wish) as batches:
        assert len(list(batches)) == 3
    [counts] = closings(vault)
    assert counts["samples"] == 6
    assert counts["bytes"] >= 6 * 4 * 64


def test_the_fork_server_has_no_secret_in_its_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VOXELVAULT_KEY", "secret-of-the-caller")
    forkserver._forkserver._stop()
    start_server(("json",))
    pid = forkserver._forkserver._forkserver_pid
    process = Path(f"/proc/{pid}")
    while b"forkserver" not in (process / "cmdline").read_bytes():
        time.sleep(0.01)
    assert b"secret-of-the-caller" not in (process / "environ").read_bytes()
    assert os.environ["VOXELVAULT_KEY"] == "secret-of-the-caller"
