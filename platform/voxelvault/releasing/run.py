"""A release made: patient by patient, study by study, each whole or not at all, and every one told.

The order of a study's steps: rewritten and searched; its pairs into the ledger; its files into their
place, read again and compared; its receipts kept. Killed anywhere, the next run goes on.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from voxelvault.deid.card import counted
from voxelvault.deid.model import REASONS
from voxelvault.deid.receipt import Receipt, Refusal
from voxelvault.errors import IntegrityError, UsageError
from voxelvault.releasing.hands import Hands, Task
from voxelvault.releasing.originals import LINK_OUTSIDE, Original, Originals
from voxelvault.releasing.progress import Progress
from voxelvault.releasing.spool import Entry
from voxelvault.releasing.study import Outcome, Settings, Whose, quiet, whose
from voxelvault.releasing.targets import Released, Target

Maps = Mapping[str, Mapping[str, str | None]]
LEAK = "leak_found"


@dataclass(slots=True)
class Report:
    """What became of every file.

    Attributes
    ----------
    found, released, blanked : int
        Files to do; released, in this run and before; of those, with something blanked.
    studies : int
        That were done in this run.
    patients : int or None
        Of whom files are in the release, as its card counts them; None until it is whole.
    refused : Counter
        Files by the code of the reason (`voxelvault.deid.model.REASONS`).
    places : list of (str, str)
        Where each refused file lies, and why: may name a patient, shown to the caller, never logged.
    """

    found: int = 0
    released: int = 0
    blanked: int = 0
    studies: int = 0
    patients: int | None = None
    refused: Counter[str] = field(default_factory=Counter)
    places: list[tuple[str, str]] = field(default_factory=list, repr=False)

    @property
    def complete(self) -> bool:
        """True when nothing that is, or may lead to, a patient's object was refused."""
        return not any(reason in REASONS or reason == LINK_OUTSIDE for reason in self.refused)

    def refuse(self, place: str, reason: str) -> None:
        """Count a file that is not released."""
        self.refused[reason] += 1
        self.places.append((place, reason))

    def leave_out(self, files: Collection[tuple[str, str]]) -> None:
        """Count files, by where the originals lie, that could not stay in the release."""
        self.released -= len(files)
        self.refused.update(reason for _, reason in files)
        self.places += files

    def __str__(self) -> str:
        parts = [f"{self.released} of {counted(self.found, 'file')} released"]
        parts += [] if self.patients is None else [counted(self.patients, "patient")]
        parts += [f"blanked areas in {counted(self.blanked, 'file')}"] if self.blanked else []
        parts += [f"{count} {reason}" for reason, count in sorted(self.refused.items())]
        return ", ".join(parts)


@dataclass(frozen=True, slots=True)
class Steps:
    """What a run hands on beside the files.

    Parameters
    ----------
    record : callable
        Takes the pairs of a study, before its files are in place.
    picture : callable
        Takes each outcome that is released, with its path in the release, for a report.
    advance : callable
        Called with the number of files done.
    stop : callable
        Says whether to end after the study at hand.
    """

    record: Callable[[Maps], object] = lambda maps: None
    picture: Callable[[Outcome, str], object] = lambda outcome, path: None
    advance: Callable[[int], object] = lambda files: None
    stop: Callable[[], bool] = lambda: False


def run(
    originals: Originals,
    target: Target,
    settings: Settings,
    hands: Hands,
    progress: Progress,
    steps: Steps | None = None,
) -> Report:
    """Release everything there is.

    Parameters
    ----------
    originals : Originals
        What to release.
    target : Target
        Where it goes.
    settings : Settings
        By which rules.
    hands : Hands
        Who does it.
    progress : Progress
        What was done before, and what is done now.
    steps : Steps, optional
        What else happens.

    Raises
    ------
    UsageError
        A face can be made out, and nobody said what to do about faces; or the source is no longer what
        an earlier run found. What was released stays.
    IntegrityError
        A file is not what was written; its study is not in the receipts.
    """
    one = _Run(target, settings, progress, steps or Steps())
    report = one.report
    report.found = len(originals) + len(originals.refused)
    for place, reason in originals.refused:
        report.refuse(place, reason)
    for task, outcomes in hands.studies(one.tasks(originals)):
        one.study(task, outcomes)
    if not one.steps.stop():
        progress.require_met()
    report.released, report.blanked = progress.files, progress.blanked
    return report


