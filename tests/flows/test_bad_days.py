"""A clock set back, two ingests at once, a network that is cut: an intact vault, and on it goes."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from flow_support import counts, digest, open_again, person_file, python, write
from lives import held, nothing_left, repaired

import voxelvault as vv
from s3_servers import Server
from voxelvault.errors import AuditError, CatalogError, StorageError, Unanswered
from voxelvault.storage.leases import Pace
from voxelvault.storage.objects import LocalObjects
from voxelvault.upkeep.verify import VerifyOptions, verify

# Two ingests at once

_HALF = """
import sys, voxelvault as vv
from voxelvault.intake import ingest
ingest.BATCH_FILES = 4
with vv.open(sys.argv[1]) as vault:
    print("ready", flush=True)
    sys.stdin.readline()
    report = vault.ingest(*sys.argv[2:], progress=False)
    print(report.stored, report.duplicates, flush=True)
"""


def test_two_ingests_of_halves_of_one_series(vault_path: Path, tmp_path: Path) -> None:
    """Each has its half, and two files that the other has, too."""
    files = [person_file(instance=n, pixel=n) for n in range(1, 13)]
    folder = write(tmp_path / "in", files)
    names = sorted(folder.iterdir())
    children = [python(_HALF, vault_path, *half, stdin=subprocess.PIPE) for half in (names[:7], names[5:])]
    for child in children:
        assert child.stdout is not None
        assert child.stdout.readline() == "ready\n", child.communicate()[1]
    for child in children:
        assert child.stdin is not None
        child.stdin.write("go\n")
        child.stdin.flush()
    told = [child.communicate(timeout=120) for child in children]
    assert [child.returncode for child in children] == [0, 0], told
    sums = [sum(column) for column in zip(*(map(int, out.split()) for out, _ in told), strict=True)]
    assert sums == [12, 2]
    with open_again(vault_path) as vault:
        assert counts(vault, "patients", "studies", "series", "instances") == (1, 1, 1, 12)
        assert held(vault) == Counter(map(digest, files))
        (series,) = vault.select("Modality = 'CT'")
        assert series.load().shape[0] == 12
        vault.compact(progress=False)
        assert counts(vault, "packs") == (1,)
        nothing_left(repaired(vault, quick=False))


# A clock that is wrong

_WORK = """
import sys, time, voxelvault as vv
from voxelvault.storage.leases import Pace
from voxelvault.upkeep.verify import VerifyOptions, verify
with vv.open(sys.argv[1]) as vault:
    for folder in sys.argv[3:]:
        vault.ingest(folder, progress=False)
    if sys.argv[2] == "compact":
        vault.compact(progress=False)
    report = verify(vault.resources, VerifyOptions(repair=True))
    print(time.strftime("%Y"), report.ok, report.swept, report.retired, flush=True)
