"""A vault with a few synthetic series."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

import voxelvault as vv
from voxelvault.testing import synthetic


@pytest.fixture
def vault(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[vv.Vault]:
    """Three series, CT, MR and PET, of the planted patient."""
    monkeypatch.setenv("VOXELVAULT_CONFIG_HOME", str(tmp_path / "configuration"))
    inbox = tmp_path / "inbox"
    inbox.mkdir()
    series = {
        "ct": synthetic.ct_series(6, 24, 20),
        "mr": synthetic.mr_series(),
        "pet": synthetic.pet_series(),
    }
    for name, files in series.items():
        for number, data in enumerate(files):
            (inbox / f"{name}-{number}.dcm").write_bytes(data)
    with vv.create(tmp_path / "vault", codec="fast") as made:
        assert not made.ingest(inbox, progress=False).quarantined
        yield made


@pytest.fixture
def uids(vault: vv.Vault) -> dict[str, str]:
    """SeriesInstanceUID by modality."""
    rows = vault.resources.catalog.query("select Modality, SeriesInstanceUID from series").to_pylist()
    return {row["Modality"]: row["SeriesInstanceUID"] for row in rows}
