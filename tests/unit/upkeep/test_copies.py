"""Damaged derived copies: rebuildable, dropped by repair, never a failure of the vault."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

import voxelvault as vv
from voxelvault.interfaces.cli import app
from voxelvault.testing.synthetic import ct_series
from voxelvault.upkeep.verify import VerifyOptions, verify
from voxelvault.vault import Vault


@pytest.fixture(scope="module")
def cached(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Vault]:
    folder = tmp_path_factory.mktemp("cached")
    (folder / "in").mkdir()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("VOXELVAULT_CONFIG_HOME", str(folder / "config"))
        with vv.create(folder / "vault") as vault:
            for number, data in enumerate(ct_series(4, 16, 16)):
                (folder / "in" / str(number)).write_bytes(data)
                vault.ingest(folder / "in" / str(number), progress=False)
            vault.select().cache(chunks=8, progress=False)
            yield vault


def copies(vault: Vault) -> list[Path]:
    return [file for file in (Path(vault.path) / "derived").rglob("*") if file.is_file()]


def test_a_damaged_copy_is_rebuildable(cached: Vault, monkeypatch: pytest.MonkeyPatch) -> None:
    report = cached.verify(progress=False)
    assert (report.ok, report.copies, report.rebuildable) == (True, 1, [])
    (file,) = copies(cached)
    data = bytearray(file.read_bytes())
    data[-1] ^= 1
    file.chmod(0o600)
    file.write_bytes(data)
    assert cached.verify(progress=False, quick=True).rebuildable == []
    report = cached.verify(progress=False)
    assert report.ok
    assert len(report.rebuildable) == 1
    assert "damaged copies" in str(report)
    file.write_bytes(data[:-1])
    assert len(cached.verify(progress=False, quick=True).rebuildable) == 1
    verify(cached.resources, VerifyOptions(quick=True, repair=True))
    assert (copies(cached), cached.verify(progress=False).copies) == ([], 0)
    cached.select().cache(chunks=8, progress=False)
    assert cached.verify(progress=False).copies == 1
    copies(cached)[0].unlink()
    assert len(cached.verify(progress=False, quick=True).rebuildable) == 1


def test_verbs_of_upkeep(
    cached: Vault, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each prints its plan, wants a word, and then does it."""
    monkeypatch.setenv("VOXELVAULT_CONFIG_HOME", str(Path(cached.path).parent / "config"))
    vault = ["--vault", str(cached.path)]
    assert app.main([*vault, "compact", "--dry-run"]) == 0
    assert "4 packs of 1 series would become 1" in capsys.readouterr().out
    assert app.main([*vault, "compact"]) == 2
    capsys.readouterr()
    assert app.main([*vault, "compact", "--yes"]) == 0
    assert "4 packs of 1 series became 1" in capsys.readouterr().out
    assert app.main([*vault, "verify", "--rebuild-catalog", "--dry-run"]) == 0
    assert "1 packs would come in" in capsys.readouterr().out
    assert app.main([*vault, "verify", "--rebuild-catalog", "--quick"]) == 2
    capsys.readouterr()
    assert app.main([*vault, "verify", "--rebuild-catalog", "--yes", "--json"]) == 0
    assert '"instances": 4' in capsys.readouterr().out
    assert app.main([*vault, "verify"]) == 0
