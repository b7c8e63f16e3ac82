"""A vault with a small CT series, and the command run in this process."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from voxelvault.interfaces.cli import main
from voxelvault.testing.synthetic import ct_series


@dataclass(frozen=True)
class Ran:
    """What one command line gave."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """The one document on stdout."""
        return json.loads(self.out)


Run = Callable[..., Ran]


@pytest.fixture(autouse=True)
def configuration(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A configuration of the test's own."""
    for name in ("VOXELVAULT", "VOXELVAULT_KEY", "VOXELVAULT_PASSPHRASE", "VOXELVAULT_CHECKPOINT"):
        monkeypatch.delenv(name, raising=False)
    home = tmp_path / "configuration"
    monkeypatch.setenv("VOXELVAULT_CONFIG_HOME", str(home))
    return home


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    """Run a command line."""

    def run(*words: object) -> Ran:
        capsys.readouterr()
        code = main([str(word) for word in words])
        out, err = capsys.readouterr()
        return Ran(code, out, err)

    return run


@pytest.fixture
def incoming(tmp_path: Path) -> Path:
    """A folder with a CT series of six slices."""
    folder = tmp_path / "incoming"
    folder.mkdir()
    for number, data in enumerate(ct_series(6)):
        (folder / f"{number}.dcm").write_bytes(data)
    return folder


@pytest.fixture
def vault(tmp_path: Path, run: Run) -> Path:
    """A new vault."""
    path = tmp_path / "vault"
    assert run("init", path).code == 0
    return path


@pytest.fixture
def filled(vault: Path, incoming: Path, run: Run) -> Path:
    """A vault that holds the series."""
    assert run("--vault", vault, "ingest", incoming).code == 0
    return vault
