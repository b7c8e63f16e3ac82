from __future__ import annotations

import errno
import os
import pickle
import signal
import stat
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from voxelvault.errors import (
    LockTimeout,
    NoPermission,
    NoSpace,
    ObjectExists,
    ObjectMissing,
    StorageError,
)
from voxelvault.model import Buffer
from voxelvault.storage import objects as module
from voxelvault.storage.objects import LocalObjects


@pytest.fixture
def objects(tmp_path: Path) -> LocalObjects:
    return LocalObjects(tmp_path / "DOE^JOHN" / "vault")


def files(objects: LocalObjects) -> list[str]:
    return sorted(str(p.relative_to(objects.root)) for p in objects.root.rglob("*") if p.is_file())


def recorded(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Record the system calls that make a write durable, in order."""
    calls: list[str] = []

    def watch(name: str, note: Callable[..., str]) -> None:
        real = getattr(os, name)

        def call(*args: Any, **kwargs: Any) -> Any:
            calls.append(note(*args))
            return real(*args, **kwargs)

        monkeypatch.setattr(os, name, call)

    watch("fsync", lambda fd: f"fsync {'folder' if stat.S_ISDIR(os.fstat(fd).st_mode) else 'file'}")
    watch("link", lambda *_: "link")
    watch("replace", lambda *_: "replace")
    watch("unlink", lambda *_: "unlink")
    return calls


class TestDurability:
    def test_put_is_on_disk_before_it_has_a_name(
        self, objects: LocalObjects, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        objects.put("objects/ab/first", [b"x"])
        calls = recorded(monkeypatch)
        objects.put("objects/ab/second", [b"x"])
        assert calls == ["fsync file", "link", "unlink", "fsync folder"]

    def test_replace_is_on_disk_before_it_takes_the_name(
        self, objects: LocalObjects, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        objects.replace("keys/record.json", b"x")
        calls = recorded(monkeypatch)
        objects.replace("keys/record.json", b"y")
        assert calls[:3] == ["fsync file", "replace", "unlink"]  # nothing is left to unlink
        assert calls[3:] == ["fsync folder"]

    def test_new_folders_are_durable_too(
        self, objects: LocalObjects, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        objects.put("vault.toml", [b"x"])
        calls = recorded(monkeypatch)
        objects.put("objects/ab/first", [b"x"])
        assert calls[:2] == ["fsync folder", "fsync folder"]

    def test_what_can_be_rebuilt_needs_no_fsync(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        calls = recorded(monkeypatch)
        LocalObjects(tmp_path / "cache", durable=False).put("derived/x", [b"x"])
        assert not [call for call in calls if call.startswith("fsync")]

    def test_a_killed_writer_leaves_nothing_that_counts(self, objects: LocalObjects) -> None:
        objects.put("objects/ab/whole", [b"x"])
        code = """
            import os, signal, sys
            from pathlib import Path
            from voxelvault.storage.objects import LocalObjects
            def parts():
                yield b"half" * 1000
                os.kill(os.getpid(), signal.SIGKILL)
            LocalObjects(Path(sys.argv[1])).put("objects/ab/half", parts())
        """
        killed = subprocess.run([sys.executable, "-c", textwrap.dedent(code), str(objects.root)], check=False)
        assert killed.returncode == -signal.SIGKILL
        assert len(files(objects)) == 2  # the temporary file is there
        assert [info.name for info in objects.list("")] == ["objects/ab/whole"]
        assert objects.sweep_temporary(before=time.time() - 60) == 0  # it may be a writer at work
        assert objects.sweep_temporary(before=time.time() + 60) == 1
        assert files(objects) == ["objects/ab/whole"]

    @pytest.mark.long
    def test_forty_killed_writers_lose_nothing_acknowledged(self, objects: LocalObjects) -> None:
        code = """
            import sys
            from pathlib import Path
            from voxelvault.model import new_id
            from voxelvault.storage.layout import object_name
            from voxelvault.storage.objects import LocalObjects
            objects = LocalObjects(Path(sys.argv[1]))
            while True:
                name = object_name("objects", new_id())
                objects.put(name, [name.encode()] * 3000)
                print(name, flush=True)
        """
        command = [sys.executable, "-c", textwrap.dedent(code), str(objects.root)]
        acknowledged: list[str] = []
        for number in range(40):
            with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
                assert process.stdout is not None
                acknowledged += [process.stdout.readline() for _ in range(1 + number % 5)]
                time.sleep(0.002 * number)
                process.kill()
                acknowledged += process.stdout.readlines()
        names = {line.strip() for line in acknowledged if line.endswith("\n")}
        listed = {info.name for info in objects.list("objects/")}
        assert len(names) >= 40 * 3
        assert names <= listed
        for name in listed:
            assert objects.get(name) == name.encode() * 3000


class TestWithoutHardLinks:
    @pytest.fixture(autouse=True)
    def no_links(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def refuse(*_: Any) -> None:
            raise OSError(errno.EPERM, "no links here", "/somewhere/DOE^JOHN")

        monkeypatch.setattr(os, "link", refuse)

    def test_put_is_still_once_and_whole(self, objects: LocalObjects) -> None:
        objects.put("objects/once", [b"first"])
        with pytest.raises(ObjectExists):
            objects.put("objects/once", [b"second"])
        assert objects.get("objects/once") == b"first"
        assert files(objects) == ["objects/once"]


class TestRefusals:
    """What the operating system says becomes one line of ours, without the vault's path."""

    @pytest.mark.parametrize(
        ("code", "kind"),
        [
            (errno.ENOSPC, NoSpace),
            (errno.EDQUOT, NoSpace),
            (errno.EACCES, NoPermission),
            (errno.EPERM, NoPermission),
            (errno.EROFS, NoPermission),
            (errno.EIO, StorageError),
        ],
    )
    @pytest.mark.parametrize("call", ["write", "fsync", "open"])
    def test_errors(
        self,
        objects: LocalObjects,
        monkeypatch: pytest.MonkeyPatch,
        call: str,
        code: int,
        kind: type[StorageError],
    ) -> None:
        objects.put("objects/ab/before", [b"x"])

        def refuse(*_: Any, **__: Any) -> Any:
            raise OSError(code, os.strerror(code), str(objects.root))

        with monkeypatch.context() as patch:
            patch.setattr(os, call, refuse)
            for write in (
                lambda: objects.put("objects/ab/after", [b"y"]),
                lambda: objects.replace("objects/ab/before", b"y"),
            ):
                with pytest.raises(kind) as caught:
                    write()
                assert type(caught.value) is kind
                assert "DOE" not in str(caught.value)
                assert "\n" not in str(caught.value)
                assert caught.value.__suppress_context__
        assert objects.get("objects/ab/before") == b"x"
        assert files(objects) == ["objects/ab/before"]
        objects.put("objects/ab/after", [b"y"])

    @pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
    def test_a_disk_that_is_really_full(self, objects: LocalObjects, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(LocalObjects, "_create", lambda *_: os.open("/dev/full", os.O_WRONLY))
        with pytest.raises(NoSpace, match="free some space"):
            objects.put("objects/ab/x", [b"x"])

    @pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
    def test_a_folder_without_permission(self, objects: LocalObjects) -> None:
        objects.put("objects/x", [b"x"])
        (objects.root / "objects").chmod(0o500)
        try:
            with pytest.raises(NoPermission):
                objects.put("objects/y", [b"y"])
        finally:
            (objects.root / "objects").chmod(0o700)

    def test_a_folder_is_no_object(self, objects: LocalObjects) -> None:
        objects.put("objects/ab/x", [b"x"])
        for call in (lambda: objects.get("objects/ab"), lambda: objects.get("objects/ab/x/y")):
            with pytest.raises(ObjectMissing):
                call()

    def test_the_exception_under_a_lock_stays(self, objects: LocalObjects) -> None:
        with pytest.raises(FileNotFoundError), objects.lock("keys", 1):
            raise FileNotFoundError("mine")

    def test_a_lock_without_permission(self, objects: LocalObjects, monkeypatch: pytest.MonkeyPatch) -> None:
        objects.put("vault.toml", [b""])

        def refuse(*_: Any, **__: Any) -> Any:
            raise OSError(errno.EROFS, "read-only", str(objects.root))

        monkeypatch.setattr(os, "open", refuse)
        with pytest.raises(NoPermission, match="read-only"), objects.lock("keys", 1):
            pass


class TestFolder:
    def test_listing_leaves_out_what_is_no_object(self, objects: LocalObjects) -> None:
        objects.put("objects/ab/x", [b"x"])
        (objects.root / "lost+found").mkdir()
        (objects.root / "objects" / ".DS_Store").write_bytes(b"")
        (objects.root / "objects" / "Thumbs.db").write_bytes(b"")
        (objects.root / "objects" / "loop").symlink_to(objects.root)
        with objects.lock("keys", 1):
            names = [info.name for info in objects.list("")]
        assert names == ["objects/ab/x"]

    def test_a_name_never_leaves_the_root(self, objects: LocalObjects, tmp_path: Path) -> None:
        (tmp_path / "outside").write_bytes(b"secret")
        for name in ("../../outside", "objects/../../../outside", str(tmp_path / "outside")):
            with pytest.raises(StorageError):
                objects.get(name)
            with pytest.raises(StorageError):
                objects.delete(name)
            with pytest.raises(StorageError):
                objects.replace(name, b"changed")
        assert (tmp_path / "outside").read_bytes() == b"secret"

    def test_names_that_are_no_object_when_listing(self, objects: LocalObjects) -> None:
        for prefix in ("../", "/", "objects/../", "A"):
            with pytest.raises(StorageError):
                list(objects.list(prefix))

    def test_a_relative_root_stays_where_it_was(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.chdir(tmp_path)
        objects = LocalObjects(Path("vault"))
        objects.put("vault.toml", [b"x"])
        monkeypatch.chdir("/")
        assert objects.get("vault.toml") == b"x"

    def test_it_pickles(self, objects: LocalObjects) -> None:
        objects.put("vault.toml", [b"x"])
        assert pickle.loads(pickle.dumps(objects)) == objects

    def test_short_writes_go_on(self, objects: LocalObjects, monkeypatch: pytest.MonkeyPatch) -> None:
        real = os.write
        monkeypatch.setattr(os, "write", lambda fd, data: real(fd, data[:3]))
        objects.put("objects/x", [b"0123456789"])
        assert objects.get("objects/x") == b"0123456789"

    def test_short_reads_go_on(self, objects: LocalObjects, monkeypatch: pytest.MonkeyPatch) -> None:
        objects.put("objects/x", [b"0123456789"])
        real = os.preadv
        monkeypatch.setattr(os, "preadv", lambda fd, out, at: real(fd, [out[0][:3]], at))
        out = bytearray(8)
        objects.read_into("objects/x", 1, memoryview(out))
        assert out == b"12345678"

    def test_a_put_during_a_put_of_the_same_name(self, objects: LocalObjects) -> None:
        def parts() -> Iterator[Buffer]:
            objects.put("objects/x", [b"inner"])
            yield b"outer"

        with pytest.raises(ObjectExists):
            objects.put("objects/x", parts())
        assert objects.get("objects/x") == b"inner"


HOLDER = """
    import sys, time
    from pathlib import Path
    from voxelvault.storage.objects import LocalObjects
    with LocalObjects(Path(sys.argv[1])).lock("keys", 5):
        print("held", flush=True)
        time.sleep(60)
"""


class TestLocksBetweenProcesses:
    @pytest.fixture
    def holder(self, objects: LocalObjects) -> Iterator[subprocess.Popen[str]]:
        command = [sys.executable, "-c", textwrap.dedent(HOLDER), str(objects.root)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            assert process.stdout.readline() == "held\n"
            yield process
            process.kill()

    def test_held_elsewhere(self, objects: LocalObjects, holder: subprocess.Popen[str]) -> None:
        with pytest.raises(LockTimeout, match="keys lock"), objects.lock("keys", 0.1):
            pass
        with objects.lock("log", 0):
            pass

    def test_a_killed_holder_frees_it(self, objects: LocalObjects, holder: subprocess.Popen[str]) -> None:
        holder.kill()
        holder.wait()
        with objects.lock("keys", 5):
            pass

    def test_two_paths_to_one_vault_share_the_lock(self, objects: LocalObjects, tmp_path: Path) -> None:
        objects.put("vault.toml", [b""])
        (tmp_path / "other").symlink_to(objects.root)
        other = LocalObjects(tmp_path / "other")
        with objects.lock("keys", 1), pytest.raises(LockTimeout), other.lock("keys", 0.05):
            pass

    def test_a_forked_child_neither_keeps_nor_frees_it(self, objects: LocalObjects) -> None:
        read, write = os.pipe()
        with objects.lock("keys", 1):
            child = os.fork()
            if child == 0:
                os.close(write)
                os.read(read, 1)  # lives until the parent is done
                os._exit(0)
        try:
            with objects.lock("keys", 2):
                pass
        finally:
            os.write(write, b".")
            os.waitpid(child, 0)
            os.close(read)
            os.close(write)

    def test_a_forked_child_may_lock(self, objects: LocalObjects) -> None:
        """A thread of the parent held the lock at the fork; that thread is not in the child."""
        with objects.lock("keys", 1):
            child = os.fork()
            if child == 0:
                try:
                    with objects.lock("keys", 5):
                        os._exit(0)
                except BaseException:
                    os._exit(1)
            time.sleep(0.05)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0

    def test_sixty_increments_lose_nothing(self, objects: LocalObjects) -> None:
        objects.replace("keys/record.json", b"0")
        code = """
            import sys
            from pathlib import Path
            from voxelvault.storage.objects import LocalObjects
            objects = LocalObjects(Path(sys.argv[1]), durable=False)
            for _ in range(20):
                with objects.lock("keys", 30):
                    number = int(objects.get("keys/record.json"))
                    objects.replace("keys/record.json", str(number + 1).encode())
        """
        command = [sys.executable, "-c", textwrap.dedent(code), str(objects.root)]
        workers = [subprocess.Popen(command) for _ in range(3)]
        assert [worker.wait() for worker in workers] == [0, 0, 0]
        assert objects.get("keys/record.json") == b"60"


def test_a_link_that_was_made_and_answered_with_a_refusal_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As NFS may: its first answer got lost, and the second try finds the name taken."""
    link = os.link

    def twice(source: str, target: str) -> None:
        link(source, target)
        link(source, target)

    monkeypatch.setattr(os, "link", twice)
    objects = LocalObjects(tmp_path)
    objects.put("objects/x", [b"mine"])
    assert objects.get("objects/x") == b"mine"
    with pytest.raises(ObjectExists):
        objects.put("objects/x", [b"other"])


def test_public_names() -> None:
    assert set(module.__all__) == {
        "LocalObjects",
        "MemoryObjects",
        "is_network_fs",
        "require_local",
        "storage_errors",
    }
