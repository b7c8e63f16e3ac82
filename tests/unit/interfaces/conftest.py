"""A vault with a small CT series, and the command run in this process."""

from __future__ import annotations

import json
import shutil
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


@dataclass(frozen=True)
class Template:
    """Vaults made once and copied for each test, with the configuration that holds their keys."""

    configuration: Path
    empty: Path
    filled: Path
    incoming: Path


@pytest.fixture(scope="session")
def template(tmp_path_factory: pytest.TempPathFactory) -> Template:
    """An empty vault and one with a CT series of six slices."""
    base = tmp_path_factory.mktemp("template")
    found = Template(base / "configuration", base / "empty", base / "filled", base / "incoming")
    found.incoming.mkdir()
    for number, data in enumerate(ct_series(6)):
        (found.incoming / f"{number}.dcm").write_bytes(data)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("VOXELVAULT_CONFIG_HOME", str(found.configuration))
        assert main(["init", str(found.empty)]) == 0
        assert main(["init", str(found.filled)]) == 0
        assert main(["--vault", str(found.filled), "ingest", str(found.incoming)]) == 0
    return found


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
def incoming(tmp_path: Path, template: Template) -> Path:
    """A folder with a CT series of six slices."""
    return Path(shutil.copytree(template.incoming, tmp_path / "incoming"))


@pytest.fixture
def vault(tmp_path: Path, configuration: Path, template: Template) -> Path:
    """A vault without images."""
    shutil.copytree(template.configuration, configuration, dirs_exist_ok=True)
    return Path(shutil.copytree(template.empty, tmp_path / "vault"))


@pytest.fixture
def filled(tmp_path: Path, configuration: Path, template: Template) -> Path:
    """A vault that holds the series."""
    shutil.copytree(template.configuration, configuration, dirs_exist_ok=True)
    return Path(shutil.copytree(template.filled, tmp_path / "filled"))
