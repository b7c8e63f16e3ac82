"""What tests of results share: a vault with one study, an analysis of it, and the validators."""

from __future__ import annotations

import io
import os
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pydicom
import pytest

import voxelvault as vv
from voxelvault_triage.model import Analysis, Finding, Gated, Reason, Study
from voxelvault_triage.results import Written

MODEL, MODEL_NAME = "ab" * 32, "small-network 2.1"
PIPELINE = "head-ct-hemorrhage"
REASONS = (
    Reason("thickness", "The slices are thicker than the 5 mm that the model was made for: it was not run."),
    Reason("orientation", "The slices are not axial."),
)


def tool(name: str) -> str:
    found = shutil.which(name)
    if found is None:
        if os.environ.get("CI"):
            pytest.fail(f"{name} is missing; .ci/run installs dcmtk and dicom3tools")
        pytest.skip(f"needs {name}")
    return found


def filled(folder: Path, files: Mapping[str, bytes] | Sequence[bytes] | Path, **options: Any) -> vv.Vault:
    """Make a vault that holds these files."""
    vault = vv.create(folder / "vault")
    if not isinstance(files, Path):
        named = files if isinstance(files, Mapping) else {str(n): data for n, data in enumerate(files)}
        (folder / "in").mkdir()
        for name, data in named.items():
            (folder / "in" / f"{name}.dcm").write_bytes(data)
        files = folder / "in"
    vault.ingest(files, progress=False, **options)
    return vault


def asked(vault: vv.Vault, query: str, parameters: dict[str, Any]) -> list[tuple[Any, ...]]:
    """Ask the catalog itself: a user's session takes a copy of it after every commit."""
    table = vault.resources.catalog.query(query, parameters)
    return [tuple(row.values()) for row in table.to_pylist()]


def study_of(vault: vv.Vault, content: str = "c", modality: str = "CT") -> tuple[Study, str]:
    """Return the study and the UID of its largest series."""
    (row,) = asked(
        vault,
        "select s.study_id, s.subject_id, s.StudyInstanceUID, s.SeriesInstanceUID from series s"
        " join instances using (series_id) where s.Modality = $modality group by all"
        " order by count(*) desc, 4 limit 1",
        {"modality": modality},
    )
    return Study(row[0], row[1], row[2], content * 64), row[3]


def box(shape: Sequence[int]) -> npt.NDArray[np.bool_]:
    """Return a mask with something in two slices, or in one where there is but one."""
    mask = np.zeros(tuple(shape), bool)
    rows, columns = shape[1] // 4, shape[2] // 4
    mask[shape[0] // 2, rows : 2 * rows, columns : 3 * columns] = True
    mask[shape[0] // 2 - 1, rows : rows + 2, columns : columns + 3] = True
    return mask


def analysis_of(
    vault: vv.Vault,
    *,
    content: str = "c",
    score: float = 0.8125,
    mask: npt.NDArray[np.bool_] | None = None,
    fit: bool = True,
    model: str = MODEL,
    pipeline: str = PIPELINE,
) -> Analysis:
    """Return an analysis of the largest CT series; unfit ones have reasons and no finding."""
    study, uid = study_of(vault, content)
    name = MODEL_NAME if model else ""
    if not fit:
        return Analysis(study, pipeline, "1.2", model, Gated(None, reasons=REASONS), model_name=name)
    if mask is None:
        with vault.series(uid, study=study.StudyInstanceUID) as series:
            mask = box((len(series.members(0)), *series.frame(0, 0).shape))
    key = int(np.argmax(mask.sum(axis=(1, 2))))
    finding = Finding(
        score, 0.5, {"subdural": 0.75, "subarachnoid": 0.1}, mask, mask.sum() / 512, 0.03125, key
    )
    return Analysis(study, pipeline, "1.2", model, Gated(uid), finding, model_name=name)


def file_of(vault: vv.Vault, instance_id: str) -> bytes:
    """Return one instance of the vault as the file that it is."""
    (row,) = asked(vault, "select SOPInstanceUID from instances where instance_id = $id", {"id": instance_id})
    with vault.instance(row[0]) as instance:
        return instance.as_dicom()


def read(file: bytes) -> pydicom.Dataset:
    return pydicom.dcmread(io.BytesIO(file))


def files_of(vault: vv.Vault, written: Written) -> list[bytes]:
    return [file_of(vault, instance_id) for instance_id in written.instance_ids]


def errors_of(file: bytes, folder: Path) -> set[str]:
    """Return what dciodvfy calls errors, without the module it happened to look in."""
    path = folder / "judged.dcm"
    path.write_bytes(file)
    done = subprocess.run([tool("dciodvfy"), str(path)], capture_output=True, text=True)
    lines = (done.stdout + done.stderr).splitlines()
    return {line.split(" Module=")[0] for line in lines if line.startswith("Error")}


def dumped(file: bytes, folder: Path) -> str:
    """Return what dsrdump reads in a report."""
    path = folder / "report.dcm"
    path.write_bytes(file)
    done = subprocess.run([tool("dsrdump"), "+Pl", "+Pc", "+U8", str(path)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout
