"""One vault of everything real, filled once; and one of every synthetic kind."""

from __future__ import annotations

import csv
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from flow_support import pattern, vault, vault_path
from material import Filled, Material, digests_of, write_all

import voxelvault as vv
from voxelvault.export import ExportReport
from voxelvault.testing.synthetic import ct_series, every_kind, mr_series, pet_series

__all__ = ["pattern", "vault", "vault_path"]  # fixtures of the stories that begin with an empty vault

TESTS = Path(__file__).resolve().parents[1]
SHARED = TESTS.parents[1] / "shared" / "data" / "dicom"

# The flows compare with dcm2niix as the geometry tests do.
sys.path.append(str(TESTS / "unit" / "dicom"))


@pytest.fixture(scope="session", autouse=True)
def config_home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Keep key files and pins out of the user's configuration."""
    home = tmp_path_factory.mktemp("config")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("VOXELVAULT_CONFIG_HOME", str(home))
        patch.delenv("VOXELVAULT", raising=False)
        patch.delenv("VOXELVAULT_KEY", raising=False)
        yield home


@pytest.fixture(scope="session")
def material(
    request: pytest.FixtureRequest, wheel_dicom: Path, tmp_path_factory: pytest.TempPathFactory
) -> Material:
    """Give the shared real files; on a laptop without them, the wheel's and every synthetic kind."""
    if (SHARED / "MANIFEST.csv").is_file() or os.environ.get("CI"):
        folder: Path = request.getfixturevalue("shared_dicom")
        with (folder / "MANIFEST.csv").open(newline="") as file:
            manifest = {folder / row["path"]: row for row in csv.DictReader(file)}
        return Material((folder,), digests_of(folder), manifest)
    made = write_all(tmp_path_factory.mktemp("made"), every_kind())
    return Material((wheel_dicom, made), digests_of(wheel_dicom, made), {})


@pytest.fixture(scope="session")
def filled(
    material: Material, exercised: Callable[[int], None], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Filled]:
    """Give a vault of the whole material."""
    with vv.create(tmp_path_factory.mktemp("real") / "vault", purpose="tests") as vault:
        report = vault.ingest(*material.folders, progress=False)
        exercised(report.stored + len(report.quarantined))
        yield Filled(vault, material, report)


@pytest.fixture(scope="session")
def exported(filled: Filled, tmp_path_factory: pytest.TempPathFactory) -> ExportReport:
    """Export the whole vault."""
    return filled.vault.export(tmp_path_factory.mktemp("out") / "files", progress=False)


@pytest.fixture(scope="session")
def synthetic(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Filled]:
    """Give a vault of every synthetic kind, a CT with a marker's worth of slices, MR and PET."""
    folder = tmp_path_factory.mktemp("kinds")
    files = {f"kind {name}": data for name, data in every_kind().items()}
    for name, series in (
        ("ct", ct_series(shuffled=True, series=201)),
        ("mr", mr_series(times=2, echoes=(10.0, 20.0), series=202)),
        ("pet", pet_series(series=203)),
    ):
        files |= {f"{name} {number}": data for number, data in enumerate(series)}
    write_all(folder, files)
    with vv.create(tmp_path_factory.mktemp("synthetic") / "vault", purpose="tests") as vault:
        report = vault.ingest(folder, progress=False)
        yield Filled(vault, Material((folder,), digests_of(folder), {}), report)
