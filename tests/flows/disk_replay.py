"""What a power cut may leave of a folder: the system calls of a process, replayed up to a point.

A file's bytes are sure once they were followed by an fsync of the file, and its name once that was
followed by an fsync of its folder. Of what is not sure, a disk may keep nothing, all, or some:
any of the writes to a file, and of the changes to a folder any beginning.
"""

from __future__ import annotations

import random
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

CALLS = (
    "openat,creat,write,pwrite64,writev,pwritev,pwritev2,ftruncate,truncate,fallocate,fsync,fdatasync,"
    "rename,renameat,renameat2,link,linkat,symlink,symlinkat,unlink,unlinkat,rmdir,mkdir,mkdirat,"
    "copy_file_range,sendfile"
)
_LINE = re.compile(r"(\d+) +(\w+)\((.*)\) += (-?\d+|\?)", re.DOTALL)
_UNFINISHED = re.compile(r"(\d+) +(\w+)\((.*) <unfinished \.\.\.>$", re.DOTALL)
_RESUMED = re.compile(r"(\d+) +<\.\.\. (\w+) resumed>(.*)$", re.DOTALL)
_TEXT = re.compile(r'"((?:\\x[0-9a-f]{2})*)"')
_OPEN = re.compile(r"(\d+)<((?:[^<>\\]|\\x[0-9a-f]{2})*)>")


def command(trace: Path) -> list[str]:
    """Return the command that another is given to, so that its calls are written down."""
    return ["strace", "-f", "--seccomp-bpf", "-y", "-xx", "-s", "100000000", "-o", str(trace), "-e", CALLS]


@dataclass(frozen=True)
class Call:
    """One system call that succeeded: its texts, and the path of the open file that it is about."""

    name: str
    texts: Sequence[bytes]
    arguments: str
    path: str
    fd: int


def calls(trace: Path) -> Iterator[Call]:
    """Yield the calls of a trace that succeeded, in the order in which they ended."""
    begun: dict[str, str] = {}
    for line in trace.read_text(errors="replace").splitlines():
        if found := _UNFINISHED.match(line):
            begun[found[1]] = f"{found[1]} {found[2]}({found[3]}"
            continue
        if found := _RESUMED.match(line):
            line = begun.pop(found[1]) + found[3]
        found = _LINE.match(line)
        if found is None or found[4].startswith(("-", "?")):
            continue
        arguments = found[3]
        texts = [_bytes(text) for text in _TEXT.findall(arguments)]
        opened = _OPEN.match(arguments)
        path = _bytes(opened[2]).decode() if opened else ""
        fd = int(found[4]) if found[2] == "openat" else int(opened[1]) if opened else -1
        yield Call(found[2], texts, _TEXT.sub("", arguments), path, fd)


def _bytes(text: str) -> bytes:
    if "\\x" not in text:
        return text.encode()
    return re.sub(rb"\\x([0-9a-f]{2})", lambda found: bytes.fromhex(found[1].decode()), text.encode())


@dataclass
class _File:
    """A file's bytes that are sure, and the writes since: where, and what; None cuts it there."""

    sure: bytes = b""
    since: list[tuple[int, bytes | None]] = field(default_factory=list)

    def bytes(self, kept: Sequence[tuple[int, bytes | None]]) -> bytes:
        data = bytearray(self.sure)
        for at, new in kept:
            if new is None:
                del data[at:]
            data += bytes(max(at - len(data), 0))
            data[at : at + len(new or b"")] = new or b""
        return bytes(data)

    @property
    def live(self) -> bytes:
        return self.bytes(self.since)


_Folder = dict[str, "_File | None"]
"""Path to the file there; None is a folder."""


