"""`triage run`: studies of this vault are analysed, once."""

from __future__ import annotations

from typing import Any

import click

from voxelvault.errors import UsageError
from voxelvault.interfaces.cli.command import PARTLY, Session, pass_session, verb
from voxelvault.interfaces.cli.output import emit, say
from voxelvault_triage.running.asked import analysing


@verb(
    "run",
    "voxelvault --vault ~/vault triage run --new",
    "voxelvault --vault ~/vault triage run --study 1.2.840.113619.2.5 --pipeline ct-geometry-check",
    "voxelvault --vault ~/vault triage run --cohort \"Modality = 'CT'\" --scheduler tls://scheduler:8786",
)
@click.option("--new", "everything", is_flag=True, help="Every study that was not analysed as it is now.")
@click.option("--study", "uids", multiple=True, metavar="UID", help="This study; repeat. Also if it failed.")
@click.option("--cohort", metavar="SQL", help="Studies with series that a condition selects.")
@analysing
@pass_session
def command(
    session: Session,
    /,
    as_json: bool,
    everything: bool,
    uids: tuple[str, ...],
    cohort: str | None,
    pipeline: str,
    **asked: Any,
) -> int:
    """Analyse studies: gate, model, results in the study, place on the worklist.

    Once for a study's content, pipeline and model; a study is taken as it is, ready or not. Where a
    watcher is at work on this pipeline, it does what is scheduled here.
    """
    from voxelvault_triage.analysing import analyse
    from voxelvault_triage.running.asked import hands_of, limits_of

    if bool(everything) + bool(uids) + (cohort is not None) != 1:
        raise UsageError("which studies? --new, --study UID or --cohort SQL")
    limits, hands, model = limits_of(asked), hands_of(asked), asked["model"]
    with session.open() as vault:
        found = analyse(vault, pipeline, studies=uids, cohort=cohort, model=model, limits=limits, hands=hands)
    if found.elsewhere:
        say("another process works on this pipeline: it does what was scheduled")
    document = {"scheduled": found.scheduled, **found.report.document()}
    emit(document, [str(found), found.notice], as_json)
    return PARTLY if found.report.given_up else 0
