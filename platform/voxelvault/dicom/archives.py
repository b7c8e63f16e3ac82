"""Members of zip and tar files, read into memory one by one and never written to disk.

An archive is a stranger's claim. Its directory, number of members, total size and ratio are
bounded before any member is opened, and a member gives at most the bytes that it announced. Links,
devices, encrypted members and names that climb out of the archive are refused one by one; the
others are read.

References
----------
PKWARE APPNOTE 6.3 (zip), POSIX.1-2001 pax and GNU tar, RFC 1952 (gzip).
"""

from __future__ import annotations

import gzip
import io
import os
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from stat import S_ISLNK
from threading import Lock
from typing import BinaryIO, Literal

from voxelvault.errors import ArchiveRefused


@dataclass(frozen=True, slots=True)
class Limits:
    """What an archive may claim.

    Parameters
    ----------
    members : int
        Files, folders and links together.
    total : int
        Bytes of all members.
    member : int
        Bytes of one, which are held in memory.
    ratio : int
        Total over the archive's own size; real studies stay below 20, blank images below 200.
    """

    members: int = 200_000
    total: int = 64 << 30
    member: int = 2 << 30
    ratio: int = 200


@dataclass(frozen=True, slots=True)
class Member:
    """Where one member's bytes are; `refused` says why there are none to have.

    `start` counts in the archive (zip: of the local header) or, for a gzipped tar, in the tar.
    """

    name: str
    size: int
    form: Literal["stored", "zip", "gzip"] = "stored"
    start: int = 0
    packed: int = 0
    crc: int = 0
    refused: str = ""


_RATIO_FLOOR = 16 << 20
_DIRECTORY_LIMIT = 64 << 20
_HEADER_LIMIT = 1 << 20
_HOSTILE = "the archive is larger inside than it may be; unpack it by hand where that is safe"
_DAMAGED = "the archive is damaged; ask the sender for it again"


def archive_kind(head: bytes) -> Literal["zip", "tar", "gzip"] | None:
    """Tell an archive by its first 512 bytes."""
    if head[:4] in (b"PK\3\4", b"PK\5\6"):
        return "zip"
    if head[:3] == b"\x1f\x8b\x08":
        return "gzip"
    return "tar" if head[257:262] == b"ustar" and head[128:132] != b"DICM" else None


def members(path: Path, kind: Literal["zip", "tar", "gzip"], limits: Limits) -> list[Member]:
    """List the files of an archive.

    Parameters
    ----------
    path : Path
        The archive.
    kind : {"zip", "tar", "gzip"}
        From `archive_kind`.
    limits : Limits
        Bounds of what is accepted.

    Returns
    -------
    list of Member
        In the archive's order, folders left out.

    Raises
    ------
    ArchiveRefused
        It is damaged, or exceeds a limit.
    """
    try:
        with path.open("rb") as stream:
            return list(_READERS[kind](stream, limits))
    except (
        zipfile.BadZipFile,
        tarfile.TarError,
        zlib.error,
        EOFError,
        ValueError,
        struct.error,
        gzip.BadGzipFile,
    ):
        raise ArchiveRefused(_DAMAGED) from None
    except (NotImplementedError, RecursionError, OverflowError):
        raise ArchiveRefused(
            "the archive uses a form that isn't read here; pack it as plain zip or tar.gz"
        ) from None


def read_member(path: Path, member: Member) -> bytes:
    """Return a member's bytes.

    Raises
    ------
    ArchiveRefused
        The member was refused, or isn't what the archive announced.
    """
    if member.refused:
        raise ArchiveRefused(member.refused)
    try:
        if member.form == "gzip":
            return _read_gzipped(path, member)
        with path.open("rb") as stream:
            data = (
                _read_zipped(stream, member)
                if member.form == "zip"
                else _read_at(stream, member.start, member.size)
            )
    except (zlib.error, EOFError, struct.error, gzip.BadGzipFile):
        raise ArchiveRefused(_DAMAGED) from None
    if len(data) != member.size:
        raise ArchiveRefused(_DAMAGED)
    return data


class _Tally:
    """Sums up what an archive claims and stops it at the limits."""

    def __init__(self, archive_size: int, limits: Limits) -> None:
        self._limits = limits
        self._count = 0
        self._total = 0
        self._most = min(limits.total, max(_RATIO_FLOOR, limits.ratio * archive_size))

    def add(self, size: int) -> None:
        self._count += 1
        self._total += size
        if size < 0 or self._count > self._limits.members or self._total > self._most:
            raise ArchiveRefused(_HOSTILE)

    def refusal(self, name: str, size: int) -> str:
        """Return why a member isn't read, empty when it is."""
        parts = name.replace("\\", "/").split("/")
        if not parts[0] or ".." in parts:
            return "the member's name leads out of its archive; unpack it by hand where that is safe"
        if size > self._limits.member:
            return "the member is too large to be read from an archive; unpack it first"
        return ""


def _size(stream: BinaryIO) -> int:
    return os.fstat(stream.fileno()).st_size


def _zip_members(stream: BinaryIO, limits: Limits) -> Iterator[Member]:
    if _directory_size(stream) > _DIRECTORY_LIMIT:
        raise ArchiveRefused(_HOSTILE)
    tally = _Tally(_size(stream), limits)
    with zipfile.ZipFile(stream) as archive:
        infos = archive.infolist()
    for info in infos:
        tally.add(info.file_size)
    for info in infos:
        if not info.is_dir():
            yield _zip_member(info, tally)


