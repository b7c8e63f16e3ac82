"""`triage results`: what was found, and the same as files for other systems."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import TYPE_CHECKING

import click

from voxelvault.errors import UnknownUID, UsageError
from voxelvault.interfaces.cli.command import PARTLY, Session, pass_session, verb
from voxelvault.interfaces.cli.output import emit, shown, table

if TYPE_CHECKING:
    from voxelvault import Vault
    from voxelvault_triage.results import Recorded

_HEADS = ("study", "pipeline", "model", "verdict", "score", "threshold", "mL", "reasons", "state", "report")


@verb(
    "results",
    "voxelvault --vault ~/vault triage results --study 1.2.840.113619.2.1",
    "voxelvault --vault ~/vault triage results --all --format fhir --out out/",
    "voxelvault --vault ~/vault triage results --study 1.2.840.113619.2.1 --format hl7 --out out/",
)
@click.option("--study", metavar="UID", help="Of one study.")
@click.option("--all", "everything", is_flag=True, help="Of every study.")
@click.option(
    "--format",
    "format_",
    type=click.Choice(["fhir", "hl7", "json"]),
    help="Write files: FHIR R4 bundles or HL7 v2.5 ORU^R01, which name the patient, or plain JSON.",
)
@click.option("--out", type=click.Path(path_type=Path), metavar="DIR", help="Where to; made if need be.")
@pass_session
def command(
    session: Session,
    study: str | None,
    everything: bool,
    format_: str | None,
    out: Path | None,
    as_json: bool,
) -> None:
    """List the results that pipelines wrote, or write them as files for other systems.

    Segmentations, reports and key images are instances of their study: `export` writes those. Results
    that newer ones replaced are listed and not written. A file is named by its report, the last column
    of the list: the name tells nobody's study. `model` begins the digest of the model that was used.

    Exit code 3 where results were left out: an HL7 message has to name a patient by an id.
    """
    if bool(study) == everything:
        raise UsageError("say whose results: --study UID, or --all")
    if (format_ is None) != (out is None):
        raise UsageError("files need both: --format, and --out DIR")
    from voxelvault.formats.report import LeavesTheVault
    from voxelvault_triage.results.exporting import export_results, plain
    from voxelvault_triage.results.reading import reports

    with session.open() as vault:
        found = [one for study_id in _studies(vault, study) for one in reports(vault, study_id)]
        if format_ is None or out is None:
            emit([plain(one) for one in found], _lines(found), as_json)
            return
        with warnings.catch_warnings():
            # The report says it, too.
            warnings.simplefilter("ignore", LeavesTheVault)
            report = export_results(vault, out, format_, [one for one in found if not one.superseded])
        emit(report, [str(report), f"in {report.folder}"], as_json)
        if report.nameless:
            click.get_current_context().exit(PARTLY)


def _studies(vault: Vault, uid: str | None) -> list[str | None]:
    """Return the opaque ids of the studies that have a UID; None for every study."""
    if uid is None:
        return [None]
    rows = vault.sql("select study_id from studies where StudyInstanceUID = $uid", {"uid": uid}).fetchall()
    if not rows:
        raise UnknownUID("no such study in this vault; a query on the table `studies` lists them")
    return [row[0] for row in rows]


def _lines(found: list[Recorded]) -> list[str]:
    if not found:
        return ["No results."]
    comments = dict.fromkeys(comment for one in found for comment in one.comments[:1])
    return [*table(_HEADS, [_cells(one) for one in found]), "", *comments]


def _cells(one: Recorded) -> tuple[str, ...]:
    numbers = ("" if value is None else f"{value:.3g}" for value in (one.score, one.threshold, one.volume_ml))
    reasons = ", ".join(reason.code for reason in one.reasons)
    state = "superseded" if one.superseded else "current"
    told = one.pipeline, one.model[:8], one.verdict.value, *numbers, reasons, state
    return shown(one.StudyInstanceUID), *told, one.instance_id
