"""A configuration of its own for each test of results."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture(autouse=True)
def _configuration(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VOXELVAULT_CONFIG_HOME", str(tmp_path_factory.mktemp("configuration")))


@pytest.fixture
def head_ct(shared_dicom: Path) -> Path:
    """The real head CT: tilted gantry, uneven steps, 28 slices."""
    return shared_dicom / "neurolabusc+dcm_qa_ct" / "In" / "GE"
