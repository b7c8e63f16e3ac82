"""Head CTs of nobody as files, each bleed outlined by type in a SEG of the same study."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from voxelvault.testing.synthetic_segmentation import segmentation_of
from voxelvault_triage.phantom.atlas import analytic
from voxelvault_triage.phantom.bleeds import KINDS
from voxelvault_triage.phantom.scanner import Scanners
from voxelvault_triage.phantom.studies import files_of
from voxelvault_triage.phantom.study import Phantom, Recipe, phantom

COARSE = Recipe(scanners=Scanners(thickness=(8.0,), pixel=(1.8, 1.8), field=(216, 216)))


def outlined_head(folder: Path, person: int, bleeding: bool, recipe: Recipe = COARSE) -> Phantom:
    """Write a study, and return what is in it."""
    made = phantom(person, analytic(), recipe, bleeding)
    files = dict(files_of(made, person))
    for kind in np.unique(made.labels[made.labels > 0]):
        files[f"outline-{kind}.dcm"] = _outline(made, int(kind), person, list(files.values()))
    folder.mkdir(parents=True, exist_ok=True)
    for name, data in files.items():
        (folder / f"{person}-{name}").write_bytes(data)
    return made


def _outline(made: Phantom, kind: int, person: int, files: list[bytes]) -> bytes:
    inside = np.flatnonzero((made.labels == kind).any(axis=(1, 2)))
    planes = made.planes
    return segmentation_of(
        made.labels[inside] == kind,
        planes.positions[inside],
        orientation=(*planes.across, *planes.down),
        spacing=planes.spacing,
        labels={1: str(KINDS[kind - 1])},
        on=files[: len(made.hu)],
        seed=person,
        series=kind + 1,
        attributes={"PatientID": f"phantom-{person}", "PatientName": f"Phantom^{person}"},
    )
