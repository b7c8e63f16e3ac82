"""A site's ledger: what all jobs together may learn of one subject. Charged before anything leaves.

Every job counts as if it had read every subject, so that a subject of one job only is charged too much, never
too little.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from typing import Any

from voxelvault.errors import IntegrityError, NewerFormat, ObjectChanged, ObjectMissing, UsageError
from voxelvault.model import ObjectStore
from voxelvault_fl.errors import JobRefused
from voxelvault_fl.privacy.accounting import MOST_DELTA, Noise, Spent, Terms, account

_NAME, _FORMAT, _TRIES = "privacy-ledger.json", 1, 50


@dataclass(frozen=True, slots=True)
class Charge:
    """One round of one job.

    Parameters
    ----------
    job : str
        Its digest.
    round : int
        From 1; a round whose training broke off, and is trained again, is charged again.
    noise : Noise
        Its steps.
    when : str
        ISO 8601, UTC.
    """

    job: str
    round: int
    noise: Noise
    when: str


@dataclass(frozen=True, slots=True)
class Book:
    """What the ledger holds.

    Parameters
    ----------
    epsilon, delta : float
        The budget of each subject, for all jobs.
    charges : tuple of Charge
        In order.
    """

    epsilon: float
    delta: float
    charges: tuple[Charge, ...] = ()

    @property
    def spent(self) -> Spent:
        """What all charges cost together."""
        return account([one.noise for one in self.charges], self.delta)

    def of(self, job: str) -> Sequence[Charge]:
        """Return the charges of one job."""
        return [one for one in self.charges if one.job == job]

    def charged(self, charge: Charge) -> Book:
        """Return the book with one charge more.

        Raises
        ------
        JobRefused
            The rule is ``budget``: it would cost more than the budget.
        """
        found = replace(self, charges=(*self.charges, charge))
        if not found.spent.epsilon <= self.epsilon:
            raise JobRefused("budget", "the site's privacy budget doesn't allow another round of this job")
        return found

    def dumps(self) -> bytes:
        """Return it as JSON."""
        charges = [asdict(one) for one in self.charges]
        said = {"format": _FORMAT, "epsilon": self.epsilon, "delta": self.delta, "charges": charges}
        return json.dumps(said, sort_keys=True, separators=(",", ":")).encode()

    @classmethod
    def loads(cls, data: bytes) -> Book:
        """Read what `dumps` wrote.

        Raises
        ------
        IntegrityError, NewerFormat
            It is damaged, or of a newer version.
        """
        try:
            said: dict[str, Any] = json.loads(data)
            if said["format"] > _FORMAT:
                raise NewerFormat("the privacy ledger was written by a newer version; update voxelvault")
            charges = tuple(Charge(**{**one, "noise": Noise(**one["noise"])}) for one in said["charges"])
            return cls(float(said["epsilon"]), float(said["delta"]), charges)
        except (ValueError, KeyError, TypeError, JobRefused):
            raise IntegrityError("the privacy ledger is damaged; restore it from a copy") from None


class Ledger:
    """The ledger on disk; several processes may charge it.

    Parameters
    ----------
    objects : ObjectStore
        Where it lies: replaced as a whole, by compare-and-set, durable when a call returns.

    Notes
    -----
    A ledger that is gone is no empty one: nothing can be charged until it is restored. Whoever puts an older
    copy back forgets what was spent; the charges are in the audit log, too.
    """

    def __init__(self, objects: ObjectStore) -> None:
        self._objects = objects

    def create(self, epsilon: float, delta: float) -> None:
        """Begin with a budget, or with another one while nothing was charged.

        Raises
        ------
        UsageError
            There is a ledger already that was charged, or the budget is none.
        IntegrityError
            There is one, and it is damaged.
        """
        if not (epsilon > 0 and 0 < delta <= MOST_DELTA):
            raise UsageError(
                f"a budget is an epsilon above 0 and a delta above 0, at most {MOST_DELTA:g}: "
                "well below one over the number of subjects"
            )
        try:
            self._objects.swap(_NAME, Book(epsilon, delta).dumps(), self._unused())
        except ObjectChanged:
            raise UsageError("the privacy ledger was changed meanwhile; look at it again") from None

    def _unused(self) -> str | None:
        """Return the version of a ledger without charges; None where there is no ledger."""
        try:
            data, version = self._objects.versioned(_NAME)
        except ObjectMissing:
            return None
        if Book.loads(data).charges:
            raise UsageError("there is a privacy ledger already, and it was charged; its budget stays")
        return version

    def read(self) -> Book:
        """Return what it holds.

        Raises
        ------
        IntegrityError
            There is none, or it is damaged.
        """
        return self._read()[0]

    def charge(self, job: str, round: int, terms: Terms, now: datetime) -> Spent:
        """Charge a round before it is trained; the charge is on the disk when this returns.

        Parameters
        ----------
        job : str
            Its digest.
        round : int
            From 1.
        terms : Terms
            Of the job.
        now : datetime
            UTC.

        Returns
        -------
        Spent
            What the job has cost at this site, this round included.

        Raises
        ------
        JobRefused
            The rule is ``budget``: the site's budget doesn't allow it, or the job's own epsilon doesn't, as
            after rounds that had to be trained again. Nothing was charged.
        IntegrityError
            There is no ledger, or it is damaged.
        StorageError
            The disk refused; nothing was charged.
        """
        for _ in range(_TRIES):
            book, version = self._read()
            found = book.charged(Charge(job, round, terms.noise, now.isoformat(timespec="seconds")))
            spent = account([one.noise for one in found.of(job)], terms.delta)
            if not spent.epsilon <= terms.epsilon:
                raise JobRefused("budget", "the job has cost its epsilon already; rounds were trained again")
            try:
                self._objects.swap(_NAME, found.dumps(), version)
            except ObjectChanged:
                continue
            return spent
        raise JobRefused("busy", "other jobs charge the privacy ledger all the time; ask again later")

    def affords(self, job: str, terms: Terms, rounds: int) -> bool:
        """Say whether the budget has room for all rounds of a job, those that were charged among them."""
        return self.after(job, terms, rounds).epsilon <= self.read().epsilon

    def after(self, job: str, terms: Terms, rounds: int) -> Spent:
        """Return what all jobs will have cost once all rounds of one are charged, at the budget's delta."""
        book = self.read()
        others = [one.noise for one in book.charges if one.job != job]
        return account([*others, *[terms.noise] * rounds], book.delta)

    def _read(self) -> tuple[Book, str]:
        try:
            data, version = self._objects.versioned(_NAME)
        except ObjectMissing:
            raise IntegrityError("the site's privacy ledger is missing; restore it, or make one") from None
        return Book.loads(data), version


__all__ = ["Book", "Charge", "Ledger"]