@dataclass(frozen=True, slots=True)
class _Run:
    """What a run works with."""

    target: Target
    settings: Settings
    progress: Progress
    steps: Steps
    report: Report = field(default_factory=Report)

    def tasks(self, originals: Originals) -> Iterator[Task]:
        """Yield the studies that aren't done, until it is time to stop."""
        for subject in originals.subjects():
            known: Whose | None = None
            for number, study in enumerate(subject.studies):
                if self.steps.stop():
                    return
                if self._is_done(study):
                    self.steps.advance(len(study))
                    continue
                known = known or whose(subject, self.settings)
                faces = self.settings.faces != "keep"
                yield Task(subject, study, known, known.beside(subject, number) if faces else ())

    def _is_done(self, study: Sequence[Original]) -> bool:
        if not self.progress.goes_on:
            return False
        sources = [self.settings.pseudonyms.digest(original.read()) for original in study]
        done = [self.progress.meet(source) for source in sources]
        if any(done) and not all(done):
            raise UsageError(
                "a study has more files than when this release was begun: take them away to go on, or delete"
                " the release and begin anew"
            )
        if all(done):
            self._tell_refused(study, sources)
        return all(done)

    def _tell_refused(self, study: Sequence[Original], sources: Sequence[str]) -> None:
        """Report what an earlier run refused of a study that is done."""
        alike: dict[str, list[Original]] = {}
        for original, source in zip(study, sources, strict=True):
            alike.setdefault(source, []).append(original)
        for source, same in alike.items():
            # Of files that are alike the first was taken.
            for original, reason in zip(reversed(same), self.progress.reasons(source), strict=False):
                self.report.refuse(original.place, reason)

    def study(self, task: Task, outcomes: Iterable[Outcome]) -> None:
        """Put one study in its place, whole."""
        study = _Study(self.target, self.progress.holds)
        try:
            with quiet():
                for outcome in outcomes:
                    entry = study.take(outcome)
                    if isinstance(entry, Receipt):
                        self.steps.picture(outcome, entry.path)
            study.stop_at_leaks()
            self.steps.record(study.pairs)
            study.settle()
        except BaseException:
            self.target.drop()
            raise
        self.progress.add([entry for _, entry in study.done])
        self.steps.advance(len(study.done))
        self.report.studies += 1
        for original, entry in study.done:
            if isinstance(entry, Refusal):
                self.report.refuse(original.place, entry.reason)


class _Study:
    """One study on its way: what was done to each file, and what became of which value."""

    def __init__(self, target: Target, is_taken: Callable[[str], bool]) -> None:
        self._target, self._is_taken = target, is_taken
        self._paths: set[str] = set()
        self.done: list[tuple[Original, Entry]] = []
        self.pairs: dict[str, dict[str, str | None]] = {"patients": {}, "uids": {}, "paths": {}}

    def take(self, outcome: Outcome) -> Entry:
        """Take one file, or the reason why there is none; return what the receipts will say of it."""
        entry = self._entry(outcome)
        self.done.append((outcome.original, entry))
        return entry

    def _entry(self, outcome: Outcome) -> Entry:
        result, place = outcome.result, outcome.original.place
        self.pairs["paths"][place] = None
        if result is None:
            return Refusal(outcome.source, outcome.reason)
        file = Released(result.study_uid, result.series_uid, result.sop_uid, result.data)
        path = self._target.place(file)
        if path in self._paths or self._is_taken(path):
            return Refusal(outcome.source, "uid_twice")
        self._paths.add(path)
        self._target.add(file)
        self.pairs["paths"][place] = path
        self.pairs["uids"].update(outcome.uids)
        self.pairs["patients"][outcome.patient_id] = result.new_patient_id
        boxes = result.pixels.boxes if result.pixels else ()
        digest = hashlib.sha256(result.data).hexdigest()
        return Receipt(path, digest, outcome.source, result.actions, result.verdicts, boxes)

    def stop_at_leaks(self) -> None:
        """Give the whole study up where a value slipped through one file: that casts doubt on all."""
        if any(isinstance(entry, Refusal) and entry.reason == LEAK for _, entry in self.done):
            self._target.drop()
            self.done = [(original, Refusal(entry.source, LEAK)) for original, entry in self.done]
            self.pairs = {"paths": {original.place: None for original, _ in self.done}}

    def settle(self) -> None:
        """Put the study in its place, read it again, and hold it against what was searched."""
        wanted = {entry.path: entry.sha256 for _, entry in self.done if isinstance(entry, Receipt)}
        found = {path: hashlib.sha256(data).hexdigest() for path, data in self._target.keep()}
        if found != wanted:
            raise IntegrityError("a released file is not what was written: check the disk, and run it again")


__all__ = ["Maps", "Report", "Steps", "run"]
