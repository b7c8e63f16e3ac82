"""The queue of one pipeline: what is scheduled is taken in hand, done by a crew, and concluded.

One bad study never stops it: what a gate, a worker or a result raises ends that study's attempt alone.
What the vault itself raises when even that can't be entered ends the run; the next one takes over.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from functools import partial

from voxelvault import Vault
from voxelvault.crew import Crew, Done, Unit
from voxelvault.errors import QueryError, UsageError, VoxelVaultError
from voxelvault_triage.model import Analysis, Reason, Study, sentences
from voxelvault_triage.notice import notice
from voxelvault_triage.pipeline import Pipeline, ranks
from voxelvault_triage.results.writing import with_results, write_first
from voxelvault_triage.running.one import InHand, analysis_of, current, take_in_hand, unit_of, write
from voxelvault_triage.running.order import Answer, Loadable
from voxelvault_triage.running.queue_lock import queue_of
from voxelvault_triage.worklist import store
from voxelvault_triage.worklist.states import Priority
from voxelvault_triage.worklist.store import SUPERSEDED, Ended, Task

_NO_UID = "a study without a UID"
NAMELESS = Reason("no-study-uid", "It has no StudyInstanceUID, which every result has to name.")
LOST = Reason("worker-lost", "Each worker that tried it died, or took longer than it may.")
TOGETHER, LONGEST = 12, 3.0
"""Finished analyses that are entered together, and seconds that one waits for others.

