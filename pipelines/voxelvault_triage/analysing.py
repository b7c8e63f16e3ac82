"""Studies are analysed: what `triage run` does, for scripts and notebooks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

from voxelvault import Vault
from voxelvault.errors import UsageError
from voxelvault_triage.notice import GENERAL
from voxelvault_triage.running.asked import PIPELINE
from voxelvault_triage.running.queue_lock import AtWorkElsewhere
from voxelvault_triage.running.runner import Limits, Report, Runner
from voxelvault_triage.running.session import Hands, work_through
from voxelvault_triage.studies import changed, read_studies, selected, with_uids
from voxelvault_triage.worklist.states import Priority
from voxelvault_triage.worklist.store import Wanted, schedule


@dataclass(frozen=True, slots=True)
class Analysed:
    """What came of it.

    Parameters
    ----------
    scheduled : int
        Studies that were new, or asked for again.
    report : Report
        What was done; also of studies that others had scheduled.
    elsewhere : bool
        Another process works on this pipeline: it does what was scheduled.
    notice : str
        What must be said of its results.
    """

    scheduled: int
    report: Report
    elsewhere: bool = False
    notice: str = GENERAL

    def __str__(self) -> str:
        return f"studies: {self.scheduled} scheduled; {self.report}"


def analyse(
    vault: Vault,
    pipeline: str = PIPELINE,
    *,
    studies: Sequence[str] = (),
    cohort: str | None = None,
    model: str | None = None,
    limits: Limits | None = None,
    hands: Hands | None = None,
) -> Analysed:
    """Analyse studies, each once for its content, the pipeline and the model.

    Parameters
    ----------
    vault : Vault
        Open for writing.
    pipeline : str
        Name of its entry point.
    studies : sequence of str
        Study Instance UIDs, also of what failed before; by default all that were not analysed as they
        are now.
    cohort : str, optional
        Studies with series that a SQL condition selects, instead.
    model : str, optional
        A name or digest, instead of the pipeline's own.
    limits : Limits, optional
        Seconds and tries of a study.
    hands : Hands, optional
        Who does the work; by default workers of this machine, one a core.

    Raises
    ------
    UsageError
        There is no such pipeline, model or study; or both studies and a cohort are named.
    """
    if studies and cohort is not None:
        raise UsageError("choose one of studies and a cohort")
    runner, version = runner_for(vault, pipeline, model, limits or Limits())
    by = pipeline, version, runner.digest
    chosen = _chosen(vault, by, studies, cohort)
    scheduled = _schedule(vault, chosen, by, again=bool(studies), listed=runner.ranks)
    try:
        report, elsewhere = work_through(vault, runner, hands or Hands()), False
    except AtWorkElsewhere:
        report, elsewhere = runner.report, True
    return Analysed(scheduled, report, elsewhere, runner.notice)


def runner_for(vault: Vault, pipeline: str, model: str | None, limits: Limits) -> tuple[Runner, str]:
    """Return the runner of a pipeline, and its version.

    Parameters
    ----------
    vault : Vault
        Open for writing.
    pipeline : str
        Name of its entry point.
    model : str or None
        A name or digest; None for the pipeline's own.
    limits : Limits
        Seconds and tries of a study.

    Raises
    ------
    UsageError
        There is no such pipeline or no such model, or the model takes another input than the pipeline gives.
    """
    from voxelvault_triage.pipeline import pipeline_named
    from voxelvault_triage.running.bundled import bundled_for

    made = pipeline_named(pipeline)
    name, find = model or made.model, partial(bundled_for, vault, made)
    return Runner(vault, made, find(name) if name else None, limits, find), made.version


def _chosen(
    vault: Vault, by: tuple[str, str, str], studies: Sequence[str], cohort: str | None
) -> Sequence[str]:
    if studies:
        return with_uids(vault, studies)
    return selected(vault, cohort) if cohort is not None else list(changed(vault, by[0], by[2]))


def _schedule(
    vault: Vault, ids: Sequence[str], by: tuple[str, str, str], *, again: bool, listed: bool
) -> int:
    priority = Priority.HIGH if again else Priority.MEDIUM
    wanted = [Wanted(one.study, one.last, priority) for one in read_studies(vault, ids)]
    return len(schedule(vault, wanted, *by, again=again, listed=listed)) if wanted else 0


__all__ = ["Analysed", "analyse", "runner_for"]
