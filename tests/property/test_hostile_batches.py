"""Batches with files of any structure in them: the good one comes in, and no byte is lost or changed."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import voxelvault as vv
from voxelvault.intake.quarantine import Reason, quarantine_export
from voxelvault.testing.part10_strategies import part10_files
from voxelvault.testing.synthetic import image

FILES = 16
"""In a batch: a commit costs more than a file."""


@pytest.fixture(scope="module")
def vault(tmp_path_factory: pytest.TempPathFactory) -> Iterator[vv.Vault]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("VOXELVAULT_CONFIG_HOME", str(tmp_path_factory.mktemp("config")))
        for name in ("VOXELVAULT", "VOXELVAULT_KEY", "VOXELVAULT_CHECKPOINT"):
            patch.delenv(name, raising=False)
        with vv.create(tmp_path_factory.mktemp("hostile") / "vault", purpose="tests") as made:
            yield made


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def digests(paths: Iterator[Path] | list[Path]) -> set[str]:
    return {digest(path.read_bytes()) for path in paths}


def check(vault: vv.Vault, folder: Path, files: list[bytes], number: int) -> list[str]:
    """Take a batch in and look for every byte of it; return the reasons of quarantine."""
    good = image(np.full((4, 4), number, np.uint16), "CT", series=70, instance=number)
    names = [folder / f"{at:03}.dcm" for at in range(len(files))] + [folder / "zz.dcm"]
    for path, data in zip(names, [*files, good], strict=True):
        path.write_bytes(data)
    report = vault.ingest(folder, progress=False)
    assert report.found == len(names)
    assert not report.refused
    assert not report.interrupted
    assert report.stored + report.duplicates + report.not_dicom + len(report.quarantined) == report.found
    out = folder.parent / "out"
    vault.export(out, progress=False)
    stored = digests([path for path in out.rglob("*") if path.is_file()])
    aside = digests(quarantine_export(vault.resources, folder.parent / "aside"))
    assert digest(good) in stored
    assert {digest(path.read_bytes()) for path in names} <= stored | aside
    return [item.reason.code for item in report.quarantined]


def many(vault: vv.Vault, folders: pytest.TempPathFactory, batches: int) -> None:
    seen: list[str] = []

    @settings(
        max_examples=batches,
        deadline=None,
        derandomize=True,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(st.lists(part10_files(), min_size=FILES, max_size=FILES))
    def each(files: list[bytes]) -> None:
        folder = folders.mktemp("batch") / "in"
        folder.mkdir()
        seen.extend(check(vault, folder, files, len(seen)))

    each()
    # Reasons are of the closed set, and none of them is a fault of ours.
    assert set(seen) <= {reason.code for reason in Reason} - {Reason.UNFORESEEN.code}
    assert vault.verify(progress=False).ok


def test_a_batch_goes_on_and_every_file_is_here_or_aside(
    vault: vv.Vault, tmp_path_factory: pytest.TempPathFactory
) -> None:
    many(vault, tmp_path_factory, 2)


@pytest.mark.long
def test_many_batches_go_on(vault: vv.Vault, tmp_path_factory: pytest.TempPathFactory) -> None:
    many(vault, tmp_path_factory, 40)
