"""A DICOMDIR for released files, made from them alone: which patient, study and series each is of.

What a record must have and a file lacks is given a value that says nothing, as a released file lacks
its study's date by the Basic Profile.

References
----------
DICOM PS3.3 F.3 (directory information), F.5 (directory records), PS3.10 8 (file IDs and DICOMDIR).
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from struct import pack, pack_into

from voxelvault.deid.scratch import temporary
from voxelvault.dicom.part10 import EXPLICIT_LITTLE, Part10
from voxelvault.dicom.sources import MEDIA_DIRECTORY
from voxelvault.dicom.write import element, file_head
from voxelvault.releasing.directory_records import UNKNOWN, plain, record, record_type

NAME = "DICOMDIR"

_ITEM = pack("<HH", 0xFFFE, 0xE000)
_NEXT, _LOWER = 16, 38
"""Where a record's two offsets stand in its item, in bytes."""

_SCHEMA = """
create table records (
    patient blob, study blob, series blob, file blob, data blob,
    primary key (patient, study, series, file)
) without rowid
"""
_LEVELS = (("PATIENT", 0x00100020), ("STUDY", 0x0020000D), ("SERIES", 0x0020000E))
_SOP_CLASS, _SOP_INSTANCE = 0x00080016, 0x00080018
_COLUMNS = ("patient", "study", "series", "file")
_THERE = "select 1 from records where patient = ? and study = ? and series = ? and file = ?"


class MediaDirectory:
    """A DICOMDIR in the making; its records lie on the disk."""

    def __init__(self) -> None:
        self._rows = temporary(_SCHEMA)
        self._every = hashlib.sha256()
        self._before: tuple[bytes, ...] = ()

    def add(self, path: str, file: Part10) -> None:
        """Enter a file.

        Parameters
        ----------
        path : str
            With slashes; the same files in the same order make the same directory.
        file : Part10
            Its content.
        """
        sop_class, instance = (plain(file, tag) for tag in (_SOP_CLASS, _SOP_INSTANCE))
        self._every.update(b"%b\0%b\0" % (path.encode(), instance))
        # No key is empty: an empty one stands for the level above.
        place = tuple(b"=" + (plain(file, tag) or UNKNOWN.encode()) for _, tag in _LEVELS)
        if place != self._before:
            self._above(place, file)
        named = {
            0x00041500: element(0x00041500, "CS", path.replace("/", "\\").encode()),
            0x00041510: element(0x00041510, "UI", sop_class),
            0x00041511: element(0x00041511, "UI", instance),
            0x00041512: element(0x00041512, "UI", file.transfer_syntax.encode()),
        }
        kind = record_type(sop_class.decode("ascii", "replace"))
        self._put((*place, b"=" + path.encode()), _item(kind, record(kind, file, named)))

    def _above(self, place: tuple[bytes, ...], file: Part10) -> None:
        """Enter patient, study and series of a file, but for those that are there."""
        for depth, (kind, _) in enumerate(_LEVELS, 1):
            key = _padded(place[:depth])
            if self._rows.execute(_THERE, key).fetchone() is None:
                self._put(key, _item(kind, record(kind, file)))
        self._before = place

    def parts(self) -> Iterator[bytes]:
        """Yield the file, piece by piece."""
        uid = f"2.25.{int.from_bytes(self._every.digest()[:16], 'big')}"
        meta = file_head(MEDIA_DIRECTORY.encode(), uid.encode(), EXPLICIT_LITTLE)
        head = len(meta) + len(_group(0, 0)) + 12  # the sequence's own header
        whole, last = self._size(()), self._size(self._last())
        ends = (head, head + whole - last) if whole else (0, 0)
        yield meta + _group(*ends) + pack("<HH2sHI", 0x0004, 0x1220, b"SQ", 0, whole)
        at, stops = head, [head + whole]
        for *place, data in self._rows.execute("select * from records order by 1, 2, 3, 4"):
            named = tuple(part for part in place if part)
            stop = at + self._size(named)
            item, below = bytearray(data), at + len(data)
            del stops[len(named) :]
            pack_into("<I", item, _NEXT, stop if stop < stops[-1] else 0)
            pack_into("<I", item, _LOWER, below if below < stop else 0)
            stops.append(stop)
            yield bytes(item)
            at = below

    def _put(self, place: tuple[bytes, ...], data: bytes) -> None:
        self._rows.execute("insert into records values (?, ?, ?, ?, ?)", (*_padded(place), data))

    def _size(self, place: tuple[bytes, ...]) -> int:
        """Return the length of a record and of all below it, in bytes."""
        query = f"select coalesce(sum(length(data)), 0) from records {_where(place)}"  # noqa: S608
        return int(self._rows.execute(query, place).fetchone()[0])

    def _last(self) -> tuple[bytes, ...]:
        """Return the place of the last patient; none where there is no file."""
        return self._rows.execute("select patient from records order by 1 desc limit 1").fetchone() or ()


def _padded(place: tuple[bytes, ...]) -> tuple[bytes, ...]:
    return (*place, *[b""] * (len(_COLUMNS) - len(place)))


def _where(place: tuple[bytes, ...]) -> str:
    wanted = " and ".join(f"{column} = ?" for column, _ in zip(_COLUMNS, place, strict=False))
    return f"where {wanted}" if wanted else ""


def _item(kind: str, content: bytes) -> bytes:
    """Return the item of a record, its offsets 0."""
    data = (
        element(0x00041400, "UL", bytes(4))
        + element(0x00041410, "US", b"\xff\xff")
        + element(0x00041420, "UL", bytes(4))
        + element(0x00041430, "CS", kind.encode())
        + content
    )
    return _ITEM + pack("<I", len(data)) + data


def _group(first: int, last: int) -> bytes:
    return (
        element(0x00041130, "CS", b"")
        + element(0x00041200, "UL", pack("<I", first))
        + element(0x00041202, "UL", pack("<I", last))
        + element(0x00041212, "US", pack("<H", 0))
    )


__all__ = ["NAME", "MediaDirectory"]
