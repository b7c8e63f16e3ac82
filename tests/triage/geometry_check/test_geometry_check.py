"""What is wrong with a CT's geometry is found, told by its name, and nothing else with it."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest

import voxelvault
from heads_made import ct, head
from voxelvault import Vault
from voxelvault.testing.synthetic_series import mr_series
from voxelvault_triage.geometry_check.checks import (
    CHECKS,
    Measured,
    noise_of,
    table_differs,
    table_direction,
    tilt_of,
    unevenness,
)
from voxelvault_triage.geometry_check.pipeline import REASONS, GeometryCheck
from voxelvault_triage.model import Finding, Study

HEAD = head()

CASES: dict[str, tuple[str, Callable[[int], list[bytes]]]] = {
    "as it should be": ("", lambda seed: ct(HEAD, seed=seed)),
    "tilted, and said so": ("", lambda seed: ct(HEAD, tilt=18.0, GantryDetectorTilt=18, seed=seed)),
    "a slice is missing": ("missing", lambda seed: ct(HEAD, leave_out=[12], seed=seed)),
    "uneven slices": ("uneven", lambda seed: ct(HEAD, uneven=[5.0] * 12 + [6.5] + [5.0] * 12, seed=seed)),
    "tilt not said": ("tilt", lambda seed: ct(HEAD, tilt=18.0, GantryDetectorTilt=0, seed=seed)),
    "prone, it says": ("orientation", lambda seed: ct(HEAD, PatientPosition="HFP", seed=seed)),
    "flipped": ("orientation", lambda seed: ct(HEAD[:, ::-1], seed=seed)),
    "upside down": ("upside-down", lambda seed: ct(HEAD[::-1], seed=seed)),
    "cut": ("truncated", lambda seed: ct(HEAD[:, :, 24:], seed=seed)),
    "noisy": ("noise", lambda seed: ct(head(noise=70.0), seed=seed)),
}
"""By name: the check that is out of bounds, none where all is well, and what makes the files of a seed."""


def study_of(vault: Vault, file: bytes) -> Study:
    uid = str(pydicom.dcmread(io.BytesIO(file), stop_before_pixels=True).StudyInstanceUID)
    rows = vault.sql("select study_id, subject_id from studies where StudyInstanceUID = ?", [uid]).fetchall()
    return Study(*rows[0], uid, "")


def checked(vault: Vault, study: Study) -> Finding:
    pipeline = GeometryCheck()
    found = pipeline.gate(vault, study)
    assert found.opened is not None
    with found.opened as series:
        return pipeline.infer(pipeline.prepare(series, found.stack), None)


@pytest.fixture(scope="module")
def cases(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Vault, dict[str, bytes]]]:
    folder = tmp_path_factory.mktemp("checked")
    (folder / "in").mkdir()
    made = {name: make(seed) for seed, (name, (_, make)) in enumerate(CASES.items(), 1)}
    made["no CT"], made["two slices"] = mr_series(5, seed=91), ct(HEAD[:2], seed=92)
    *whole, last = ct(HEAD, seed=93)
    made["a file cut short"] = [*whole, last[:-99]]
    for number, files in enumerate(made.values()):
        for at, file in enumerate(files):
            (folder / "in" / f"{number}-{at}.dcm").write_bytes(file)
    with voxelvault.create(folder / "vault", key_file=folder / "key") as vault:
        vault.ingest(folder / "in", progress=False)
        yield vault, {name: files[0] for name, files in made.items()}


@pytest.mark.parametrize("what", sorted(CASES))
def test_what_is_wrong_is_found(cases: tuple[Vault, dict[str, bytes]], what: str) -> None:
    vault, files = cases
    found = checked(vault, study_of(vault, files[what]))
    out = [name for name, severity in found.types.items() if severity >= found.threshold]
    assert out == ([CASES[what][0]] if CASES[what][0] else []), found.types
    assert found.flagged == bool(out)
    assert set(found.types) == set(CHECKS)
    assert found.mask.shape[0] in (25, 26)
    assert found.mask.any() == (what == "cut")
    if what == "a slice is missing":
        assert found.key_frame in (11, 12)


def test_what_is_not_analysed(cases: tuple[Vault, dict[str, bytes]]) -> None:
    vault, files = cases
    for name, code in (("no CT", "no-ct"), ("two slices", "slices"), ("a file cut short", "pixels")):
        found = GeometryCheck().gate(vault, study_of(vault, files[name]))
        assert [reason.code for reason in found.reasons] == [code]
        assert found.reasons[0].sentence == REASONS[code]


def test_measures() -> None:
    z = np.array([0.0, 0.0, 1.0])
    leaning = np.outer(np.arange(5), [0.0, np.tan(np.radians(20)), 1.0])
    assert tilt_of(leaning, z) == pytest.approx(20)
    assert unevenness(np.array([5.0, 5, 5.5, 5, 5])) == pytest.approx(0.1)
    rng = np.random.default_rng(0)
    for sigma in (4.0, 20.0):
        plane = (30 + rng.normal(0, sigma, (128, 128))).astype(np.float32)
        assert noise_of(plane, (1.0, 1.0)) == pytest.approx(sigma, rel=0.15)
    assert np.isnan(noise_of(np.full((64, 64), -1000.0), (1.0, 1.0)))
    assert Measured({"noise": 25.0}).severities["noise"] == 0.5
    row, column = np.eye(3)[0], np.eye(3)[1]
    facts: Any = [type("Facts", (), {"table": (0.1, 9.0, 0.4, 0.4)})()]
    posterior = table_direction(facts, row, column)
    assert posterior is not None
    assert (table_differs(posterior, "HFS"), table_differs(posterior, "FFP")) == (False, True)
    assert table_differs(posterior, "") is None
    assert table_differs(None, "HFS") is None


@pytest.mark.shared
def test_a_real_head_is_what_it_says_but_uneven(shared_dicom: Path, tmp_path: Path) -> None:
    with voxelvault.create(tmp_path / "vault", key_file=tmp_path / "key") as vault:
        vault.ingest(shared_dicom / "neurolabusc+dcm_qa_ct/In/GE", progress=False)
        rows = vault.sql("select study_id, subject_id, StudyInstanceUID from studies").fetchall()
        found = checked(vault, Study(*rows[0], ""))
    out = [name for name, severity in found.types.items() if severity >= found.threshold]
    assert out == ["uneven"]
    assert found.types["tilt"] < 0.05


def test_checks_and_reasons_are_documented() -> None:
    page = (Path(__file__).resolve().parents[3] / "docs/reference/not-analysed.md").read_text()
    for code, sentence in REASONS.items():
        assert f"| `{code}` | {sentence} |" in page
    for name, check in CHECKS.items():
        assert f"| `{name}` | {check.limit:g} {check.unit}".rstrip() in page
        assert check.sentence in page
