"""Headers of stored instances, parsed again as they were when they came in."""

from __future__ import annotations

import mmap
from collections.abc import Iterator
from dataclasses import dataclass

from voxelvault.dicom.part10 import parse
from voxelvault.dicom.read import Header
from voxelvault.errors import IntegrityError
from voxelvault.model import Buffer
from voxelvault.storage.codecs import DICOM_FRAME
from voxelvault.storage.pack import InstanceRecord
from voxelvault.storage.pack_reader import PackReader

PIXELS = 64 << 10
"""Bytes of pixels up to which they are read too: a header holds small values whole."""


@dataclass(frozen=True, slots=True)
class Parsed:
    """An instance's header, its transfer syntax, and how its pixels are stored."""

    header: Header
    transfer_syntax: str
    pixels: str


def parsed(reader: PackReader, record: InstanceRecord) -> Parsed:
    """Parse a stored instance again; large pixels are left zero, which no header shows.

    Raises
    ------
    IntegrityError
        What is stored can't be read.
    """
    part10 = parse(_file(reader, record))
    if record.stack >= 0:
        own = reader.manifest.stacks[record.stack].key.codec == DICOM_FRAME
        pixels = "codestream" if own else "array"
    else:
        pixels = "none" if part10.pixels is None else "undecodable"
    return Parsed(Header.from_part10(part10), part10.transfer_syntax, pixels)


def _file(reader: PackReader, record: InstanceRecord) -> Buffer:
    if record.original is not None or sum(record.pieces[1::2]) <= PIXELS:
        return b"".join(reader.instance_bytes(record))
    # Anonymous memory: pages that are never written cost nothing.
    whole = mmap.mmap(-1, record.length)
    at, literals = 0, _Taking(reader.literals(record))
    for number, length in enumerate(record.pieces):
        if number % 2 == 0:
            whole[at : at + length] = literals.take(length)
        at += length
    if at != record.length:
        raise IntegrityError("a stored file's parts do not make it up; run `voxelvault verify`")
    return memoryview(whole)


class _Taking:
    """Takes so many bytes at a time from pieces of other lengths."""

    def __init__(self, pieces: Iterator[bytes]) -> None:
        self._pieces = pieces
        self._left = bytearray()

    def take(self, length: int) -> bytes:
        while len(self._left) < length:
            self._left += next(self._pieces)
        taken = bytes(self._left[:length])
        del self._left[:length]
        return taken


__all__ = ["Parsed", "parsed"]
