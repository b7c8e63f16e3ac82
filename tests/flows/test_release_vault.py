"""A vault's series become a release on workers of a cluster: the same files as without."""

from __future__ import annotations

from pathlib import Path

import pytest

import voxelvault as vv
from voxelvault.cluster.local import LocalWorkers
from voxelvault.releasing.places import verify_vault
from voxelvault.testing import synthetic


@pytest.fixture
def vault(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> vv.Vault:
    monkeypatch.setenv("VOXELVAULT_CONFIG_HOME", str(tmp_path / "config"))
    inbox = tmp_path / "in"
    inbox.mkdir()
    for number in range(3):
        for index, data in enumerate(synthetic.ct_series(3, 16, 16, seed=number)):
            (inbox / f"{number}-{index}.dcm").write_bytes(data)
    made = vv.create(tmp_path / "vault")
    made.ingest(inbox, progress=False)
    return made


def digests(path: Path) -> set[str]:
    with vv.open(path) as release:
        assert verify_vault(release.resources).ok
        rows = release.resources.catalog.query("select sha256 from instances").to_pylist()
    return {row["sha256"] for row in rows}


def test_workers_make_the_same_release(vault: vv.Vault, tmp_path: Path) -> None:
    everything = vault.select()
    with vault:
        here = everything.deidentify(tmp_path / "here", faces="keep", progress=False)
        with LocalWorkers(2) as workers:
            there = everything.deidentify(tmp_path / "there", faces="keep", progress=False, client=workers)
    assert here.complete
    assert there.complete
    assert here.report.released == there.report.released == 9
    assert digests(here.path) == digests(there.path)
