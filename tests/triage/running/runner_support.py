"""Studies for the runner: small CTs, bright or dark, in a vault of their own."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

import voxelvault as vv
from voxelvault.testing import synthetic
from voxelvault_triage.running.runner import Limits, Runner
from voxelvault_triage.studies import changed, read_studies
from voxelvault_triage.worklist import store
from voxelvault_triage.worklist.store import Wanted


def ct(
    study: int, mean: float = 40.0, *, first: float | None = None, slices: Iterable[int] = range(5)
) -> list[bytes]:
    """Return slices of a CT of this mean; `first` is the value of its first voxel."""
    volume = np.full((8, 16, 16), mean, np.int16)
    volume[2:4, 4:8, 4:8] += 600 if mean > 0 else 0
    if first is not None:
        volume[:, 0, 0] = int(first)
    places = synthetic.slice_positions(8)
    return [
        synthetic.image(
            volume[n] + 1024,
            "CT",
            seed=study,
            series=study,
            instance=n + 1,
            attributes={
                "PatientID": f"P{study}",
                "StudyID": str(study),
                "ImagePositionPatient": list(map(float, places[n])),
                "ImageOrientationPatient": list(synthetic.AXIAL),
                "PixelSpacing": [1.0, 1.0],
                "SliceThickness": 2.0,
                "RescaleSlope": 1,
                "RescaleIntercept": -1024,
                "RescaleType": "HU",
                "FrameOfReferenceUID": synthetic.uid(study, 99),
            },
        )
        for n in slices
    ]


def take(vault: vv.Vault, folder: Path, *files: bytes) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for number, data in enumerate(files):
        (folder / f"{number:04}.dcm").write_bytes(data)
    assert not vault.ingest(folder, progress=False).quarantined


def schedule(vault: vv.Vault, pipeline: Any, model: str = "") -> list[str]:
    """Schedule whatever changed, ready or not."""
    found = read_studies(vault, changed(vault, pipeline.name, model))
    wanted = [Wanted(one.study, one.last) for one in found]
    return store.schedule(vault, wanted, pipeline.name, pipeline.version, model)


def runner(vault: vv.Vault, pipeline: Any, model: Any = None, **limits: Any) -> Runner:
    return Runner(vault, pipeline, model, Limits(**limits))


def rows(vault: vv.Vault, query: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = vault.resources.catalog.query(query).to_pylist()
    return found


def reports(vault: vv.Vault) -> dict[str, int]:
    """Return how many reports each study has, by opaque id."""
    found = rows(
        vault,
        "select study_id, count(*) as n from instances where origin is not null and SOPClassUID ="
        " '1.2.840.10008.5.1.4.1.1.88.34' and not superseded group by all",
    )
    return {row["study_id"]: row["n"] for row in found}
