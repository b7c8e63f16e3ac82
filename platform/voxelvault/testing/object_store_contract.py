"""What every object store must do: subclass `ObjectStoreContract` and give the fixture `objects`.

::

    class TestMine(ObjectStoreContract):
        @pytest.fixture
        def objects(self):
            return MyObjects(...)
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import suppress

import pytest

from voxelvault.errors import (
    IntegrityError,
    LockTimeout,
    ObjectChanged,
    ObjectExists,
    ObjectMissing,
    StorageError,
)
from voxelvault.model import Buffer, ObjectStore

BAD_NAMES = [
    "",
    "/absolute",
    "../escape",
    "objects/../../escape",
    "objects//twice",
    "objects/",
    "objects/.hidden",
    "objects/UPPER",
    "objects/white space",
    "objects/nul\0",
    "objects/new\nline",
    "objects/back\\slash",
    "objects/ünicode",
    "locks/keys",
]


class ObjectStoreContract:
    """The contract of `voxelvault.model.ObjectStore`."""

    @pytest.fixture
    def objects(self) -> ObjectStore:
        """Give an empty store."""
        raise NotImplementedError("a subclass gives its store")

    def test_put_then_get(self, objects: ObjectStore) -> None:
        """Parts arrive in order, whatever kind of buffer they are."""
        objects.put("objects/ab/one", [b"head", bytearray(b"-body-"), memoryview(b"..tail..")[2:6]])
        assert objects.get("objects/ab/one") == b"head-body-tail"
        assert objects.size("objects/ab/one") == 14

    def test_parts_may_reuse_one_buffer(self, objects: ObjectStore) -> None:
        """A part is consumed before the next is asked for."""
        buffer = bytearray(4)

        def parts() -> Iterator[Buffer]:
            for number in range(5):
                buffer[:] = bytes([number]) * 4
                yield memoryview(buffer)

        objects.put("objects/reused", parts())
        assert objects.get("objects/reused") == b"".join(bytes([n]) * 4 for n in range(5))

    def test_empty_object(self, objects: ObjectStore) -> None:
        """No parts make an empty object, not an absent one."""
        objects.put("objects/empty", [])
        assert objects.get("objects/empty") == b""
        assert objects.size("objects/empty") == 0

    def test_objects_are_written_once(self, objects: ObjectStore) -> None:
        """A second put is refused and changes nothing."""
        objects.put("objects/once", [b"first"])
        with pytest.raises(ObjectExists):
            objects.put("objects/once", [b"second"])
        assert objects.get("objects/once") == b"first"

    def test_one_of_many_creators_wins(self, objects: ObjectStore) -> None:
        """Of simultaneous creators one succeeds, and its bytes are the ones kept."""
        won: list[int] = []
        start = threading.Barrier(8)

        def create(number: int) -> None:
            start.wait()
            try:
                objects.put("objects/race", [bytes([number]) * 1000] * 20)
                won.append(number)
            except ObjectExists:
                pass

        threads = [threading.Thread(target=create, args=(n,)) for n in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(won) == 1
        assert objects.get("objects/race") == bytes(won) * 20_000

    def test_failing_parts_leave_nothing(self, objects: ObjectStore) -> None:
        """A put that fails half-way leaves neither the object nor a leftover in the listing."""

        def parts() -> Iterator[Buffer]:
            yield b"half"
            raise RuntimeError("source failed")

        with pytest.raises(RuntimeError, match="source failed"):
            objects.put("objects/half", parts())
        assert [info.name for info in objects.list("")] == []
        objects.put("objects/half", [b"whole"])
        assert objects.get("objects/half") == b"whole"

    def test_replace_creates_and_replaces(self, objects: ObjectStore) -> None:
        """A document has its old or its new content."""
        objects.replace("keys/record.json", b"{1}")
        objects.replace("keys/record.json", memoryview(b"{22}"))
        assert objects.get("keys/record.json") == b"{22}"
        assert [info.name for info in objects.list("keys/")] == ["keys/record.json"]

    def test_readers_never_see_a_torn_document(self, objects: ObjectStore) -> None:
        """While a document is replaced again and again, each read is one whole version."""
        objects.replace("audit/checkpoint", b"0" * 5000)
        stop = threading.Event()

        def write() -> None:
            number = 0
            while not stop.is_set():
                number = (number + 1) % 10
                objects.replace("audit/checkpoint", str(number).encode() * 5000)

        writer = threading.Thread(target=write)
        writer.start()
        try:
            for _ in range(50):
                data = objects.get("audit/checkpoint")
                assert len(data) == 5000
                assert len(set(data)) == 1
        finally:
            stop.set()
            writer.join()

    def test_swap_wants_the_version_that_was_read(self, objects: ObjectStore) -> None:
        """A document changes hands only from the version its writer saw; a loser changes nothing."""
        first = objects.swap("audit/checkpoint", b"one", None)
        assert objects.versioned("audit/checkpoint") == (b"one", first)
        with pytest.raises(ObjectChanged):
            objects.swap("audit/checkpoint", b"other", None)
        second = objects.swap("audit/checkpoint", memoryview(b"two"), first)
        assert objects.version("audit/checkpoint") == second != first
        with pytest.raises(ObjectChanged):
            objects.swap("audit/checkpoint", b"late", first)
        assert objects.versioned("audit/checkpoint") == (b"two", second)
        objects.delete("audit/checkpoint")
        with pytest.raises(ObjectChanged):
            objects.swap("audit/checkpoint", b"late", second)
        with pytest.raises(ObjectMissing):
            objects.version("audit/checkpoint")

    def test_one_of_many_swappers_wins(self, objects: ObjectStore) -> None:
        """Of simultaneous writers that saw the same version one succeeds."""
        version = objects.swap("keys/record.json", b"0", None)
        won: list[int] = []
        start = threading.Barrier(4)

        def swap(number: int) -> None:
            start.wait()
            with suppress(ObjectChanged):
                objects.swap("keys/record.json", bytes([number]) * 1000, version)
                won.append(number)

        threads = [threading.Thread(target=swap, args=(n,)) for n in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(won) == 1
        assert objects.get("keys/record.json") == bytes(won) * 1000

    def test_read_into(self, objects: ObjectStore) -> None:
        """A range lands in the caller's memory, also in an array of another item size."""
        data = bytes(range(256)) * 10
        objects.put("objects/range", [data])
        out = bytearray(100)
        objects.read_into("objects/range", 1000, memoryview(out))
        assert out == data[1000:1100]
        wide = memoryview(bytearray(16)).cast("I")
        objects.read_into("objects/range", 8, wide)
        assert wide.tobytes() == data[8:24]
        objects.read_into("objects/range", len(data), memoryview(bytearray()))

    def test_read_past_the_end(self, objects: ObjectStore) -> None:
        """A short object is a failed proof, never a short read."""
        objects.put("objects/short", [b"12345"])
        for start in (0, 3, 5, 100):
            with pytest.raises(IntegrityError):
                objects.read_into("objects/short", start, memoryview(bytearray(6)))

    def test_missing(self, objects: ObjectStore) -> None:
        """Absence has one error; deleting what is absent is no error."""
        for name in ("objects/none", "objects/ab/none"):
            with pytest.raises(ObjectMissing):
                objects.get(name)
            with pytest.raises(ObjectMissing):
                objects.size(name)
            with pytest.raises(ObjectMissing):
                objects.read_into(name, 0, memoryview(bytearray(1)))
            objects.delete(name)

    def test_delete(self, objects: ObjectStore) -> None:
        """Only the named object goes."""
        objects.put("objects/a", [b"a"])
        objects.put("objects/ab", [b"ab"])
        objects.delete("objects/a")
        assert [info.name for info in objects.list("objects/")] == ["objects/ab"]
        with pytest.raises(ObjectMissing):
            objects.get("objects/a")

    def test_list(self, objects: ObjectStore) -> None:
        """Prefixes are folders or starts of names; lengths are true and times are now."""
        before = time.time() - 2
        for name in ("objects/ab/ab1", "objects/ab/ab2", "objects/cd/cd1", "audit/x", "vault.toml"):
            objects.put(name, [name.encode()])
        assert {info.name for info in objects.list("")} >= {"objects/ab/ab1", "audit/x", "vault.toml"}
        assert sorted(i.name for i in objects.list("objects/")) == [
            "objects/ab/ab1",
            "objects/ab/ab2",
            "objects/cd/cd1",
        ]
        assert sorted(i.name for i in objects.list("objects/ab/")) == ["objects/ab/ab1", "objects/ab/ab2"]
        assert [i.name for i in objects.list("objects/ab/ab2")] == ["objects/ab/ab2"]
        assert [i.name for i in objects.list("au")] == ["audit/x"]
        assert list(objects.list("nothing/")) == []
        (info,) = objects.list("objects/cd/")
        assert info.length == len("objects/cd/cd1")
        assert before <= info.modified <= time.time() + 2

    @pytest.mark.parametrize("name", BAD_NAMES)
    def test_names_that_no_object_has(self, objects: ObjectStore, name: str) -> None:
        """No name leaves the vault, hides in it or differs by case; the refusal is ours."""
        for call in (
            lambda: objects.put(name, [b"x"]),
            lambda: objects.replace(name, b"x"),
            lambda: objects.get(name),
            lambda: objects.read_into(name, 0, memoryview(bytearray(1))),
            lambda: objects.size(name),
            lambda: objects.delete(name),
        ):
            with pytest.raises(StorageError):
                call()
        assert list(objects.list("")) == []


