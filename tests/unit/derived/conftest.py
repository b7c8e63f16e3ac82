"""A vault with a few CT series, to be cached."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from derived_support import MARKER_LPS, ingest, person

import voxelvault as vv
from voxelvault.testing import synthetic


@pytest.fixture
def vault(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[vv.Vault]:
    """Four CT series of four people, the first with a marker."""
    monkeypatch.setenv("VOXELVAULT_CONFIG_HOME", str(tmp_path / "configuration"))
    with vv.create(tmp_path / "vault", codec="fast") as made:
        files = [
            data
            for seed in range(4)
            for data in synthetic.ct_series(
                5, 20, 16, seed=seed, marker=MARKER_LPS if seed == 0 else None, attributes=person(f"P{seed}")
            )
        ]
        ingest(made, tmp_path / "inbox", *files)
        yield made
