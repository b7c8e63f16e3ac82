"""`triage calibrate`: a model's probability and threshold fitted on this site's own labels."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from voxelvault.interfaces.cli.command import Session, pass_session, verb
from voxelvault.interfaces.cli.output import emit, facts
from voxelvault_triage.amounts import Amount

if TYPE_CHECKING:
    from voxelvault_triage.models.calibration import Calibrated
    from voxelvault_triage.models.site_labels import Scored


@verb(
    "calibrate",
    "voxelvault --vault V triage calibrate head-ct-hemorrhage labels.csv --label hemorrhage",
    "voxelvault --vault V triage calibrate acme --from-reports --label Finding --positive Hemorrhage",
    "voxelvault --vault V triage calibrate acme labels.csv --label y --score raw --kind isotonic --dry-run",
)
@click.argument("model")
@click.argument("labels", required=False, type=click.Path(path_type=Path))
@click.option("--label", "column", default="label", show_default=True, help="Column of 1 and 0.")
@click.option("--on", default="StudyInstanceUID", show_default=True, help="The table's key column.")
@click.option("--positive", metavar="VALUE", help="The label that is positive, all others negative.")
@click.option("--from-reports", is_flag=True, help="Labels are findings of SR in the vault.")
@click.option("--score", help="Column of the model's uncalibrated scores; else studies are scored here.")
@click.option("--pipeline", help="That scores studies.  [default: the model's name]")
@click.option("--kind", type=click.Choice(["platt", "isotonic"]), default="platt", show_default=True)
@click.option("--sensitivity", type=Amount(0.5, 1), default=0.9, show_default=True)
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="The same gives the same.")
@click.option("--dry-run", is_flag=True, help="Say what would come of it; keep nothing.")
@pass_session
def command(
    session: Session,
    model: str,
    labels: Path | None,
    column: str,
    on: str,
    positive: str | None,
    from_reports: bool,
    score: str | None,
    pipeline: str | None,
    kind: str,
    sensitivity: float,
    seed: int,
    dry_run: bool,
    as_json: bool,
) -> None:
    """Fit probability and threshold to this site's labels; the calibrated model gets a digest of its own.

    Sensitivity and specificity are those of studies that their fit hasn't seen (five-fold).
    """
    from voxelvault.display.progress import Progress
    from voxelvault.errors import UsageError
    from voxelvault_triage.models import site_labels
    from voxelvault_triage.models.calibration import calibrate
    from voxelvault_triage.models.registry import find
    from voxelvault_triage.pipeline import pipeline_named

    if (labels is None) != from_reports:
        raise UsageError("labels come from a file, or with --from-reports from the vault: give one of them")
    with session.open() as vault:
        found = find(vault, model)
        studies = site_labels.labelled(vault, labels, column, score, on, positive)
        missing = any(one.score is None for one in studies)
        score_of = (
            site_labels.scorer(vault, pipeline_named(pipeline or found.name), found) if missing else _none
        )
        with Progress("score", total=len(studies), unit="study") as bar:
            scores = site_labels.scored(studies, score_of, bar.advance)
        try:
            made = calibrate(scores.scores, scores.positive, kind=kind, sensitivity=sensitivity, seed=seed)
        except UsageError as error:
            # Too few are left, most often: then what kept the others out is what helps.
            raise UsageError(f"{error}; left out: {_left_out(scores)}") from None
        kept = None if dry_run else site_labels.keep(vault, found, made)
    digest = kept.digest if kept else None
    document = {
        "digest": digest,
        "based_on": found.digest,
        "not_analysed": scores.not_analysed,
        "fitted": made,
    }
    emit(document, facts(_shown(made, scores, digest)), as_json)


def _none(_study: object) -> str:
    return "no-score"


def _left_out(scores: Scored) -> str:
    return ", ".join(f"{count} {code}" for code, count in scores.not_analysed.items()) or "none"


def _shown(made: Calibrated, scores: Scored, digest: str | None) -> dict[str, object]:
    figures = {
        name.replace("_", " "): f"{one.value:.3f} ({one.low:.3f} to {one.high:.3f})"
        for name, one in (
            ("AUC", made.auc),
            ("sensitivity", made.sensitivity),
            ("specificity", made.specificity),
        )
    }
    return {
        "studies": f"{made.positives} positive, {made.negatives} negative",
        "not analysed": _left_out(scores),
        "kind": made.calibration["kind"],
        "threshold": f"{made.threshold:.3f} ({made.threshold_low:.3f} to {made.threshold_high:.3f})",
        **figures,
        "Brier": f"{made.brier_before:.3f} before, {made.brier_after:.3f} after",
        "model": digest or "nothing was kept",
    }
