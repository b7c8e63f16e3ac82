"""`triage run`: studies of this vault are analysed, once."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from voxelvault.errors import LockTimeout, UsageError
from voxelvault.interfaces.cli.command import PARTLY, Session, pass_session, verb
from voxelvault.interfaces.cli.output import emit, say
from voxelvault_triage.running.asked import DEFAULT, analysing

if TYPE_CHECKING:
    from voxelvault import Vault


@verb(
    "run",
    "voxelvault --vault ~/vault triage run --new",
    "voxelvault --vault ~/vault triage run --study 1.2.840.113619.2.5 --pipeline geometry-check",
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
    from voxelvault_triage.running.asked import prepared
    from voxelvault_triage.running.session import work_through

    if bool(everything) + bool(uids) + (cohort is not None) != 1:
        raise UsageError("which studies? --new, --study UID or --cohort SQL")
    with session.open() as vault:
        runner, version, hands = prepared(vault, pipeline, asked)
        ids = _chosen(vault, pipeline, runner.digest, uids, cohort)
        scheduled = _schedule(vault, ids, (pipeline, version, runner.digest), again=bool(uids))
        try:
            report = work_through(vault, runner, hands)
        except LockTimeout:
            say("another process works on this pipeline: it does what was scheduled")
            report = runner.report
    document = {
        "scheduled": scheduled,
        "analysed": report.studies,
        "priorities": {str(priority): count for priority, count in report.ranked.items()},
        "given_up": report.given_up,
    }
    emit(document, [f"{scheduled} studies scheduled; {report}", DEFAULT.notice], as_json)
    return PARTLY if report.given_up else 0


def _chosen(vault: Vault, pipeline: str, model: str, uids: tuple[str, ...], cohort: str | None) -> list[str]:
    from voxelvault_triage.studies import changed, selected, with_uids

    if uids:
        return with_uids(vault, uids)
    return selected(vault, cohort) if cohort is not None else list(changed(vault, pipeline, model))


def _schedule(vault: Vault, ids: list[str], by: tuple[str, str, str], *, again: bool) -> int:
    from voxelvault_triage.studies import read_studies
    from voxelvault_triage.worklist.states import Priority
    from voxelvault_triage.worklist.store import Wanted, schedule

    priority = Priority.HIGH if again else Priority.MEDIUM
    wanted = [Wanted(one.study, one.last, priority) for one in read_studies(vault, ids)]
    return len(schedule(vault, wanted, *by, again=again)) if wanted else 0