"""


def at(when: str, path: Path, verb: str, *folders: Path) -> list[str]:
    """Do something in a process whose clock is wrong; return what it says."""
    faketime = shutil.which("faketime")
    if faketime is None:
        assert not os.environ.get("CI"), "faketime is missing"
        pytest.skip("faketime is missing: apt install faketime")
    child = python(_WORK, path, verb, *folders, under=[faketime, "-f", when])
    out, err = child.communicate(timeout=120)
    assert child.returncode == 0, err
    return out.split()


def test_a_clock_set_back_sweeps_nothing_early(vault_path: Path, tmp_path: Path) -> None:
    """Written in the future, compacted in the past: what readers need stays, and the log keeps its order."""
    files = [person_file(instance=n, pixel=n) for n in (1, 2)]
    one, two = (write(tmp_path / str(n), [data]) for n, data in enumerate(files))
    assert at("+400d", vault_path, "", one)[1:] == ["True", "0", "0"]
    assert at("-400d", vault_path, "compact", two)[1:3] == ["True", "0"]
    with open_again(vault_path) as vault:
        index = [entry.index for entry in vault.audit.log()]
        assert index == list(range(index[0], index[0] + len(index)))
        assert counts(vault, "instances", "packs") == (2, 1)
        # What was compacted long ago by its entry came to the disk only now.
        assert held(vault) == Counter(map(digest, files))
        nothing_left(repaired(vault, quick=False))


def test_compacted_in_the_future(vault_path: Path, tmp_path: Path) -> None:
    """The clock was ahead when packs were joined: their objects stay the longer, and lose nothing."""
    for n in (1, 2):
        with open_again(vault_path) as vault:
            vault.ingest(write(tmp_path / str(n), [person_file(instance=n, pixel=n)]), progress=False)
    assert at("+400d", vault_path, "compact")[1:3] == ["True", "0"]
    with open_again(vault_path) as vault:
        report = verify(vault.resources, VerifyOptions(repair=True))
        assert report.ok
        assert report.swept == 0
        assert report.retired > 0
        assert counts(vault, "instances", "packs") == (2, 1)


# A network that is cut


@dataclass
class Wire:
    """A way to a server that can be cut after so many bytes, either way."""

    target: tuple[str, int]
    left: int | None = None
    cut: bool = False
    _open: set[socket.socket] = field(default_factory=set)
    _guard: threading.Lock = field(default_factory=threading.Lock)

    def serve(self, listener: socket.socket) -> None:
        """Take connections until the listener is closed."""
        while True:
            try:
                near, _ = listener.accept()
            except OSError:
                return
            if self.cut:
                near.close()
                continue
            far = socket.create_connection(self.target)
            with self._guard:
                self._open |= {near, far}
            for one, other in ((near, far), (far, near)):
                threading.Thread(target=self._carry, args=(one, other), daemon=True).start()

    def _carry(self, source: socket.socket, target: socket.socket) -> None:
        with suppress(OSError):
            while data := source.recv(4096):
                if not self._may_pass(len(data)):
                    break
                target.sendall(data)
        for end in (source, target):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()

    def _may_pass(self, size: int) -> bool:
        with self._guard:
            if self.left is not None:
                self.left -= size
                self.cut = self.cut or self.left < 0
            if not self.cut:
                return True
            found, self._open = self._open, set()
        for end in found:
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
        return False

    def mend(self) -> None:
        self.left, self.cut = None, False


@contextmanager
def wire(endpoint: str) -> Iterator[tuple[Wire, str]]:
    """Give a wire to a server, and the endpoint at its near end."""
    parts = urlsplit(endpoint)
    made = Wire((str(parts.hostname), int(parts.port or 80)))
    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=made.serve, args=(listener,), daemon=True)
        thread.start()
        yield made, f"http://127.0.0.1:{listener.getsockname()[1]}"
        listener.shutdown(socket.SHUT_RDWR)
    thread.join(5)


@pytest.fixture
def remote(s3_server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Wire, str]]:
    """Give a wire, and a place for a vault at its far end; what is held there is soon let go."""
    with wire(s3_server.endpoint) as (made, endpoint):
        for name, value in {**s3_server.environment, "AWS_ENDPOINT_URL": endpoint}.items():
            monkeypatch.setenv(name, value)
        monkeypatch.setenv("VOXELVAULT_CONFIG_HOME", str(tmp_path / "config"))
        monkeypatch.setattr("voxelvault.storage.places._RETRIES", timedelta(seconds=0.2))
        monkeypatch.setattr("voxelvault.storage.remote_objects._AGAIN", 1.0)
        monkeypatch.setattr("voxelvault.storage.remote_objects._REST", 0.0)
        quick = partial(Pace, lasts=3.0, beat=0.5)
        monkeypatch.setattr("voxelvault.storage.remote_objects.Pace", quick)
        yield made, f"{s3_server.place()}/vault"


def cut_and_mended(wire: Wire, place: str, folder: Path, files: list[bytes], after: int) -> bool:
    """Cut it in the middle of an ingest, mend it, and go on; tell whether it was cut."""
    wire.mend()
    with vv.open(place) as vault:
        before = held(vault)
        wire.left = after
        error = None
        try:
            vault.ingest(folder, progress=False)
        except (StorageError, AuditError, CatalogError) as raised:
            error = raised
        was_cut = wire.cut
        wire.mend()
    assert (error is not None) == was_cut
    if error is not None:
        assert "\n" not in str(error)
        assert "network" in str(error) or "--repair" in str(error), error
    with vv.open(place) as vault:
        assert before <= held(vault)
        assert set(held(vault).values()) <= {1}
        nothing_left(repaired(vault, quick=True))
        vault.ingest(folder, progress=False)
        assert held(vault) == Counter(map(digest, files))
        nothing_left(repaired(vault, quick=False))
    return was_cut


def test_the_network_is_cut_in_the_middle(remote: tuple[Wire, str], tmp_path: Path) -> None:
    made, place = remote
    files = [person_file(instance=n, pixel=n) for n in (1, 2)]
    vv.create(place).close()
    assert cut_and_mended(made, place, write(tmp_path / "in", files), files, 30_000)


@pytest.mark.parametrize("quick", [True, False])
def test_a_check_that_could_not_look_calls_nothing_damaged(
    vault: vv.Vault, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, quick: bool
) -> None:
    vault.ingest(write(tmp_path / "in", [person_file()]), progress=False)

    def unanswered(objects: LocalObjects, name: str, *_: Any) -> Any:
        raise Unanswered(f"object storage did not answer within 30 s: check the network ({name})")

    for method in ("get", "size") if quick else ("get", "size", "read_into"):
        work = getattr(LocalObjects, method)

        def cut(objects: LocalObjects, name: str, *given: Any, work: Any = work) -> Any:
            return (unanswered if name.startswith("objects/") else work)(objects, name, *given)

        with monkeypatch.context() as patch:
            patch.setattr(LocalObjects, method, cut)
            with pytest.raises(Unanswered):
                vault.verify(progress=False, quick=quick)
    assert vault.verify(progress=False).ok


@pytest.mark.long
@pytest.mark.timeout(1800)
def test_the_network_is_cut_anywhere(s3_server: Server, remote: tuple[Wire, str], tmp_path: Path) -> None:
    made, _ = remote
    files = [person_file(instance=n, pixel=n) for n in (1, 2)]
    folder = write(tmp_path / "in", files)
    cuts = 0
    for after in range(0, 400_000, 20_000):
        made.mend()
        place = f"{s3_server.place()}/vault"
        vv.create(place).close()
        cuts += cut_and_mended(made, place, folder, files, after)
    print(f"cut {cuts} times")
    assert cuts > 5
