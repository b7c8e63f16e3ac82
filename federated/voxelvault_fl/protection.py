"""What a hospital's process adds to rounds: its privacy ledger, and the log that all charges stand in."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from voxelvault.storage.objects import LocalObjects
from voxelvault_fl.errors import JobRefused
from voxelvault_fl.jobs.job import Job
from voxelvault_fl.jobs.task import Task
from voxelvault_fl.privacy.accounting import Spent, Terms, account, terms_of
from voxelvault_fl.privacy.ledger import Ledger
from voxelvault_fl.privacy.private import Gradual, PrivateTask
from voxelvault_fl.record.logbook import Logbook
from voxelvault_fl.training.examples import SiteData
from voxelvault_fl.training.tasks import task_for


def ledger_at(state: Path) -> Ledger:
    """Return the ledger of a site's state folder, which may have to be made."""
    return Ledger(LocalObjects(state / "ledger"))


def ledger_in(state: Path) -> Ledger | None:
    """Return the ledger of a site's state folder; None where none was ever made there."""
    return ledger_at(state) if (state / "ledger").exists() else None


@dataclass(frozen=True, slots=True)
class Protection:
    """A site's privacy.

    Parameters
    ----------
    find : callable
        Returns the site's ledger; None where there is none, and no job under differential privacy is let in.
        Asked each time: one that is made meanwhile counts.
    book : Logbook or None
        Where charges are entered; None in a simulation.
    now : callable
        The time, UTC.
    """

    find: Callable[[], Ledger | None]
    book: Logbook | None
    now: Callable[[], datetime]

    def rule(self, job: Job) -> str:
        """Return the rule that a job breaks by what it would spend; empty where it may be spent."""
        if job.privacy.mode != "dp-sgd":
            return ""
        ledger = self.find()
        if ledger is None:
            return "no-ledger"
        try:
            terms = terms_of(job.privacy.numbers, job.rounds)
        except JobRefused as refused:
            return refused.rule
        return "" if ledger.affords(job.digest, terms, job.rounds) else "budget"

    def costs(self, job: Job) -> dict[str, str]:
        """Return what a job under differential privacy would cost here, as text; nothing where it can't be.

        `cost` is that of all its rounds, `noise` how it is made, `ledger` what is spent and would be.
        """
        if job.privacy.mode != "dp-sgd":
            return {}
        try:
            terms = terms_of(job.privacy.numbers, job.rounds)
        except JobRefused as refused:
            return {"cost": str(refused)}
        step = terms.noise
        said = {
            "cost": f"{account([step] * job.rounds, terms.delta)}; the job allows epsilon {terms.epsilon:g}",
            "noise": f"{step.multiplier:g} times the largest norm, {terms.clip:g}, of what a subject adds; "
            f"{step.steps} steps a round, a subject in each with probability {step.rate:g}",
        }
        ledger = self.find()
        if ledger is None:
            return {**said, "ledger": "none; `federated ledger` makes one"}
        book, after = ledger.read(), ledger.after(job.digest, terms, job.rounds)
        fits = "" if after.epsilon <= book.epsilon else ": more than there is"
        return {
            **said,
            "ledger": f"of epsilon {book.epsilon:g} at delta {book.delta:g}, {book.spent.epsilon:.4g} spent; "
            f"{after.epsilon:.4g} with all rounds of this job{fits}",
        }

    def task(self, job: Job, data: SiteData) -> Task:
        """Return the task of a job, under differential privacy where the job asks for it.

        Raises
        ------
        JobRefused
            The task can't say what single subjects add.
        """
        task = task_for(job, data)
        if job.privacy.mode != "dp-sgd":
            return task
        if not isinstance(task, Gradual):
            raise JobRefused("privacy", "this task can't train under dp-sgd yet")
        terms = terms_of(job.privacy.numbers, job.rounds)
        return PrivateTask(task, terms, lambda round: self._charged(job, round, terms))

    def _charged(self, job: Job, round: int, terms: Terms) -> Spent:
        ledger = self.find()
        if ledger is None:
            raise JobRefused("no-ledger", "the site has no privacy ledger; make one to train under dp-sgd")
        spent = ledger.charge(job.digest, round, terms, self.now())
        if self.book is not None:
            whole = ledger.read().spent
            self.book.charged(job.digest, round, terms.noise.steps, whole.epsilon)
        return spent


__all__ = ["Protection", "ledger_at", "ledger_in"]