def _zip_member(info: zipfile.ZipInfo, tally: _Tally) -> Member:
    refused = tally.refusal(info.filename, info.file_size)
    if S_ISLNK(info.external_attr >> 16):
        refused = "the member is a link; pack the file itself"
    elif info.flag_bits & 1:
        refused = "the member is encrypted; unpack it by hand"
    elif info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        refused = "the member is compressed in a way that isn't read here; unpack it by hand"
    form: Literal["stored", "zip"] = "zip"
    return Member(
        info.filename, info.file_size, form, info.header_offset, info.compress_size, info.CRC, refused
    )


def _directory_size(stream: BinaryIO) -> int:
    """Return the central directory's length, which zipfile would read whole on the archive's word."""
    size = _size(stream)
    stream.seek(max(0, size - (1 << 16) - 22))
    tail = stream.read()
    place = tail.rfind(b"PK\5\6")
    if place < 0:
        raise zipfile.BadZipFile
    (length,) = struct.unpack_from("<I", tail, place + 12)
    large = tail.rfind(b"PK\6\6")
    if length == 0xFFFFFFFF and large >= 0:
        (length,) = struct.unpack_from("<Q", tail, large + 40)
    return int(length)


def _read_zipped(stream: BinaryIO, member: Member) -> bytes:
    """Read one member by its local header; the directory is not read again."""
    head = _read_at(stream, member.start, 30)
    if head[:4] != b"PK\3\4":
        raise ArchiveRefused(_DAMAGED)
    method, names = struct.unpack_from("<H", head, 8)[0], sum(struct.unpack_from("<HH", head, 26))
    packed = _read_at(stream, member.start + 30 + names, member.packed)
    data = packed
    if method == zipfile.ZIP_DEFLATED:
        data = zlib.decompressobj(-zlib.MAX_WBITS).decompress(packed, member.size + 1)
    if zlib.crc32(data) != member.crc:
        raise ArchiveRefused(_DAMAGED)
    return data


def _read_at(stream: BinaryIO, start: int, size: int) -> bytes:
    """Read a range, bounded by the file before anything is allocated."""
    if not 0 <= start <= start + size <= _size(stream):
        raise ArchiveRefused(_DAMAGED)
    stream.seek(start)
    return stream.read(size)


class _Headers(io.RawIOBase):
    """A stream for tarfile's walk: no single read larger than a header has reason to be."""

    def __init__(self, inner: BinaryIO) -> None:
        self._inner = inner

    def read(self, size: int = -1) -> bytes:
        if not 0 <= size <= _HEADER_LIMIT:
            raise ArchiveRefused(_HOSTILE)
        return self._inner.read(size)

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        return self._inner.seek(offset, whence)

    def tell(self) -> int:
        return self._inner.tell()


def _gzip_members(stream: BinaryIO, limits: Limits) -> Iterator[Member]:
    """List a gzipped tar, or the one file that was gzipped."""
    tally = _Tally(_size(stream), limits)
    with gzip.GzipFile(fileobj=stream) as inflated:
        if archive_kind(inflated.read(512)) == "tar":
            inflated.seek(0)
            yield from _tar_walk(inflated, "gzip", tally)  # type: ignore[arg-type]
            return
        inflated.seek(0)
        size = 0
        while chunk := inflated.read(1 << 20):
            tally.add(len(chunk))
            size += len(chunk)
    yield Member("inflated", size, "gzip", 0, size, 0, tally.refusal("inflated", size))


def _tar_members(stream: BinaryIO, limits: Limits) -> Iterator[Member]:
    yield from _tar_walk(stream, "stored", _Tally(_size(stream), limits))


def _tar_walk(stream: BinaryIO, form: Literal["gzip", "stored"], tally: _Tally) -> Iterator[Member]:
    with tarfile.open(fileobj=_Headers(stream), mode="r:") as archive:
        # Counted header by header: the next one is looked for only behind a size that is allowed.
        while (info := archive.next()) is not None:
            tally.add(max(info.size, 0))
            archive.members.clear()  # type: ignore[attr-defined]  # tarfile would keep them all
            if not info.isdir():
                yield _tar_member(info, form, tally)


def _tar_member(info: tarfile.TarInfo, form: Literal["gzip", "stored"], tally: _Tally) -> Member:
    refused = tally.refusal(info.name, info.size)
    if not info.isreg() or info.issparse():
        refused = "the member is a link, a device or sparse; pack the file itself"
    return Member(info.name, info.size, form, info.offset_data, info.size, 0, refused)


class _Forward:
    """An inflating stream that is cheap to read forwards; going back starts again."""

    def __init__(self, path: Path) -> None:
        self._lock = Lock()
        self._stream = gzip.open(path, "rb")

    def read(self, start: int, size: int) -> bytes:
        with self._lock:
            self._stream.seek(start)
            return bytes(self._stream.read(size))

    def __del__(self) -> None:
        if hasattr(self, "_stream"):
            self._stream.close()


@lru_cache(maxsize=2)
def _forward(path: Path, modified: int, process: int) -> _Forward:
    return _Forward(path)


def _read_gzipped(path: Path, member: Member) -> bytes:
    stream = _forward(path, path.stat().st_mtime_ns, os.getpid())
    data = stream.read(member.start, member.size)
    if len(data) != member.size:
        raise ArchiveRefused(_DAMAGED)
    return data


_READERS = {"zip": _zip_members, "tar": _tar_members, "gzip": _gzip_members}

__all__ = ["Limits", "Member", "archive_kind", "members", "read_member"]
