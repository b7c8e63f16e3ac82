"""One study before and after its worker: the gate, the grant, the result, the list."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace

from voxelvault import Vault
from voxelvault.crew import Unit
from voxelvault.series import Series
from voxelvault_triage.candidates import open_of
from voxelvault_triage.model import Analysis, Gated, Study
from voxelvault_triage.pipeline import Pipeline
from voxelvault_triage.results.writing import write_results
from voxelvault_triage.running.order import About, Answer, Loadable, Order
from voxelvault_triage.running.worker import analyse
from voxelvault_triage.studies import read_studies
from voxelvault_triage.worklist.store import Task


@dataclass(slots=True)
class InHand:
    """A study that is being analysed.

    Attributes
    ----------
    task : Task
        As started.
    study : Study
        As it was when it was started.
    model : Loadable or None
        What analyses it; None for a pipeline that has none.
    gated : Gated
        What the gate said.
    opened : Series or None
        The series that is analysed; None where nothing fitted.
    seconds : dict of str to float
        By step.
    send_model : bool
        A worker said that it has not got the model.
    """

    task: Task
    study: Study
    model: Loadable | None
    gated: Gated
    opened: Series | None = field(default=None, repr=False)
    seconds: dict[str, float] = field(default_factory=dict)
    send_model: bool = False

    @property
    def series_id(self) -> str | None:
        """Opaque id of the series that is analysed."""
        return self.opened.source.series_id if self.opened is not None else None

    def close(self) -> None:
        """Let go of the series: the log gets what was read."""
        if self.opened is not None:
            self.opened.close()


def take_in_hand(
    vault: Vault, pipeline: Pipeline, model: Loadable | None, task: Task, study: Study
) -> InHand:
    """Ask the gate and open the series that it chose, unless it left it open.

    Raises
    ------
    Exception
        Whatever the pipeline's gate raises.
    """
    began = time.perf_counter()
    gated = pipeline.gate(vault, study)
    seconds = {"gate": time.perf_counter() - began}
    opened, gated = gated.opened, replace(gated, opened=None)
    if gated.SeriesInstanceUID is None:
        return InHand(task, study, model, gated, None, seconds)
    if opened is None:
        opened = open_of(vault, study, gated.SeriesInstanceUID, pipeline.name)
    # What doesn't open shall say so here, where it ends this study's attempt alone.
    with ExitStack() as held:
        held.enter_context(opened).open_packs()
        held.pop_all()
    return InHand(task, study, model, gated, opened, seconds)


def current(vault: Vault, tasks: Sequence[Task]) -> dict[str, Study]:
    """Return the studies, by task's id, whose content is still what the task is about."""
    there = {one.study.study_id: one.study for one in read_studies(vault, [one.study_id for one in tasks])}
    found = {one.task_id: there.get(one.study_id) for one in tasks}
    return {
        one.task_id: study
        for one in tasks
        if (study := found[one.task_id]) is not None and study.content == one.content
    }


def unit_of(hand: InHand, pipeline: Pipeline, seconds: float | None, *, carry: bool) -> Unit:
    """Return an attempt at a study: what its worker gets, with the packs that it may read."""
    if hand.opened is None:
        raise ValueError("nothing to analyse")
    model = hand.model
    order = Order(
        pipeline,
        hand.opened.source,
        About(hand.study, hand.gated, hand.seconds, _demonstration(model), model.name if model else ""),
        model.digest if model else "",
        model if carry else None,
        seconds,
    )
    return Unit(f"triage-{pipeline.name}", analyse, order, packs=hand.opened.source.packs)


def _demonstration(model: Loadable | None) -> bool:
    return model is not None and model.demonstration


def analysis_of(pipeline: Pipeline, hand: InHand, answer: Answer | None) -> Analysis:
    """Return what came of a study; without an answer it is not analysed."""
    finding, seconds = (answer.finding, answer.seconds) if answer else (None, {})
    times = {**hand.seconds, **seconds}
    digest, name = (hand.model.digest, hand.model.name) if hand.model else ("", "")
    return Analysis(hand.study, pipeline.name, pipeline.version, digest, hand.gated, finding, times, name)


def write(vault: Vault, hand: InHand, analysis: Analysis, answer: Answer | None) -> None:
    """Write one result into its study.

    Killed anywhere in it and done again, there is one result: it has the same UIDs.

    Raises
    ------
    VoxelVaultError
        As `write_results`.
    """
    made = answer.made if answer else None
    write_results(vault, hand.opened, analysis, demonstration=_demonstration(hand.model), made=made)


__all__ = ["InHand", "analysis_of", "current", "take_in_hand", "unit_of", "write"]
