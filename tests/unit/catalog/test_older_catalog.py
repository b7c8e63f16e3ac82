"""A catalog that an earlier version made gets the tables and columns that have come since."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import MappingProxyType

import pytest

import voxelvault as vv
from voxelvault.catalog import schema
from voxelvault.testing import synthetic

NEWER = ("tasks", "reading_items")


def older() -> MappingProxyType[str, schema.Table]:
    """Return the tables without those, and `instances` without `origin`."""
    tables = {name: table for name, table in schema.TABLES.items() if name not in NEWER}
    columns = {name: kind for name, kind in schema.INSTANCES.columns.items() if name != "origin"}
    instances = replace(schema.INSTANCES, columns=MappingProxyType(columns))
    return MappingProxyType({**tables, "instances": instances})


def test_an_older_vault_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VOXELVAULT_CONFIG_HOME", str(tmp_path / "configuration"))
    (tmp_path / "one.dcm").write_bytes(synthetic.ct_series(2, 16, 16)[0])
    (tmp_path / "two.dcm").write_bytes(synthetic.ct_series(2, 16, 16)[1])
    with monkeypatch.context() as earlier:
        earlier.setattr(schema, "TABLES", older())
        vv.create(tmp_path / "vault").close()
    with vv.open(tmp_path / "vault") as vault:
        assert vault.ingest(tmp_path / "two.dcm", progress=False).stored == 1
        assert vault.sql("select count(*), count(origin) from instances").fetchall() == [(1, 0)]
        for table in NEWER:
            assert vault.sql(f"select count(*) from {table}").fetchall() == [(0,)]
        assert vault.verify(progress=False).ok
    with vv.open(tmp_path / "vault") as vault:
        assert vault.ingest(tmp_path / "one.dcm", progress=False).stored == 1