A commit costs about as much for one study as for ten. Nobody is waited for where nothing is left to do."""
_NO_STOP: Callable[[], bool] = lambda: False  # noqa: E731


@dataclass(frozen=True, slots=True)
class Limits:
    """What one study may cost.

    Parameters
    ----------
    seconds : float or None
        Longest that a worker may take on one; None sets no limit.
    tries : int
        Attempts before it is given up and listed as not analysed.
    ahead : int
        Studies in hand beside those that workers are at: memory and log stay bounded by it.
    """

    seconds: float | None = 600.0
    tries: int = 2
    ahead: int = 6


_VERDICTS = {Priority.HIGH: "flagged", Priority.LOW: "not flagged"}


@dataclass(slots=True)
class Report:
    """What a run did: studies by priority, and those that were given up, by the reason's code.

    Where the pipeline ranks nothing, a priority stands for the verdict that it follows from.
    """

    ranked: dict[Priority, int] = field(default_factory=dict)
    given_up: dict[str, int] = field(default_factory=dict)
    ranks: bool = True

    @property
    def studies(self) -> int:
        """How many have a result."""
        return sum(self.ranked.values())

    @property
    def not_analysed(self) -> int:
        """How many of these have one that says why they are not analysed."""
        return self.ranked.get(Priority.MEDIUM, 0)

    def document(self) -> dict[str, object]:
        """Return it for programs."""
        ranked = {str(priority): count for priority, count in self.ranked.items()}
        counts = {"analysed": self.studies - self.not_analysed, "not_analysed": self.not_analysed}
        return {**counts, "priorities": ranked, "given_up": self.given_up}

    def __str__(self) -> str:
        told = [f"{self.studies - self.not_analysed} analysed, {self.not_analysed} not analysed"]
        words = {one: str(one) for one in Priority} if self.ranks else _VERDICTS
        told += [f"{count} {words[one]}" for one, count in sorted(self.ranked.items()) if one in words]
        told += [f"{count} given up ({code})" for code, count in sorted(self.given_up.items())]
        return "; ".join(told)


class Runner:
    """Works on what is scheduled for one pipeline, each study with the model that it was scheduled for.

    Parameters
    ----------
    vault : Vault
        Open for writing.
    pipeline : Pipeline
        Does the analysis.
    model : Loadable or None
        Of the pipeline.
    limits : Limits, optional
        What one study may cost.
    find : callable, optional
        Returns another model by its digest: others schedule too, and models are installed meanwhile.
    """

    def __init__(
        self,
        vault: Vault,
        pipeline: Pipeline,
        model: Loadable | None,
        limits: Limits | None = None,
        find: Callable[[str], Loadable] | None = None,
    ) -> None:
        self._vault, self._pipeline, self._model = vault, pipeline, model
        self._limits, self._find = limits or Limits(), find
        self.report = Report(ranks=self.ranks)
        self._started: deque[tuple[Task, Study | None]] = deque()
        self._again: deque[InHand] = deque()
        self._under_way: dict[int, InHand] = {}
        self._carriers = 0
        self._ended: list[tuple[InHand, Answer | None]] = []
        self._since = 0.0
        self._tell: Callable[[str], object] = lambda _text: None
        self._uids: dict[str, str] = {}

    @property
    def digest(self) -> str:
        """Of the model; empty where the pipeline has none."""
        return self._model.digest if self._model else ""

    @property
    def ranks(self) -> bool:
        """Whether its results give studies a place on the reading list."""
        return ranks(self._pipeline)

    @property
    def notice(self) -> str:
        """What is said of its results."""
        return notice(self._model is not None and self._model.demonstration)

    def lock(self) -> AbstractContextManager[None]:
        """Hold the pipeline's queue; `AtWorkElsewhere` where another process does."""
        return queue_of(self._vault, self._pipeline.name)

    def take_over(self) -> int:
        """Schedule again what a runner that is no more had in hand; only under the lock."""
        return store.take_over(self._vault, self._pipeline.name)

    def scheduled(self) -> bool:
        """Tell whether something is scheduled that nobody has in hand."""
        return bool(store.scheduled(self._vault, self._pipeline.name, 1))

    def work(
        self,
        crew: Crew,
        stop: Callable[[], bool] = _NO_STOP,
        tell: Callable[[str], object] = lambda _text: None,
    ) -> None:
        """Do what is scheduled until nothing is, or `stop` says so; that is asked about once a second.

        `tell` takes a line for each study: its Study Instance UID and how its analysis ended.

        Raises
        ------
        WorkerDied
            The crew is gone. What was under way is done again by the next call, with another crew.
        """
        self._tell = tell
        self._again += self._under_way.values()
        self._under_way.clear()
        self._carriers = crew.hands
        try:
            while not stop() and self._waiting(crew):
                for done in crew.run(self._makers(crew, stop), partial(self._tick, stop)):
                    hand = self._under_way.pop(done.number)
                    self._isolated(hand.task, partial(self._after, hand, done), hand)
                self._enter()
        finally:
            self._enter()

    def give_back(self) -> None:
        """Let go of what is in hand; the next runner takes it over."""
        for hand in (*self._again, *self._under_way.values()):
            hand.close()
        self._again.clear()
        self._under_way.clear()

    def _makers(self, crew: Crew, stop: Callable[[], bool]) -> Iterator[Callable[[], Unit]]:
        """Yield studies as there is room for them, those that are done again first."""
        number = 0
        while not stop() and self._waiting(crew):
            hand = self._again.popleft() if self._again else self._next()
            if hand is None:
                continue
            self._under_way[number] = hand
            number += 1
            yield partial(self._unit, hand)

    def _waiting(self, crew: Crew) -> bool:
        """Tell whether there is something to do; takes the most urgent of it in hand."""
        if not (self._again or self._started):
            ids = store.scheduled(self._vault, self._pipeline.name, crew.hands + self._limits.ahead)
            started = store.start(self._vault, ids) if ids else []
            there = current(self._vault, started) if started else {}
            self._started += [(task, there.get(task.task_id)) for task in started]
            self._uids |= {task_id: study.StudyInstanceUID or _NO_UID for task_id, study in there.items()}
        return bool(self._again or self._started)

    def _next(self) -> InHand | None:
        """Return the next study for a worker; None where it needs none."""
        task, study = self._started.popleft()
        found: list[InHand] = []
        self._isolated(task, lambda: self._before(task, study, found))
        return found[0] if found else None

    def _before(self, task: Task, study: Study | None, found: list[InHand]) -> None:
        if study is None:
            return self._give_up(task, SUPERSEDED)
        if not study.StudyInstanceUID:
            return self._give_up(task, NAMELESS, hopeless=True)
        hand = take_in_hand(self._vault, self._pipeline, self._model_of(task), task, study)
        if hand.opened is None:
            return self._conclude(hand, None)
        found.append(hand)

    def _model_of(self, task: Task) -> Loadable | None:
        """Return the model that a study was scheduled for; the last one stays at hand."""
        if task.model != self.digest and self._find is not None:
            self._model = self._find(task.model)
        if task.model != self.digest:
            raise UsageError("it was scheduled for a model that this pipeline hasn't got")
        return self._model

    def _unit(self, hand: InHand) -> Unit:
        carry = hand.model is not None and (hand.send_model or self._carriers > 0)
        self._carriers -= carry
        return unit_of(hand, self._pipeline, self._limits.seconds, carry=carry)

    def _after(self, hand: InHand, done: Done) -> None:
        if done.lost:
            return self._give_up(hand.task, LOST, hand)
        answer: Answer = done.result
        if answer.lacks_model:
            hand.send_model = True
            self._again.append(hand)
        elif answer.failure:
            self._give_up(hand.task, _failed(answer.failure), hand)
        else:
            self._conclude(hand, answer)

    def _conclude(self, hand: InHand, answer: Answer | None) -> None:
        if hand.opened is not None and answer is not None:
            hand.opened.count(answer.frames, answer.nbytes)
        self._ended.append((hand, answer))
        self._since = self._since or time.monotonic()

    def _tick(self, stop: Callable[[], bool]) -> bool:
        """Enter in the list what has waited for others; asked about once a second."""
        if self._ended and (len(self._ended) >= TOGETHER or time.monotonic() - self._since > LONGEST):
            self._enter()
        return stop()

    def _enter(self) -> None:
        """Write results and enter them in the list, several in one commit."""
        waiting, self._ended, self._since = self._ended, [], 0.0
        if not waiting:
            return
        there = current(self._vault, [hand.task for hand, _ in waiting])
        first = self._written_together([one for one in waiting if one[0].task.task_id in there])
        ended: list[Ended] = []
        for hand, answer in waiting:
            if hand.task.task_id not in there:
                self._isolated(hand.task, partial(self._give_up, hand.task, SUPERSEDED, hand), hand)
                continue
            analysis = analysis_of(self._pipeline, hand, answer)
            alone = partial(self._written, hand, analysis, answer, ended)
            if hand.study.study_id in first:
                self._note(hand, analysis, ended)
            else:
                self._isolated(hand.task, alone, hand)
        ranked = store.complete(self._vault, ended) if ended else {}
        for priority in ranked.values():
            self.report.ranked[priority] = self.report.ranked.get(priority, 0) + 1
        for one in ended:
            listed = one.task.task_id in ranked
            self._say(one.task, one.analysis.verdict if listed else "gone", one.analysis.gated.reasons)
        if gone := len(ended) - len(ranked):
            self.report.given_up["gone"] = self.report.given_up.get("gone", 0) + gone

    def _written_together(self, waiting: Sequence[tuple[InHand, Answer | None]]) -> set[str]:
        """Write first results of studies in one commit; return the studies, none where one is refused."""
        made = {hand.study.study_id: answer.made for hand, answer in waiting if answer and answer.made}
        before = with_results(self._vault, list(made)) if len(made) > 1 else set(made)
        fresh = {study_id: one for study_id, one in made.items() if study_id not in before}
        try:
            if fresh:
                write_first(self._vault, fresh, self._pipeline.name)
        except VoxelVaultError:
            # Whose fault it was shows when each is written by itself.
            return set()
        return set(fresh)

    def _written(self, hand: InHand, analysis: Analysis, answer: Answer | None, ended: list[Ended]) -> None:
        write(self._vault, hand, analysis, answer)
        self._note(hand, analysis, ended)

    def _note(self, hand: InHand, analysis: Analysis, ended: list[Ended]) -> None:
        ended.append(Ended(hand.task, analysis, hand.series_id))
        hand.close()

    def _give_up(
        self, task: Task, why: Reason, hand: InHand | None = None, *, hopeless: bool = False
    ) -> None:
        if hand is not None:
            hand.close()
        again = not hopeless and why is not SUPERSEDED and task.attempt < self._limits.tries
        if store.give_up(self._vault, task, why, again=again) is None:
            self.report.given_up[why.code] = self.report.given_up.get(why.code, 0) + 1
            self._say(task, "given up", (why,))
        else:
            self._uids.pop(task.task_id, None)

    def _say(self, task: Task, how: str, reasons: Sequence[Reason]) -> None:
        uid = self._uids.pop(task.task_id, "a study that changed or went meanwhile")
        self._tell(": ".join(filter(None, [uid, how, sentences(reasons)])))

    def _isolated(self, task: Task, step: Callable[[], None], hand: InHand | None = None) -> None:
        """Do a step for one study; what it raises ends that study's attempt."""
        try:
            step()
        except VoxelVaultError as error:
            # A wrong call is as wrong a second time; what derives from it may be of the moment.
            hopeless = type(error) in (UsageError, QueryError)
            why = _failed(f"{type(error).__name__}: {error}")
            self._give_up_if_there(task, why, hand, hopeless=hopeless)
        except Exception as error:
            self._give_up_if_there(task, _failed(type(error).__name__), hand)

    def _give_up_if_there(
        self, task: Task, why: Reason, hand: InHand | None, *, hopeless: bool = False
    ) -> None:
        try:
            self._give_up(task, why, hand, hopeless=hopeless)
        except UsageError:
            # Removed with its study, or ended by somebody: nothing is left to be said of it.
            self.report.given_up["gone"] = self.report.given_up.get("gone", 0) + 1
            self._say(task, "gone", ())


def _failed(what: str) -> Reason:
    return Reason("failed", f"The analysis failed ({what}).")


__all__ = ["LOST", "NAMELESS", "Limits", "Report", "Runner"]
