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


def take_in(vault: vv.Vault, folder: Path, files: list[bytes]) -> list[str]:
    """Take a batch in; return the reasons of quarantine."""
    for number, data in enumerate(files):
        (folder / f"{number:03}.dcm").write_bytes(data)
    report = vault.ingest(folder, progress=False)
    assert report.found == len(files)
    assert not report.refused
    assert not report.interrupted
    assert report.stored + report.duplicates + report.not_dicom + len(report.quarantined) == report.found
    return [item.reason.code for item in report.quarantined]


def many(vault: vv.Vault, folders: pytest.TempPathFactory, batches: int) -> None:
    reasons: set[str] = set()
    good: set[str] = set()
    everything: set[str] = set()

    @settings(
        max_examples=batches,
        deadline=None,
        derandomize=True,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(st.lists(part10_files(), min_size=FILES, max_size=FILES))
    def each(files: list[bytes]) -> None:
        fine = image(np.full((4, 4), len(good), np.uint16), "CT", series=70, instance=len(good))
        good.add(digest(fine))
        everything.update(map(digest, [*files, fine]))
        reasons.update(take_in(vault, folders.mktemp("batch"), [*files, fine]))

    each()
    # Reasons are of the closed set, and none of them is a fault of ours.
    assert reasons <= {reason.code for reason in Reason} - {Reason.UNFORESEEN.code}
    out = folders.mktemp("out")
    vault.export(out / "files", progress=False)
    stored = {digest(path.read_bytes()) for path in (out / "files").rglob("*") if path.is_file()}
    aside = {digest(path.read_bytes()) for path in quarantine_export(vault.resources, out / "aside")}
    assert good <= stored
    assert everything <= stored | aside
    assert vault.verify(progress=False).ok


def test_a_batch_goes_on_and_every_file_is_here_or_aside(
    vault: vv.Vault, tmp_path_factory: pytest.TempPathFactory
) -> None:
    many(vault, tmp_path_factory, 2)


@pytest.mark.long
def test_many_batches_go_on(vault: vv.Vault, tmp_path_factory: pytest.TempPathFactory) -> None:
    many(vault, tmp_path_factory, 40)
