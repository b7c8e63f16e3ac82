"""A process that forks one child for each kill: what is slow, the imports, is done once.

A child opens a vault, does one thing, and kills itself before the n-th step that touches the disk:
each fsync, link, rename, unlink and folder, each commit of the catalog, and each entry of the log.
What it was told to be done goes up a pipe first, as it would to a user.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

FILES_A_BATCH = 3


@dataclass(frozen=True)
class Ended:
    """How a child ended.

    Attributes
    ----------
    killed : bool
        It did not come to its end.
    steps : int
        That it took, if it came to its end.
    told : list of str
        SHA-256 of the files that it said were stored; `done` at its end.
    """

    killed: bool
    steps: int
    told: list[str]


class Harness:
    """The test's side: start it, ask it for children, end it."""

    def __init__(self, under: Sequence[str] = ()) -> None:
        self._process = subprocess.Popen(
            [*under, sys.executable, __file__], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def run(self, verb: str, vault: Path, given: str = "", *, at: int = -1, after: float = 0.0) -> Ended:
        """Do one thing in a child; kill it before step `at`, or `after` seconds; neither: let it end."""
        asked = {"verb": verb, "vault": str(vault), "given": given, "at": at, "after": after}
        asked["home"] = os.environ["VOXELVAULT_CONFIG_HOME"]
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(asked) + "\n")
        self._process.stdin.flush()
        found = json.loads(self._process.stdout.readline())
        told = [line.removeprefix("told ") for line in found["lines"] if line.startswith("told ")]
        steps = [int(line.removeprefix("steps ")) for line in found["lines"] if line.startswith("steps ")]
        if not found["killed"]:
            assert "told done" in found["lines"], found["lines"]
        return Ended(found["killed"], steps[0] if steps else 0, told)

    def close(self) -> None:
        self._process.communicate()


@contextmanager
def harness(under: Sequence[str] = ()) -> Iterator[Harness]:
    """Start the process, by another command if need be, and end it."""
    started = Harness(under)
    try:
        yield started
    finally:
        started.close()


# The other side.

_steps = 0


def _step(at: int) -> None:
    global _steps
    if _steps == at:
        os.kill(os.getpid(), signal.SIGKILL)
    _steps += 1


def _counted(work: Callable[..., Any], at: int) -> Callable[..., Any]:
    def call(*arguments: Any, **named: Any) -> Any:
        _step(at)
        return work(*arguments, **named)

    return call


def _count(at: int) -> None:
    """Have every step that touches the disk counted."""
    from voxelvault.audit.log import AuditLog
    from voxelvault.catalog.catalog_file import CatalogFile

    for name in ("fsync", "link", "replace", "rename", "unlink", "mkdir"):
        setattr(os, name, _counted(getattr(os, name), at))
    AuditLog.append = _counted(AuditLog.append, at)  # type: ignore[method-assign]
    locked, pull = CatalogFile.locked, CatalogFile.pull

    @contextmanager
    def stepping(hold: AbstractContextManager[None]) -> Iterator[None]:
        with hold:
            _step(at)
            yield
            # The engine has just committed, to its private copy.
            _step(at)

    CatalogFile.locked = lambda self: stepping(locked(self))  # type: ignore[method-assign]
    CatalogFile.pull = _counted(pull, at)  # type: ignore[method-assign]


def _tell(pipe: int, *lines: str) -> None:
    os.write(pipe, "".join(f"{line}\n" for line in lines).encode())


def _ingest(vault: Any, folder: str, tell: Callable[..., None]) -> None:
    from voxelvault.intake import ingest

    commit = ingest.commit_batch

    def telling(resources: Any, action: str, drafts: Any, aside: Any) -> Any:
        done = commit(resources, action, drafts, aside)
        tell(*(f"told {member.record.sha256}" for draft in drafts for member in draft.members))
        return done

    ingest.commit_batch, ingest.BATCH_FILES = telling, FILES_A_BATCH
    vault.ingest(folder, progress=False)


def _merge(vault: Any, given: str, _tell: Callable[..., None]) -> None:
    one, into = given.split()
    vault.merge_subjects(one, into)


def _rotate(vault: Any, _given: str, _tell: Callable[..., None]) -> None:
    from voxelvault.upkeep.keys import rotate

    rotate(vault.resources)


_VERBS: dict[str, Callable[[Any, str, Callable[..., None]], object]] = {
    "ingest": _ingest,
    "compact": lambda vault, _given, _tell: vault.compact(progress=False),
    "reindex": lambda vault, _given, _tell: vault.reindex(),
    "rotate": _rotate,
    "merge": _merge,
}


def _work(asked: dict[str, Any], pipe: int) -> None:
    import voxelvault as vv

    os.environ["VOXELVAULT_CONFIG_HOME"] = asked["home"]
    with vv.open(asked["vault"]) as vault:
        _tell(pipe, "ready")
        _count(asked["at"])
        _VERBS[asked["verb"]](vault, asked["given"], lambda *lines: _tell(pipe, *lines))
        _tell(pipe, f"steps {_steps}", "told done")


def _child(asked: dict[str, Any], pipe: int) -> None:
    os.setsid()
    silence = os.open(os.devnull, os.O_RDWR)
    os.dup2(silence, 0)
    os.dup2(silence, 1)
    try:
        _work(asked, pipe)
    except BaseException as error:
        _tell(pipe, f"failed {error!r}")
        os._exit(1)
    os._exit(0)


def _watched(asked: dict[str, Any]) -> dict[str, Any]:
    """Fork a child, hear what it tells, kill it if it was asked for, and clear up after it."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reading)
        _child(asked, writing)
    os.close(writing)
    with os.fdopen(reading) as pipe:
        lines = [pipe.readline().strip()]
        if asked["after"]:
            time.sleep(asked["after"])
            os.kill(child, signal.SIGKILL)
        _, status = os.waitpid(child, 0)
        # Its decoders, if any, hold the pipe.
        with suppress(ProcessLookupError):
            os.killpg(child, signal.SIGKILL)
        lines += pipe.read().split("\n")
    return {"killed": os.WIFSIGNALED(status), "lines": [line for line in lines if line]}


def _serve() -> None:
    # Imported, not opened: threads and locks do not come along.
    import voxelvault.catalog.ducklake
    import voxelvault.intake.ingest
    import voxelvault.intake.reindex
    import voxelvault.opening
    import voxelvault.series
    import voxelvault.upkeep.compaction
    import voxelvault.upkeep.keys
    import voxelvault.upkeep.lifecycle  # noqa: F401

    for line in sys.stdin:
        print(json.dumps(_watched(json.loads(line))), flush=True)


if __name__ == "__main__":
    _serve()
