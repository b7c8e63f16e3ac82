"""A vault with a few synthetic series, taken in once and copied for each test."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

import voxelvault as vv
from voxelvault.testing import synthetic


@pytest.fixture(scope="session")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a vault of three series, CT, MR and PET, and the user's configuration."""
    place = tmp_path_factory.mktemp("filled")
    inbox = place / "inbox"
    inbox.mkdir()
    series = {
        "ct": synthetic.ct_series(6, 24, 20),
        "mr": synthetic.mr_series(),
        "pet": synthetic.pet_series(),
    }
    for name, files in series.items():
        for number, data in enumerate(files):
            (inbox / f"{name}-{number}.dcm").write_bytes(data)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("VOXELVAULT_CONFIG_HOME", str(place / "configuration"))
        with vv.create(place / "vault", codec="fast") as made:
            assert not made.ingest(inbox, progress=False).quarantined
    return place


@pytest.fixture
def vault(filled: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[vv.Vault]:
    """A vault of three series, CT, MR and PET, of the planted patient."""
    monkeypatch.setenv("VOXELVAULT_CONFIG_HOME", str(tmp_path / "configuration"))
    for name in ("configuration", "vault"):
        shutil.copytree(filled / name, tmp_path / name)
    with vv.open(tmp_path / "vault") as opened:
        yield opened


@pytest.fixture
def uids(vault: vv.Vault) -> dict[str, str]:
    """SeriesInstanceUID by modality."""
    rows = vault.resources.catalog.query("select Modality, SeriesInstanceUID from series").to_pylist()
    return {row["Modality"]: row["SeriesInstanceUID"] for row in rows}
