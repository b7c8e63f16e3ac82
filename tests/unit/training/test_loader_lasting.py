"""Loaders that run for long, and vaults that open otherwise: memory stays flat, keys stay where they are."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

import voxelvault as vv
from voxelvault.testing import synthetic

torch = pytest.importorskip("torch")

SERIES = 1000


def own_bytes(pid: int) -> int:
    """Return the memory that a process shares with no other, in bytes."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return sum(int(line.split()[1]) for line in lines if line.startswith("Private_")) << 10


def test_a_passphrase_vault_feeds_workers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VOXELVAULT_CONFIG_HOME", str(tmp_path / "configuration"))
    for number, data in enumerate(synthetic.ct_series(3, 16, 16)):
        (tmp_path / f"{number}.dcm").write_bytes(data)
    with vv.create(tmp_path / "vault", passphrase="a horse that staples", codec="fast") as made:
        made.ingest(*tmp_path.glob("*.dcm"), progress=False)
    monkeypatch.setenv("VOXELVAULT_PASSPHRASE", "a horse that staples")

    def secrets(sample: dict[str, object]) -> dict[str, object]:
        return sample | {"found": ",".join(sorted(name for name in os.environ if "PASSPHRASE" in name))}

    with vv.open(tmp_path / "vault", passphrase="a horse that staples") as vault:
        chosen = vault.select()
        with chosen.loader(kind="slices", num_workers=1, transform=secrets) as batches:
            found = list(batches)
        with chosen.dataset("slices") as slices:
            assert all(
                np.array_equal(batch["image"][0], sample["image"])
                for batch, sample in zip(found, slices, strict=True)
            )
        # A worker opens loans by what its parent handed down, and forgets what opens vaults.
        assert {batch["found"][0] for batch in found} == {""}


@pytest.mark.long
@pytest.mark.timeout(1200)
@pytest.mark.filterwarnings("ignore:This DataLoader will create 4 worker:UserWarning")
def test_memory_of_four_workers_over_a_thousand_series_is_flat(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VOXELVAULT_CONFIG_HOME", str(tmp_path / "configuration"))
    inbox = tmp_path / "inbox"
    inbox.mkdir()
    for seed in range(SERIES):
        person = {"PatientID": f"P{seed}", "PatientName": f"N{seed}"}
        for number, data in enumerate(synthetic.ct_series(3, 32, 32, seed=seed, attributes=person)):
            (inbox / f"{seed}-{number}.dcm").write_bytes(data)
    with vv.create(tmp_path / "vault", codec="fast") as vault:
        vault.ingest(inbox, progress=False)
        held = {shuffle: epochs(vault, shuffle) for shuffle in (False, True)}
    print("MiB of a worker after each epoch, in order and shuffled:", held)
    # In order, each worker meets the same series again, and its kept readers are as many after the first.
    assert held[False][-1] < held[False][0] + 2
    # Shuffled, it meets others, until it has met nearly all.
    assert held[True][-1] < held[True][-3] + 3


def epochs(vault: vv.Vault, shuffle: bool) -> list[float]:
    """Train for some epochs; return the memory of the largest worker after each, MiB."""
    held = []
    with vault.select().loader(4, num_workers=4, shuffle=shuffle, memory=4 << 20) as batches:
        for _ in range(8 if shuffle else 3):
            assert sum(len(batch["id"]) for batch in batches) == SERIES
            held.append(max(own_bytes(process.pid) for process in batches._iterator._workers) / 2**20)
    return [round(size, 1) for size in held]
