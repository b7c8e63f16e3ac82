"""Calibration: known curves found again, intervals that hold, and a model of its own in the vault."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from bundles_made import bundle

import voxelvault
from voxelvault.errors import UsageError
from voxelvault.testing.synthetic_segmentation import measurement_report
from voxelvault.testing.synthetic_series import ct_series
from voxelvault_triage.model import Finding, Gated, Reason, Study
from voxelvault_triage.models import registry, site_labels
from voxelvault_triage.models.calibration import (
    ISOTONIC,
    PLATT,
    calibrate,
    calibrator,
    curve_of,
    fit,
    threshold_for,
)
from voxelvault_triage.models.card import card_of
from voxelvault_triage.models.vouching import PINNED, Vouched


def drawn(count: int, seed: int = 0, slope: float = 0.5, shift: float = -1.0) -> tuple[Any, Any]:
    """Return scores, and labels whose probability is a logistic curve of the score's logit."""
    rng = np.random.default_rng(seed)
    logit = rng.normal(0, 3, count)
    return 1 / (1 + np.exp(-logit)), rng.random(count) < 1 / (1 + np.exp(-(slope * logit + shift)))


def test_platt_finds_the_curve_again() -> None:
    made = fit(*drawn(20_000), PLATT)
    assert made["slope"] == pytest.approx(0.5, abs=0.03)
    assert made["intercept"] == pytest.approx(-1.0, abs=0.05)


@pytest.mark.parametrize("kind", [PLATT, ISOTONIC])
def test_probabilities_become_better_and_the_order_stays(kind: str) -> None:
    scores, labels = drawn(600)
    made = calibrate(scores, labels, kind=kind, sensitivity=0.9)
    assert made.brier_after < made.brier_before
    probabilities = curve_of(made.calibration)(np.linspace(0, 1, 101))
    assert (np.diff(probabilities) >= 0).all()
    assert made.threshold_low <= made.threshold <= made.threshold_high
    assert made.sensitivity.low < 0.9 < made.sensitivity.high
    assert made.auc.low < made.auc.value < made.auc.high
    assert calibrate(scores, labels, kind=kind) == calibrate(scores, labels, kind=kind)


def test_isotonic_is_exact_where_it_steps() -> None:
    made = fit(np.array([0.1, 0.2, 0.3, 0.4]), np.array([False, True, False, True]), ISOTONIC)
    assert curve_of(made)(np.array([0.1, 0.2, 0.25, 0.3, 0.4])).tolist() == [0, 0.5, 0.5, 0.5, 1]


def test_the_threshold_reaches_what_was_asked_for() -> None:
    flags = np.array([True] * 10 + [False] * 10)
    probabilities = np.concatenate([np.arange(10) / 10, np.zeros(10)])
    assert threshold_for(probabilities, flags, 0.9) == pytest.approx(0.1)
    assert threshold_for(probabilities, flags, 1.0) == 0


def test_what_is_no_calibration() -> None:
    scores, labels = drawn(60)
    for wrong in (
        (scores[:8], labels[:8]),
        (scores * 2, labels),
        (scores, np.zeros(60, bool)),
        (scores[1:], labels),
    ):
        with pytest.raises(UsageError):
            calibrate(*wrong)
    with pytest.raises(UsageError, match="one of"):
        calibrate(scores, labels, kind="magic")
    for said in (
        {},
        {"kind": "platt", "slope": -1, "intercept": 0},
        {"kind": "platt", "slope": "$__import__('os')", "intercept": 0},
        {"kind": "isotonic", "x": [0, 1], "y": [1, 0]},
        {"kind": "isotonic", "x": [0, 0], "y": [0, 1]},
        {"kind": "isotonic", "x": [], "y": []},
        {"kind": "isotonic", "x": [0, 1], "y": [0, 2]},
    ):
        with pytest.raises(UsageError, match="calibration"):
            calibrator(said)
    assert calibrator(None)(0.3) == 0.3


