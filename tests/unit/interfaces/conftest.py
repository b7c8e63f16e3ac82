"""Vaults without and with a small CT series."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

import pytest

from voxelvault.interfaces.cli import main
from voxelvault.testing.synthetic import ct_series


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
def alone(configuration: Path) -> None:
    """No test here sees the configuration of who runs it."""


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
