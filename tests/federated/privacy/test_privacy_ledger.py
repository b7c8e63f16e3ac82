"""A budget that lasts over jobs, processes and crashes."""

from __future__ import annotations

import threading
from datetime import UTC, datetime
from pathlib import Path

import pytest

from voxelvault.errors import IntegrityError, NewerFormat, StorageError, UsageError
from voxelvault.storage.objects import LocalObjects, MemoryObjects
from voxelvault_fl.errors import JobRefused
from voxelvault_fl.privacy.accounting import Noise, Terms, account
from voxelvault_fl.privacy.ledger import Book, Ledger

NOW = datetime(2026, 1, 2, tzinfo=UTC)


def terms(noise: Noise, epsilon: float = 100.0) -> Terms:
    return Terms(epsilon, 1e-5, 1.0, noise, 1.0, 10.0)


ROUND = terms(Noise(1.5, 0.1, 20))
A, B = "a" * 64, "b" * 64


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    made = Ledger(LocalObjects(tmp_path))
    made.create(4.0, 1e-5)
    return made


def test_jobs_compose_and_the_budget_ends(ledger: Ledger, tmp_path: Path) -> None:
    def pay(paid: int) -> None:
        ledger.charge((A, B)[paid % 2], paid // 2 + 1, ROUND, NOW)

    paid = 0
    while account([Noise(1.5, 0.1, 20 * (paid + 1))], 1e-5).epsilon <= 4.0:
        pay(paid)
        paid += 1
    with pytest.raises(JobRefused, match=r"\[budget\]"):
        pay(paid)
    book = Ledger(LocalObjects(tmp_path)).read()
    assert len(book.charges) == paid > 1
    assert book.spent.epsilon <= 4.0 < account([Noise(1.5, 0.1, 20 * (paid + 1))], 1e-5).epsilon
    assert book.spent.epsilon == pytest.approx(account([Noise(1.5, 0.1, 20 * paid)], 1e-5).epsilon)
    assert len(book.of(A)) + len(book.of(B)) == paid


def test_a_job_that_could_not_end_is_seen_before_it_begins(ledger: Ledger) -> None:
    assert ledger.affords(A, ROUND, 4)
    ledger.charge(A, 1, ROUND, NOW)
    assert ledger.affords(A, ROUND, 4)
    ledger.charge(B, 1, terms(Noise(1.5, 0.1, 40)), NOW)
    assert not ledger.affords(A, ROUND, 4)


def test_rounds_trained_again_end_with_the_jobs_own_epsilon(ledger: Ledger) -> None:
    two = account([ROUND.noise] * 2, 1e-5).epsilon
    asked = terms(ROUND.noise, epsilon=two)
    assert ledger.charge(A, 1, asked, NOW).epsilon < two
    assert ledger.charge(A, 1, asked, NOW).epsilon == pytest.approx(two)
    with pytest.raises(JobRefused, match="trained again"):
        ledger.charge(A, 2, asked, NOW)
    assert len(ledger.read().charges) == 2


def test_a_ledger_that_is_gone_is_not_empty(tmp_path: Path) -> None:
    with pytest.raises(IntegrityError, match="missing"):
        Ledger(LocalObjects(tmp_path)).charge(A, 1, ROUND, NOW)


def test_a_budget_stays_once_it_was_charged(ledger: Ledger) -> None:
    ledger.create(5.0, 1e-5)
    assert ledger.read().epsilon == 5.0
    ledger.charge(A, 1, ROUND, NOW)
    with pytest.raises(UsageError, match="already"):
        ledger.create(100.0, 1e-5)


@pytest.mark.parametrize(("epsilon", "delta"), [(0, 1e-5), (1, 0), (1, 0.002), (float("nan"), 1e-5)])
def test_a_budget_that_is_none(tmp_path: Path, epsilon: float, delta: float) -> None:
    with pytest.raises(UsageError):
        Ledger(LocalObjects(tmp_path)).create(epsilon, delta)


@pytest.mark.parametrize("data", [b"", b"[]", b"{}", b'{"format":1,"epsilon":1,"delta":1e-5,"charges":[{}]}'])
def test_a_damaged_ledger_charges_nothing(tmp_path: Path, data: bytes) -> None:
    objects = LocalObjects(tmp_path)
    objects.swap("privacy-ledger.json", data, None)
    with pytest.raises(IntegrityError):
        Ledger(objects).charge(A, 1, ROUND, NOW)


def test_a_newer_ledger_is_left_alone() -> None:
    with pytest.raises(NewerFormat):
        Book.loads(b'{"format":2}')


def test_two_jobs_at_once_lose_no_charge(ledger: Ledger) -> None:
    cheap = terms(Noise(50.0, 0.01, 1))
    threads = [
        threading.Thread(target=lambda job=job: [ledger.charge(job, n, cheap, NOW) for n in range(1, 6)])
        for job in (A, B)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(ledger.read().charges) == 10


class Full(MemoryObjects):
    full = False

    def swap(self, name: str, data: object, expected: str | None) -> str:
        if self.full:
            raise StorageError("the disk is full")
        return super().swap(name, data, expected)  # type: ignore[arg-type]


def test_what_can_not_be_charged_is_not_done() -> None:
    objects = Full()
    ledger = Ledger(objects)
    ledger.create(4.0, 1e-5)
    objects.full = True
    with pytest.raises(StorageError):
        ledger.charge(A, 1, ROUND, NOW)
    assert ledger.read().charges == ()