class Rule:
    """A pipeline without a model: the first letters of an id are its score."""

    name, version, model = "rule", "1", None

    def gate(self, vault: voxelvault.Vault, study: Study) -> Gated:
        if study.study_id[0] in "01":
            return Gated(None, 0, (Reason("slices", "too few"),))
        ((uid,),) = vault.sql(
            "select SeriesInstanceUID from series where study_id = ?", [study.study_id]
        ).fetchall()
        return Gated(uid)

    def prepare(self, series: Any, stack: int) -> Any:
        return float(series.load(stack).mean())

    def infer(self, prepared: Any, model: Any) -> Finding:
        assert model.card["calibration"] is None
        return Finding(0.5, model.card["threshold"], {}, np.zeros((1, 1, 1), bool), 0.0)


def write(folder: Path, count: int) -> None:
    folder.mkdir()
    for seed in range(count):
        for at, file in enumerate(ct_series(1, 8, 8, seed=seed)):
            (folder / f"{seed}-{at}.dcm").write_bytes(file)


def test_a_sites_labels_give_a_model_of_its_own(tmp_path: Path, run: Callable[..., Any]) -> None:
    count = 30
    write(tmp_path / "in", count)
    vault_at = tmp_path / "vault"
    assert run("init", vault_at).code == 0
    assert run("--vault", vault_at, "ingest", tmp_path / "in").code == 0
    with voxelvault.open(vault_at) as vault:
        base = registry.install(vault, bundle(), Vouched(PINNED))
        uids = [row[0] for row in vault.sql("select StudyInstanceUID from studies order by 1").fetchall()]
        scores, labels = drawn(count, seed=3, shift=0.0)
        with (tmp_path / "labels.csv").open("w", newline="") as file:
            rows = csv.writer(file)
            rows.writerow(["StudyInstanceUID", "bleed", "raw"])
            rows.writerows(
                [uid, int(label), float(s)] for uid, label, s in zip(uids, labels, scores, strict=True)
            )
        studies = site_labels.labelled(vault, tmp_path / "labels.csv", "bleed")
        assert sum(one.positive for one in studies) == labels.sum()
        found = site_labels.scored(studies[:6], site_labels.scorer(vault, Rule(), base))
        assert len(found.scores) + found.not_analysed.get("slices", 0) == 6
        assert set(found.scores) <= {0.5}
    words = (
        "--vault",
        vault_at,
        "triage",
        "calibrate",
        base.name,
        tmp_path / "labels.csv",
        "--label",
        "bleed",
    )
    tried = run(*words, "--score", "raw", "--dry-run")
    assert "nothing was kept" in tried.out, tried.err
    done = run(*words, "--score", "raw", "--json")
    assert done.code == 0, done.err
    with voxelvault.open(vault_at) as vault:
        made = registry.find(vault, base.name)
        assert (made.digest, made.based_on) == (done.json["digest"], base.digest)
        card = card_of(registry.bundle_of(vault, made))
        assert card.threshold == done.json["fitted"]["threshold"]
        assert card.calibration == done.json["fitted"]["calibration"]
        assert registry.find(vault, base.digest) == base
    wrong = run(*words[:-1], "raw")
    assert "1 or 0" in wrong.err


def test_reports_that_were_sent_in_are_labels_and_a_models_own_are_none(
    tmp_path: Path, configuration: Path
) -> None:
    (tmp_path / "in").mkdir()
    images = {seed: ct_series(2, 8, 8, seed=seed) for seed in (1, 2)}
    sent = measurement_report(images[1], seed=1)
    for number, file in enumerate([*images[1], *images[2], sent]):
        (tmp_path / "in" / f"{number}.dcm").write_bytes(file)
    with voxelvault.create(tmp_path / "vault", key_file=tmp_path / "key") as vault:
        vault.ingest(tmp_path / "in", progress=False)
        uid = str(pydicom.dcmread(io.BytesIO(images[2][0])).StudyInstanceUID)
        ((study_id,),) = vault.sql(
            "select study_id from studies where StudyInstanceUID = ?", [uid]
        ).fetchall()
        vault.store([measurement_report(images[2], seed=2)], study_id, origin="some-pipeline")
        columns = vault.select("Modality = 'CT'").with_labels(from_="SR").labels.columns
        (finding,) = (name for name in columns if name.lower().startswith("finding") and "ite" not in name)
        (found,) = site_labels.labelled(vault, None, finding, positive="tumor")
        assert found.study.study_id != study_id
        assert found.positive
        (found,) = site_labels.labelled(vault, None, finding, positive="hemorrhage")
        assert not found.positive