class LockContract:
    """The locks of a store that has them; uses the same fixture `objects`."""

    def test_lock_excludes(self, objects: ObjectStore) -> None:
        """The second holder waits for the first, and gets it then."""
        order: list[str] = []
        held, done = threading.Event(), threading.Event()

        def second() -> None:
            held.wait()
            with objects.lock("keys", 10):
                order.append("second")
            done.set()

        thread = threading.Thread(target=second)
        thread.start()
        with objects.lock("keys", 10):
            held.set()
            assert not done.wait(0.05)
            order.append("first")
        thread.join()
        assert order == ["first", "second"]

    def test_lock_times_out(self, objects: ObjectStore) -> None:
        """Not reentrant: the holder itself waits in vain; afterwards the lock is free."""
        with objects.lock("log", 1):
            began = time.monotonic()
            with pytest.raises(LockTimeout), objects.lock("log", 0.1):
                raise AssertionError("two holders")
            assert 0.05 < time.monotonic() - began < 5
        with objects.lock("log", 0):
            pass

    def test_locks_are_apart(self, objects: ObjectStore) -> None:
        """Different names don't exclude one another, and locks are not objects."""
        with objects.lock("keys", 0), objects.lock("catalog", 0):
            assert list(objects.list("")) == []

    def test_lock_survives_an_exception(self, objects: ObjectStore) -> None:
        """An exception under the lock goes through unchanged and frees it."""
        with pytest.raises(OSError, match="mine"), objects.lock("keys", 0):
            raise OSError("mine")
        with objects.lock("keys", 0):
            pass


__all__ = ["BAD_NAMES", "LockContract", "ObjectStoreContract"]
