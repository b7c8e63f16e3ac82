"""A small vault of several people, for tests of selections and cohorts."""

from __future__ import annotations

import atexit
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import pytest

import voxelvault as vv
from voxelvault.testing import synthetic


def person(number: int, **more: object) -> dict[str, object]:
    return {"PatientID": f"P{number}", "PatientName": f"PLANTED^{number}", "PatientBirthDate": None, **more}


def write(
    inbox: Path, seed: int, who: Mapping[str, object], *, mr: bool = False, slices: int = 2, series: int = 1
) -> list[Path]:
    """Write the files of one series; each seed is a study of its own."""
    inbox.mkdir(parents=True, exist_ok=True)
    make = synthetic.mr_series if mr else synthetic.ct_series
    paths = []
    for at, data in enumerate(make(slices, 16, 16, seed=seed, series=series, attributes=who)):
        paths.append(inbox / f"{seed}-{series}-{at}.dcm")
        paths[-1].write_bytes(data)
    return paths


def put(vault: vv.Vault, inbox: Path, seed: int, who: Mapping[str, object], **more: Any) -> None:
    """Take one series in."""
    vault.ingest(*write(inbox, seed, who, **more), progress=False)


@cache
def blank() -> Path:
    """Return a folder with an empty vault and the configuration that opens it: making one takes long."""
    place = Path(tempfile.mkdtemp(prefix="voxelvault-blank-"))
    atexit.register(shutil.rmtree, place, ignore_errors=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("VOXELVAULT_CONFIG_HOME", str(place / "configuration"))
        vv.create(place / "vault").close()
    return place


@contextmanager
def made(folder: Path, source: Path | None = None) -> Iterator[vv.Vault]:
    """Open a copy of an empty vault, or of the one at `source`."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("VOXELVAULT_CONFIG_HOME", str(folder / "configuration"))
        for name in ("configuration", "vault"):
            shutil.copytree((source or blank()) / name, folder / name)
        with vv.open(folder / "vault") as vault:
            yield vault


def subject(vault: vv.Vault, patient_id: str) -> str:
    rows = vault.resources.catalog.query(
        "select subject_id from patients where PatientID = $id and merged_into is null", {"id": patient_id}
    )
    (found,) = rows["subject_id"].to_pylist()
    return str(found)
