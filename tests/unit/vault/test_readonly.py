"""A vault that can't be written is read with a log of one's own, or not at all."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

import voxelvault as vv
from voxelvault import readonly
from voxelvault.errors import NetworkFileSystem, NoPermission
from voxelvault.testing import synthetic


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("VOXELVAULT_CONFIG_HOME", str(tmp_path / "configuration"))
    (tmp_path / "1.dcm").write_bytes(synthetic.ct_series(1, 16, 16)[0])
    with vv.create(tmp_path / "vault") as vault:
        vault.ingest(tmp_path / "1.dcm", progress=False)
    return tmp_path / "vault"


@pytest.fixture
def read_only(path: Path, tmp_path: Path) -> Iterator[Path]:
    """The vault on a mount that can't be written; for an ordinary user, a folder without permission."""
    if os.geteuid():
        path.chmod(0o500)
        yield path
        path.chmod(0o700)
        return
    place = tmp_path / "mounted"
    place.mkdir()
    subprocess.run(["mount", "--bind", path, place], check=True)
    try:
        subprocess.run(["mount", "-o", "remount,bind,ro", place], check=True)
        yield place
    finally:
        subprocess.run(["umount", "--lazy", place], check=True)


def read(vault: vv.Vault) -> float:
    uid = vault.sql("select SeriesInstanceUID from series").fetchall()[0][0]
    with vault.series(uid) as series:
        return float(series.load().min())


def test_reads_are_entered_in_a_side_log(read_only: Path, tmp_path: Path) -> None:
    before = len(list(read_only.rglob("*")))
    with vv.open(read_only) as vault:
        own = len(vault.audit)
        assert read(vault) == -1000.0
        assert vault.verify(progress=False).ok
        assert len(vault.audit) == own
        kinds = [entry.kind for entry in vault.resources.audit.entries()]
        assert kinds.count("handle.opened") == 1
        assert kinds[0] == "vault.opened"
    assert len(list(read_only.rglob("*"))) == before
    with vv.open(read_only) as again:
        assert again.resources.audit.size > len(kinds)
        again.resources.audit.verify()


def test_writing_is_refused_in_one_line(read_only: Path, tmp_path: Path) -> None:
    with vv.open(read_only) as vault:
        for write in (
            lambda: vault.ingest(tmp_path / "1.dcm", progress=False),
            lambda: vault.verify(repair=True, progress=False),
            vault.reindex,
        ):
            with pytest.raises(NoPermission, match="write access"):
                write()


def test_the_record_may_refuse(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with vv.open(path) as vault:
        vault.resources.keys.change_settings({readonly.SETTING: "refuse"})
    monkeypatch.setattr("voxelvault.opening.is_writable", lambda *_, **__: False)
    with pytest.raises(NoPermission, match="refuses reading"):
        vv.open(path)


def test_a_network_file_system_is_read_and_not_written(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # No network file system can be mounted in a test: what the kernel would say of one is made up.
    mounts = [f"1 0 0:1 / {path} rw - nfs4 server:/export rw"]
    monkeypatch.setattr("voxelvault.storage.mounts._mounts", lambda: mounts)
    with vv.open(path) as vault:
        assert read(vault) == -1000.0
        with pytest.raises(NetworkFileSystem, match="PostgreSQL"):
            vault.ingest(path.parent / "1.dcm", progress=False)
