"""Typed columns extracted anew from stored headers."""

from __future__ import annotations

from pathlib import Path

import pytest

import voxelvault as vv
from voxelvault.errors import UsageError
from voxelvault.testing import synthetic


@pytest.fixture
def vault(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> vv.Vault:
    monkeypatch.setenv("VOXELVAULT_CONFIG_HOME", str(tmp_path / "configuration"))
    vault = vv.create(tmp_path / "vault")
    for number, data in enumerate(synthetic.ct_series(3, 16, 16)):
        (tmp_path / f"{number}.dcm").write_bytes(data)
    assert vault.ingest(*tmp_path.glob("*.dcm"), progress=False).stored == 3
    return vault


def rows(vault: vv.Vault, table: str) -> list[tuple[object, ...]]:
    return sorted(map(repr, vault.sql(f"select * from {table}").fetchall()))


def test_the_same_list_gives_the_same_rows(vault: vv.Vault) -> None:
    tables = ("patients", "studies", "series", "instances")
    before = [rows(vault, table) for table in tables]
    assert vault.reindex() == 3
    assert [rows(vault, table) for table in tables] == before
    assert vault.verify(progress=False).ok


def test_a_sites_list_adds_columns_and_stays(vault: vv.Vault, tmp_path: Path) -> None:
    site = tmp_path / "site.toml"
    site.write_text('[instances]\nInstanceCreationDate = "DATE"\nPixelData = "VARCHAR"\n')
    vault.reindex(site)
    assert vault.sql("select count(*), count(PixelData) from instances").fetchall() == [(3, 0)]
    vault.close()
    with vv.open(vault.path) as again:
        assert "InstanceCreationDate" in again.sql("select * from instances").columns
        (tmp_path / "late.dcm").write_bytes(synthetic.ct_series(4, 16, 16)[3])
        assert again.ingest(tmp_path / "late.dcm", progress=False).stored in (0, 1)


def test_an_unknown_attribute_changes_nothing(vault: vv.Vault, tmp_path: Path) -> None:
    site = tmp_path / "site.toml"
    site.write_text('[instances]\nNoSuchKeyword = "VARCHAR"\n')
    before = rows(vault, "instances")
    with pytest.raises(UsageError, match="tag list"):
        vault.reindex(site)
    assert rows(vault, "instances") == before
