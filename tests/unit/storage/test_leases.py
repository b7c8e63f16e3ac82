from __future__ import annotations

import threading
import time

import pytest

from voxelvault.errors import LockTimeout, ObjectChanged, StorageError
from voxelvault.storage.leases import Leases, Pace
from voxelvault.storage.objects import MemoryObjects

QUICK = Pace(lasts=0.4, beat=0.05)
NAME = "leases/log"


def leases(objects: MemoryObjects, pace: Pace = QUICK) -> Leases:
    """Return the leases as one process has them."""
    return Leases(objects.versioned, objects.swap, pace)


def test_one_holder_at_a_time_over_processes() -> None:
    objects, order = MemoryObjects(), list[int]()

    def work(number: int) -> None:
        own = leases(objects)
        for _ in range(5):
            with own.hold(NAME, "log", 20):
                order.append(number)
                time.sleep(0.002)
                order.append(number)

    threads = [threading.Thread(target=work, args=(n,)) for n in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(order) == 30
    assert all(order[i] == order[i + 1] for i in range(0, 30, 2))


def test_a_holder_at_work_keeps_its_lease_however_long() -> None:
    objects = MemoryObjects()
    with leases(objects).hold(NAME, "log", 0):
        with pytest.raises(LockTimeout, match="log lock"), leases(objects).hold(NAME, "log", 1.0):
            raise AssertionError("two holders")
    with leases(objects).hold(NAME, "log", 0):
        pass


def test_what_a_killed_writer_held_is_taken_over() -> None:
    objects = MemoryObjects()
    objects.swap(NAME, b"held by a process that is no more", None)
    began = time.monotonic()
    with leases(objects).hold(NAME, "log", 5):
        assert QUICK.lasts <= time.monotonic() - began < 3


def test_a_sleeper_that_wakes_up_leaves_the_new_holder_alone() -> None:
    objects = MemoryObjects()
    sleeper = leases(objects, Pace(lasts=0.2, beat=60))
    with sleeper.hold(NAME, "log", 0), leases(objects, Pace(lasts=0.2, beat=0.05)).hold(NAME, "log", 5):
        held = objects.get(NAME)
        sleeping = objects.version(NAME)
    assert held.startswith(b"held")
    assert objects.version(NAME) != sleeping
    assert objects.get(NAME).startswith(b"free")


def test_a_beat_that_fails_is_tried_again_at_the_next() -> None:
    objects, calls = MemoryObjects(), list[int]()

    def shaky(name: str, data: bytes, expected: str | None) -> str:
        calls.append(1)
        if len(calls) in (2, 3):
            raise StorageError("the network is away")
        return objects.swap(name, data, expected)

    with Leases(objects.versioned, shaky, QUICK).hold(NAME, "log", 0):
        time.sleep(0.25)
        with pytest.raises(LockTimeout), leases(objects).hold(NAME, "log", 0.1):
            raise AssertionError("two holders")
    assert objects.get(NAME).startswith(b"free")


def test_a_store_that_refuses_is_an_error_not_a_wait() -> None:
    def refuse(name: str, data: bytes, expected: str | None) -> str:
        raise StorageError("denied")

    with (
        pytest.raises(StorageError, match="denied"),
        Leases(MemoryObjects().versioned, refuse, QUICK).hold(NAME, "log", 5),
    ):
        raise AssertionError("held")
    assert not issubclass(StorageError, ObjectChanged)
