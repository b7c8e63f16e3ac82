"""Killed between any two writes, and many threads at once: nothing acknowledged is lost, all stays whole."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor

import pytest
from few_keys import FewKeys

from sleepy_objects import Sleepy
from voxelvault.audit.events import Event, Kind
from voxelvault.audit.log import AuditLog
from voxelvault.audit.shelf import CHECKPOINT
from voxelvault.errors import AuditError
from voxelvault.model import Buffer
from voxelvault.storage.objects import MemoryObjects


class Killed(BaseException):
    """The process is gone."""


class Mortal(MemoryObjects):
    """Dies at the n-th write, before it or after it; counts checkpoints."""

    def __init__(self) -> None:
        super().__init__()
        self.left = -1
        self.after = False
        self.checkpoints = 0
        self.slow = 0.0

    def replace(self, name: str, data: Buffer) -> None:
        self._step(lambda: super(Mortal, self).replace(name, data))
        if name == CHECKPOINT:
            self.checkpoints += 1
            time.sleep(self.slow)

    def put(self, name: str, parts: Iterable[Buffer]) -> None:
        self._step(lambda: super(Mortal, self).put(name, parts))

    def delete(self, name: str) -> None:
        self._step(lambda: super(Mortal, self).delete(name))

    def _step(self, write: object) -> None:
        self.left -= 1
        if self.left == 0 and not self.after:
            raise Killed
        write()  # type: ignore[operator]
        if self.left == 0:
            raise Killed


def events(count: int) -> list[Event]:
    return [Event(kind=Kind.QUERY, who="a", counts={"rows": i}) for i in range(count)]


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("size", [1, 200, 600])
def test_a_writer_killed_anywhere_leaves_a_whole_log(keys: FewKeys, size: int, after: bool) -> None:
    steps = 0
    while True:
        steps += 1
        objects = Mortal()
        AuditLog.create(objects, keys).append(events(100))
        objects.left, objects.after = steps, after
        try:
            AuditLog.open(objects, keys).append(events(size))
        except Killed:
            pass
        else:
            break
        objects.left = -1
        log = AuditLog.open(objects, keys)
        assert log.verify().size in (100, 100 + size)  # all of an append or nothing of it
        before = log.size
        assert log.append(events(size)) == range(before, before + size)
        assert log.verify().size == before + size
        assert [entry.counts["rows"] for entry in log.entries(before)] == list(range(size))
    assert steps > 3


def test_a_name_that_a_killed_writer_left_empty_gets_its_content(keys: FewKeys) -> None:
    """As on file systems without hard links, where a name is taken before its file is there."""

    class Hollow(MemoryObjects):
        def put(self, name: str, parts: Iterable[Buffer]) -> None:
            if name.startswith("audit/entries/"):
                super().put(name, [])
                raise Killed
            super().put(name, parts)

    objects = Hollow()
    log = AuditLog.create(objects, keys)
    with pytest.raises(Killed):
        log.append(events(300))
    whole = MemoryObjects(objects._objects)
    AuditLog.open(whole, keys).append(events(1))
    assert AuditLog.open(whole, keys).verify().size == 301


def test_the_same_log_goes_on_after_a_failure(keys: FewKeys) -> None:
    objects = Mortal()
    log = AuditLog.create(objects, keys)
    log.append(events(10))
    for steps in range(1, 4):
        objects.left, objects.after = steps, True
        with pytest.raises(Killed):
            log.append(events(3))
        objects.left = -1
        log.append(events(300))
    assert log.verify().size == log.size


@pytest.mark.parametrize("size", [1, 200, 600])
def test_a_sleeper_that_lost_its_lock_harms_nothing_that_another_committed(keys: FewKeys, size: int) -> None:
    """Whatever it does last before it sleeps, and however much the other commits meanwhile."""
    refused = at = 0
    while True:
        at += 1
        objects = MemoryObjects()
        AuditLog.create(objects, keys).append(events(100))
        other = AuditLog.open(objects, keys)
        sleepy = Sleepy(objects, at, lambda other=other: [other.append(events(n)) for n in (3, 300, 7)])
        try:
            AuditLog.open(sleepy, keys).append(events(size))
        except AuditError as error:
            refused += "another one took the log's lock" in str(error)
        log = AuditLog.open(objects, keys)
        others = [3, 300, 7] if sleepy.left <= 0 else []
        assert log.verify().size in (100 + sum(others), 100 + sum(others) + size)
        rows = [entry.counts["rows"] for entry in log.entries()]
        assert rows[len(rows) - sum(others) :] == [row for n in others for row in range(n)]
        log.append(events(300))
        assert log.verify().size == len(rows) + 300
        if sleepy.left > 0:
            break
    assert refused >= 2


def test_threads_share_writes(keys: FewKeys) -> None:
    objects = Mortal()
    log = AuditLog.create(objects, keys)
    objects.checkpoints, objects.slow = 0, 0.005
    gate = threading.Barrier(16)

    def work(number: int) -> list[range]:
        gate.wait()
        return [log.append(events(number % 3 + 1)) for _ in range(20)]

    with ThreadPoolExecutor(16) as pool:
        ranges = [given for result in pool.map(work, range(16)) for given in result]
    covered = sorted(index for given in ranges for index in given)
    assert covered == list(range(log.size))  # no index twice, none left out
    assert log.verify().size == len(covered)
    # Those whose entries are written don't stand in the way of those who come with the next.
    assert 0 < objects.checkpoints < len(ranges) / 3
    for given in ranges:
        assert [entry.counts["rows"] for entry in log.entries(given.start, given.stop)] == list(
            range(len(given))
        )


def test_a_caller_that_is_interrupted_while_it_waits_holds_nobody_up(
    keys: FewKeys, monkeypatch: pytest.MonkeyPatch
) -> None:
    objects = Mortal()
    log = AuditLog.create(objects, keys)
    objects.slow = 0.2
    wait = threading.Event.wait
    interrupted = threading.Event()

    def impatient(self: threading.Event, timeout: float | None = None) -> bool:
        if threading.current_thread().name == "impatient":
            interrupted.set()
            raise KeyboardInterrupt
        return wait(self, timeout)

    def give_up() -> None:
        with pytest.raises(KeyboardInterrupt):
            log.append(events(1))

    first = threading.Thread(target=lambda: log.append(events(1)))
    second = threading.Thread(target=give_up, name="impatient")
    first.start()
    time.sleep(0.05)
    monkeypatch.setattr(threading.Event, "wait", impatient)
    second.start()
    second.join(10)
    assert interrupted.is_set()
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda _: log.append(events(1)), range(4)))
    first.join(10)
    assert log.size == log.verify().size == 5


def test_a_failed_write_fails_for_all_who_waited(keys: FewKeys) -> None:
    objects = MemoryObjects()
    log = AuditLog.create(objects, keys)
    failing = threading.Event()
    failing.set()
    sign = keys.sign

    def sometimes(message: bytes) -> bytes:
        if failing.is_set():
            raise RuntimeError
        return sign(message)

    keys.sign = sometimes  # type: ignore[method-assign]

    def work(_: int) -> bool:
        try:
            log.append(events(1))
        except AuditError:
            return False
        return True

    with ThreadPoolExecutor(8) as pool:
        assert not any(pool.map(work, range(40)))
        failing.clear()
        assert all(pool.map(work, range(40)))
    assert log.verify().size == 40


def test_a_reader_goes_on_while_others_write(keys: FewKeys) -> None:
    objects = MemoryObjects()
    writer = AuditLog.create(objects, keys)
    writer.append(events(250))
    reader = AuditLog.open(objects, keys)
    entries = reader.entries()
    seen = [next(entries).index]
    writer.append(events(1))  # the bundle the reader knows is superseded …
    assert reader.prove(3)["index"] == 3
    seen += [entry.index for entry in reader.entries(249, 250)]
    late = reader.entries(0, 250)
    writer.append(events(600))  # … and now full and swept
    assert len(list(late)) == 250
    assert [*seen, *(entry.index for entry in entries)][2:] == list(range(1, 250))


def test_an_iterator_begun_before_a_sweep_finds_its_last_bundle(keys: FewKeys) -> None:
    objects = MemoryObjects()
    writer = AuditLog.create(objects, keys)
    writer.append(events(300))
    entries = AuditLog.open(objects, keys).entries()
    assert next(entries).index == 0
    writer.append(events(10))
    writer.append(events(400))
    assert [entry.index for entry in entries] == list(range(1, 300))
