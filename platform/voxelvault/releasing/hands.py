"""Who de-identifies: this process, or the workers of a cluster, a study at a time.

A worker gets the packs of one study on loan, the rules, the project's pseudonyms and what is known of
the patient, sealed to itself; what it made comes back sealed. Only this process puts files in their
place, writes to the ledger and signs.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, Protocol

from voxelvault.crew import Bench, Crew, Unit
from voxelvault.deid.leak_check import Searcher
from voxelvault.deid.model import Person
from voxelvault.deid.needles import Needles
from voxelvault.deid.pixels import PixelCleaner
from voxelvault.errors import WorkerDied
from voxelvault.export import checked
from voxelvault.releasing.originals import Original, Subject
from voxelvault.releasing.study import Outcome, Settings, Whose, context_of, release
from voxelvault.resources import Resources


@dataclass(frozen=True, slots=True)
class Task:
    """One study of one patient, and the files of others that may show the same face."""

    subject: Subject
    study: Sequence[Original]
    known: Whose
    beside: Sequence[Original] = ()


class Hands(Protocol):
    """Does studies."""

    def studies(self, tasks: Iterator[Task]) -> Iterator[tuple[Task, Iterable[Outcome]]]:
        """Yield what became of the files of each, in any order."""


@dataclass(frozen=True, slots=True)
class Here:
    """Studies done in the calling process, one after the other."""

    settings: Settings
    pixels: PixelCleaner

    def studies(self, tasks: Iterator[Task]) -> Iterator[tuple[Task, Iterable[Outcome]]]:
        """Yield each study with its outcomes, made as they are taken."""
        for task in tasks:
            yield task, release(task.study, task.known, self.settings, self.pixels, task.beside)


@dataclass(frozen=True, slots=True)
class StudyJob:
    """What a worker needs for one study; never shown by `repr`."""

    files: tuple[tuple[str, str], ...] = field(repr=False)
    """Pack and instance id of each."""
    beside: tuple[tuple[str, str], ...] = field(repr=False)
    """The same of `Task.beside`."""
    settings: Settings = field(repr=False)
    person: Person = field(repr=False)
    needles: Needles = field(repr=False)


def do_study(bench: Bench, job: StudyJob) -> list[Outcome]:
    """De-identify one study in a worker; originals come back without the way to read them."""
    known = Whose(context_of(job.person, job.settings), Searcher(job.needles))
    study, beside = ([_lent(bench, *one) for one in files] for files in (job.files, job.beside))
    outcomes = release(study, known, job.settings, PixelCleaner(bench.pool), beside)
    return [replace(outcome, original=Original(outcome.original.place)) for outcome in outcomes]


def _lent(bench: Bench, pack_id: str, instance_id: str) -> Original:
    def read() -> bytes:
        reader = bench.reader(pack_id)
        record = reader.manifest.instance(instance_id)
        return b"".join(bytes(part) for part in checked(reader.instance_bytes(record), record.sha256))

    return Original(instance_id, read=read)


class There:
    """The workers of a crew do them.

    Parameters
    ----------
    resources : Resources
        The source vault, open.
    settings : Settings
        How the release is made.
    crew : Crew
        Who does it.
    """

    def __init__(self, resources: Resources, settings: Settings, crew: Crew) -> None:
        self._resources, self._settings, self._crew = resources, settings, crew

    def studies(self, tasks: Iterator[Task]) -> Iterator[tuple[Task, Iterable[Outcome]]]:
        """Yield each study with its outcomes, as they come back."""
        handed: dict[int, Task] = {}

        def makers() -> Iterator[Any]:
            for number, task in enumerate(tasks):
                task.known.opened.clear()  # workers read for themselves
                handed[number] = task
                yield partial(self._unit, task)

        for done in self._crew.run(makers()):
            if done.lost:
                raise WorkerDied(
                    "each worker that de-identified a study was killed: give the workers more memory, or"
                    " release without a cluster; what was released stays"
                )
            task = handed.pop(done.number)
            by_place = {original.place: original for original in task.study}
            yield task, [replace(one, original=by_place[one.original.place]) for one in done.result]

    def _unit(self, task: Task) -> Unit:
        packs = sorted({original.pack for original in (*task.study, *task.beside)})
        rows = self._resources.catalog.query(
            "select * from packs where pack_id in (select unnest($ids))", {"ids": packs}
        ).to_pylist()
        files, beside = (
            tuple((original.pack, original.place) for original in originals)
            for originals in (task.study, task.beside)
        )
        known = task.known
        job = StudyJob(files, beside, self._settings, known.context.person, known.searcher.needles)
        return Unit("release-study", do_study, job, packs=rows)


__all__ = ["Hands", "Here", "Task", "There"]
