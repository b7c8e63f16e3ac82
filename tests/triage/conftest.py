"""The command, run in this process, with a configuration of the test's own."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from voxelvault.interfaces.cli import main


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


@pytest.fixture
def configuration(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A configuration of the test's own."""
    for name in ("VOXELVAULT", "VOXELVAULT_KEY", "VOXELVAULT_PASSPHRASE", "VOXELVAULT_CHECKPOINT"):
        monkeypatch.delenv(name, raising=False)
    home = tmp_path / "configuration"
    monkeypatch.setenv("VOXELVAULT_CONFIG_HOME", str(home))
    return home


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], configuration: Path) -> Callable[..., Ran]:
    """Run a command line."""

    def run(*words: object) -> Ran:
        capsys.readouterr()
        code = main([str(word) for word in words])
        out, err = capsys.readouterr()
        return Ran(code, out, err)

    return run