class Disk:
    """The files below one folder: as the process sees them, and what of that is sure.

    Parameters
    ----------
    root : Path
        The folder as it was before the process began; all in it counts as sure.
    """

    def __init__(self, root: Path) -> None:
        self._root = str(root)
        self._sure: _Folder = {str(root): None}
        for path in root.rglob("*"):
            self._sure[str(path)] = None if path.is_dir() else _File(path.read_bytes())
        self._live = dict(self._sure)
        self._changes: list[tuple[str, str, _File | None, bool]] = []
        self._places: dict[int, int | None] = {}
        self.told: list[str] = []

    def play(self, call: Call) -> bool:
        """Let one call happen; tell whether it changed what is on the disk or what was told."""
        if call.name in ("write", "writev") and call.path.startswith("pipe:"):
            return self._tell(b"".join(call.texts))
        name = re.sub(r"(at2?|64|v2?)$", "", call.name)
        inside = [text.decode() for text in call.texts[:2] if text.startswith(f"{self._root}/".encode())]
        if name in ("open", "creat"):
            return bool(inside) and self._open(inside[0], call)
        if name in ("rename", "link", "unlink", "rmdir", "mkdir"):
            return bool(inside) and self._rename(name, inside)
        if not call.path.startswith(self._root):
            return False
        if name in ("write", "pwrite"):
            return self._write(call, name == "pwrite")
        if name in ("fsync", "fdatasync"):
            return self._sync(call.path)
        if name == "ftruncate":
            self._file(call.path).since.append((int(call.arguments.rpartition(",")[2]), None))
            return True
        raise NotImplementedError(call.name)

    def _tell(self, text: bytes) -> bool:
        lines = text.decode(errors="replace").split("\n")
        told = [line.removeprefix("told ") for line in lines if line.startswith("told ")]
        self.told += told
        return bool(told)

    def _file(self, path: str) -> _File:
        found = self._live[path]
        assert found is not None
        return found

    def _open(self, path: str, call: Call) -> bool:
        self._places[call.fd] = None if "O_APPEND" in call.arguments else 0
        if "O_CREAT" in call.arguments and path not in self._live:
            self._change(path, _File())
            return True
        if "O_TRUNC" in call.arguments:
            self._file(path).since.append((0, None))
            return True
        return False

    def _write(self, call: Call, placed: bool) -> bool:
        file, data = self._file(call.path), b"".join(call.texts)
        if placed:
            at = int(call.arguments.rpartition(",")[2])
        else:
            place = self._places[call.fd]
            at = len(file.live) if place is None else place
            self._places[call.fd] = None if place is None else at + len(data)
        file.since.append((at, data))
        return True

    def _sync(self, path: str) -> bool:
        file = self._live[path]
        if file is None:
            self._settle({path: None})
        else:
            file.sure, file.since = file.live, []
        return True

    def _rename(self, name: str, paths: Sequence[str]) -> bool:
        if name == "mkdir":
            self._change(paths[0], None)
        elif name in ("unlink", "rmdir"):
            self._change(paths[0], None, gone=True)
        else:
            self._change(paths[1], self._live[paths[0]])
            if name == "rename":
                self._change(paths[0], None, gone=True)
        return True

    def _change(self, path: str, file: _File | None, gone: bool = False) -> None:
        self._changes.append((path.rpartition("/")[0], path, file, gone))
        _apply(self._live, path, file, gone)

    def _settle(self, folders: dict[str, None]) -> None:
        for folder, *change in self._changes:
            if folder in folders:
                _apply(self._sure, *change)  # type: ignore[arg-type]
        self._changes = [change for change in self._changes if change[0] not in folders]

    def after_power_loss(self, dice: random.Random | None) -> dict[str, bytes | None]:
        """Return what is there afterwards, by path: None is a folder.

        Parameters
        ----------
        dice : Random, optional
            Decides what is kept of that which is not sure; without, nothing is.
        """
        names = dict(self._sure)
        keep: dict[str, int] = {}
        for folder, *change in self._changes:
            if dice is not None:
                keep.setdefault(folder, dice.randrange(len(self._changes) + 1))
                keep[folder] -= 1
                if keep[folder] >= 0:
                    _apply(names, *change)  # type: ignore[arg-type]
        found: dict[str, bytes | None] = {}
        for path, file in sorted(names.items(), key=lambda one: one[0]):
            folder = path.rpartition("/")[0]
            # What is in a folder whose own name is lost is lost with it.
            if path != self._root and (folder == self._root or folder in found):
                found[path] = None if file is None else file.bytes(_some(file, dice))
        return found


def _some(file: _File, dice: random.Random | None) -> list[tuple[int, bytes | None]]:
    return [write for write in file.since if dice is not None and dice.random() < 0.5]


def _apply(names: _Folder, path: str, file: _File | None, gone: bool) -> None:
    if gone:
        names.pop(path, None)
    else:
        names[path] = file


def lay_out(found: dict[str, bytes | None], root: Path, target: Path) -> None:
    """Make the files that are left below another folder."""
    target.mkdir(parents=True)
    for path, data in found.items():
        place = target / Path(path).relative_to(root)
        if data is None:
            place.mkdir(0o700)
        else:
            # A key file that others may read is refused.
            place.touch(0o600)
            place.write_bytes(data)
