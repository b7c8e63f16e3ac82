"""A closed vault is closed: for whoever still holds a part of it, too."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

import voxelvault as vv
from voxelvault.errors import VaultClosed
from voxelvault.testing.practice import practice_studies

Use = Callable[[vv.Vault, Path], object]

AFTER: dict[str, Use] = {
    "sql": lambda vault, _: vault.sql("select 1").fetchall(),
    "ingest": lambda vault, folder: vault.ingest(folder / "dicom", progress=False),
    "select": lambda vault, _: len(vault.select()),
    "cohort": lambda vault, _: vault.cohort("all"),
    "cohorts": lambda vault, _: vault.cohorts(),
    "export": lambda vault, folder: vault.export(folder / "out", progress=False),
    "verify": lambda vault, _: vault.verify(progress=False),
    "summary": lambda vault, _: vault.summary(),
    "caches": lambda vault, _: vault.caches(),
    "audit": lambda vault, _: vault.audit.table(),
    "quarantine": lambda vault, _: vault.quarantine(),
}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("VOXELVAULT_CONFIG_HOME", str(tmp_path / "configuration"))
    practice_studies(tmp_path / "dicom", patients=2, slices=4, size=16)
    return tmp_path


def test_nothing_works_after_closing(folder: Path) -> None:
    with vv.create(folder / "vault") as vault:
        vault.ingest(folder / "dicom" / "patient-000", progress=False)
        cohort = vault.select("Modality = 'CT'").freeze("all")
        (series,) = cohort
        samples = cohort.dataset()
        samples[0]
        size = len(vault.audit.table())
    for name, use in AFTER.items():
        with pytest.raises(VaultClosed):
            print(name, use(vault, folder))
    for read in (series.load, lambda: samples[0], lambda: list(cohort), lambda: cohort.cache(progress=False)):
        with pytest.raises(VaultClosed, match="this vault is closed; open it again"):
            read()
    assert repr(vault) == "<Vault: closed>"
    vault.close()
    with vv.open(folder / "vault") as again:
        assert again.sql("select count(*) from instances").fetchall() == [(4,)]
        # Closing the series, the data set and a few handles; nothing was read or written in between.
        entries = again.sql("select kind from audit order by all").fetchall()
        assert ("ingest",) in entries
        assert len(again.audit.table()) >= size
