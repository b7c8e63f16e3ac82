"""An empty vault for each test."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

import voxelvault as vv


@pytest.fixture
def vault(tmp_path: Path, configuration: Path) -> Iterator[vv.Vault]:
    with vv.create(tmp_path / "vault", codec="fast") as made:
        yield made
