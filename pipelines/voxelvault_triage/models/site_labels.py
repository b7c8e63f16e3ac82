"""A site's labels and a model's scores of the same studies, and the calibrated model that comes of them."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from voxelvault import Vault
from voxelvault.errors import UsageError, VoxelVaultError
from voxelvault_triage.candidates import open_of
from voxelvault_triage.model import Study
from voxelvault_triage.models import registry
from voxelvault_triage.models.bundle import CALIBRATION
from voxelvault_triage.models.calibration import Calibrated
from voxelvault_triage.models.loaded import LoadedModel, load
from voxelvault_triage.models.registry import Installed
from voxelvault_triage.models.vouching import CALIBRATED, Vouched
from voxelvault_triage.pipeline import Pipeline

YES = frozenset({"1", "true", "yes", "y", "positive", "pos", "present"})
NO = frozenset({"0", "false", "no", "n", "negative", "neg", "absent"})


@dataclass(frozen=True, slots=True)
class Labelled:
    """One study with a label.

    Parameters
    ----------
    study : Study
        Its content isn't digested here.
    positive : bool
        The label.
    score : float or None
        Of the table, where it has one.
    """

    study: Study
    positive: bool
    score: float | None = None


def labelled(
    vault: Vault,
    source: Path | None,
    column: str,
    score: str | None = None,
    on: str = "StudyInstanceUID",
    positive: str | None = None,
) -> list[Labelled]:
    """Return the studies that have a label.

    Parameters
    ----------
    vault : Vault
        Open.
    source : Path or None
        A CSV, TSV or Parquet file; None for what reports (SR) in
        the vault say.
    column : str
        Of the labels: 1 or 0, yes or no, positive or negative; for reports a coded concept.
    score : str, optional
        Of the model's uncalibrated scores, where the table has them.
    on : str
        What the table's key column holds and is called, as `Selection.with_labels` takes it.
    positive : str, optional
        The value that is positive, all others being negative; instead of those words.

    Raises
    ------
    UsageError
        There is no such column, no row fits, a label is none of these words, or the series of one study
        have different ones.
    """
    wanted = [column] if score is None else [column, score]
    chosen = vault.select("Modality = 'CT'")
    if source is None:
        chosen = chosen.with_labels(from_="SR", columns=wanted, missing="drop")
    else:
        chosen = chosen.with_labels(source, on=on, columns=wanted, missing="drop")
    found: dict[str, Labelled] = {}
    for row in chosen.df().to_dict("records"):
        study = Study(row["study_id"], row["subject_id"], row["StudyInstanceUID"], "")
        one = Labelled(study, _positive(row[column], positive), float(row[score]) if score else None)
        if found.setdefault(study.study_id, one) != one:
            raise UsageError("two series of one study have different labels; label studies")
    return list(found.values())


def _positive(value: object, positive: str | None) -> bool:
    if positive is not None:
        values = value if isinstance(value, list | tuple) else [value]
        return positive.strip().lower() in {str(one).strip().lower() for one in values}
    text = str(value).strip().lower().removesuffix(".0")
    if text not in YES | NO:
        raise UsageError("a label is 1 or 0, yes or no, positive or negative; check the column of labels")
    return text in YES


@dataclass(frozen=True, slots=True)
class Scored:
    """Scores of labelled studies, and how many had none.

    Parameters
    ----------
    scores : list of float
        Uncalibrated, 0 to 1.
    positive : list of bool
        Labels, in the same order.
    not_analysed : mapping of str to int
        Studies left out, by reason of the gate, or ``failed``.
    """

    scores: list[float]
    positive: list[bool]
    not_analysed: Mapping[str, int]


def scored(
    studies: list[Labelled],
    score_of: Callable[[Study], float | str],
    advance: Callable[[int], object] = lambda _one: None,
) -> Scored:
    """Score labelled studies; scores that a table gave are taken as they are.

    Parameters
    ----------
    studies : list of Labelled
        As `labelled` returns them.
    score_of : callable
        Gives the uncalibrated score of a study, or why there is none.
    advance : callable
        Called with 1 after each study.
    """
    scores: list[float] = []
    positive: list[bool] = []
    left_out: dict[str, int] = {}
    for one in studies:
        found = one.score if one.score is not None else score_of(one.study)
        if isinstance(found, str):
            left_out[found] = left_out.get(found, 0) + 1
        else:
            scores.append(found)
            positive.append(one.positive)
        advance(1)
    return Scored(scores, positive, left_out)


def scorer(vault: Vault, pipeline: Pipeline, model: Installed) -> Callable[[Study], float | str]:
    """Return what scores a study with a model's own, uncalibrated scores, or says why there is none."""
    raw = uncalibrated(vault, model)

    def score(study: Study) -> float | str:
        try:
            gated = pipeline.gate(vault, study)
            if gated.SeriesInstanceUID is None:
                return gated.reasons[0].code
            opened = gated.opened
            if opened is None:
                opened = open_of(vault, study, gated.SeriesInstanceUID, pipeline.name)
            with opened as series:
                return pipeline.infer(pipeline.prepare(series, gated.stack), raw).score
        except VoxelVaultError:
            return "failed"

    return score


def uncalibrated(vault: Vault, model: Installed, **options: Any) -> LoadedModel:
    """Load a model without its calibration: its scores are the network's own."""
    bundle = registry.bundle_of(vault, model)
    raw = json.dumps({"calibration": None, "threshold": 0.5}).encode()
    return load(bundle.with_file(CALIBRATION, raw), confined=not registry.is_ours(bundle), **options)


def keep(vault: Vault, model: Installed, made: Calibrated) -> Installed:
    """Keep a calibrated model beside the one that it was made of: another digest, the same name.

    Raises
    ------
    UsageError
        This very calibration is kept already.
    """
    document = json.dumps(made.document(model.digest), indent=1).encode()
    bundle = registry.bundle_of(vault, model).with_file(CALIBRATION, document)
    return registry.install(vault, bundle, Vouched(CALIBRATED), name=model.name, based_on=model.digest)


__all__ = ["Labelled", "Scored", "keep", "labelled", "scored", "scorer", "uncalibrated"]
