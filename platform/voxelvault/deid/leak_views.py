"""Other readings of bytes: inflated, base64, hexadecimal; and the text of a data set by element.

Part of the second reader: it shares no code with the rewriting. Every reading is bounded by a
budget, so no file can make it run long or fill the memory.
"""

from __future__ import annotations

import binascii
import gzip
import io
import re
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache

from voxelvault.deid import leak_charset
from voxelvault.dicom.part10 import Dataset, Element, Part10
from voxelvault.dicom.pixel_span import PixelSpan
from voxelvault.errors import MalformedDicom
from voxelvault.model import Buffer

INFLATED_MOST = 32 << 20
"""Bytes that all compressed streams within one file may inflate to, together."""

# Noise that happens to begin as a stream does inflates to noise.
_BROKEN_MOST = 64 << 10
_STREAM = re.compile(rb"\x1f\x8b\x08|\x78[\x01\x5e\x9c\xda]|PK\x03\x04", re.DOTALL)
_BASE64 = re.compile(rb"[A-Za-z0-9+/_-]{6,}(?:\r?\n[A-Za-z0-9+/_-]{4,})*")
_HEX = re.compile(rb"[0-9A-Fa-f]{8,}|(?:(?:\\x|0x|%)?[0-9A-Fa-f]{2}[ :,-]?){4,}")
_ESCAPE = re.compile(
    rb"\\u(?P<json>[0-9A-Fa-f]{4})|&#(?:x(?P<hex>[0-9A-Fa-f]{1,6})|(?P<decimal>\d{1,7}));"
    rb"|(?P<bytes>(?:%[0-9A-Fa-f]{2}){2,}|(?:=[0-9A-F]{2}){2,})"
)
_WORD_MOST = 48
_NOT_HEX = re.compile(rb"\\x|0x|[^0-9A-Fa-f]")
_URL_SAFE = bytes.maketrans(b"-_", b"+/")
_PRINTABLE = bytes(range(32, 127)) + b"\t\r\n" + bytes(range(0xA0, 0x100))
_RUN = re.compile(rb"[\x20-\x7e\x80-\xff]{12,}")
TEXT_VRS = frozenset(["PN", "LO", "SH", "LT", "ST", "UT", "UC", "UN"])
_CHARACTER_SET = 0x00080005
_LARGE_BINARY = 8 << 10
_BINARY = frozenset(["OB", "OW", "OF", "OD", "OL", "OV", "UN"])


@dataclass
class Budget:
    """How much one file may still inflate to."""

    left: int = INFLATED_MOST

    def spend(self, count: int) -> None:
        """Take from the budget; what can't be searched to its end can't be vouched for."""
        self.left -= count
        if self.left < 0:
            raise MalformedDicom("the file holds more compressed data than can be searched; leave it out")


def inflated(data: Buffer, start: int, stop: int, budget: Budget, *, noise: bool = False) -> Iterator[bytes]:
    """Yield what zlib, gzip and zip streams that begin between two offsets inflate to.

    Parameters
    ----------
    data : bytes-like
        The streams may run on to its end.
    start, stop : int
        Where they begin.
    budget : Budget
        Shared by all streams of a file.
    noise : bool
        Pixels: what only looks like a stream may inflate to anything, and is no reason to refuse.

    Raises
    ------
    MalformedDicom
        The budget is spent.
    """
    with memoryview(data) as view:
        piece = bytes(view[start:stop])
        for match in _STREAM.finditer(piece):
            at, bits = start + match.start(), zlib.MAX_WBITS | 32
            if match[0] == b"PK\x03\x04":
                name = match.start() + 26
                at += 30 + sum(int.from_bytes(piece[one : one + 2], "little") for one in (name, name + 2))
                bits = -zlib.MAX_WBITS
            out = _inflate(view, at, bits, budget, noise)
            if len(out) >= 4:
                yield out


def _inflate(view: memoryview, at: int, bits: int, budget: Budget, noise: bool) -> bytes:
    """Inflate as far as it goes: a stream that breaks has told what came before."""
    inflater, out, step, total = zlib.decompressobj(bits), [], 512, 0
    with suppress(zlib.error):
        # Most places that look like a stream are none: they break within the first bytes.
        while at < len(view) and not inflater.eof and total <= budget.left:
            out.append(inflater.decompress(view[at : at + step], budget.left + 1 - total))
            at, step, total = at + step, 1 << 18, total + len(out[-1])
    whole = b"".join(out)
    if inflater.eof or (total > budget.left and not noise):
        budget.spend(total)
        return whole
    return whole[:_BROKEN_MOST]


def windows(data: Buffer, size: int, overlap: int) -> Iterator[bytes]:
    """Yield a file's content in windows that overlap, a gzip file's inflated; memory stays flat.

    Raises
    ------
    MalformedDicom
        A gzip file is damaged or cut.
    """
    view = memoryview(data)
    plain = io.BytesIO(view)
    read = gzip.GzipFile(fileobj=plain).read if bytes(view[:3]) == b"\x1f\x8b\x08" else plain.read
    last = b""
    try:
        while piece := read(size):
            yield last + piece
            last = piece[-overlap:]
    except (EOFError, OSError, zlib.error):
        raise MalformedDicom("a compressed file is damaged; write it again") from None


def decoded(data: bytes) -> Iterator[tuple[str, bytes]]:
    """Yield what runs of base64 and hexadecimal digits decode to, at every alignment, joined.

    Only what reads as text or starts a compressed stream is kept: any word of letters is base64
    of something.
    """
    pieces = [piece for run in _BASE64.findall(data) for piece in _known(_from_base64, run)]
    if pieces:
        yield "base64", b"\0\0\n".join(pieces)
    pieces = [piece for run in _HEX.findall(data) for piece in _known(_from_hex, run)]
    if pieces:
        yield "hex", b"\0\0\n".join(pieces)
    if _ESCAPE.search(data):
        yield "escaped", _ESCAPE.sub(_unescaped, data)


def _known(how: Callable[[bytes], Iterator[bytes]], run: bytes) -> Iterable[bytes]:
    """Decode a run; of short ones, which are the words of every header, it is remembered."""
    return _remembered(how, run) if len(run) <= _WORD_MOST else how(run)


@lru_cache(maxsize=1 << 15)
def _remembered(how: Callable[[bytes], Iterator[bytes]], run: bytes) -> tuple[bytes, ...]:
    return tuple(how(run))


def _unescaped(match: re.Match[bytes]) -> bytes:
    """Return the character of one escape of JSON, XML, a URL or quoted-printable, in UTF-8."""
    if match["bytes"]:
        return bytes.fromhex(match["bytes"].translate(None, b"%=").decode())
    digits = match["json"] or match["hex"]
    number = int(digits, 16) if digits else int(match["decimal"])
    return chr(number).encode("utf-8", "replace") if number < 0x110000 else b"?"


def _from_base64(run: bytes) -> Iterator[bytes]:
    if run.isdigit():  # what is left of a UID between two dots; hexadecimal reads it, too
        return
    run = run.replace(b"\r", b"").replace(b"\n", b"").translate(_URL_SAFE)
    for start in range(4):
        part = run[start:]
        part = part[: len(part) - (len(part) % 4 == 1)]
        piece = binascii.a2b_base64(part + b"=" * (-len(part) % 4))
        if tells(piece):
            yield piece


def _from_hex(run: bytes) -> Iterator[bytes]:
    digits = _NOT_HEX.sub(b"", run)
    for start in range(2):
        part = digits[start:]
        piece = bytes.fromhex(part[: len(part) & ~1].decode())
        if tells(piece):
            yield piece


def tells(piece: bytes) -> bool:
    """Say whether decoded bytes read as text of some encoding, or begin a compressed stream."""
    if len(piece) < 4:
        return False
    if _STREAM.match(piece):
        return True
    strange = len(piece.translate(None, _PRINTABLE))
    if strange == 0:
        return True
    zeros = piece.count(0)
    return strange <= zeros + len(piece) // 16 and zeros >= len(piece) // 3  # UTF-16


@dataclass(frozen=True)
class Region:
    """Bytes of a file; `noise` for pixels and large tables, where short values occur by chance.

    Attributes
    ----------
    start, stop : int
        In `Part10.data`.
    shortest : int
        Bytes that a value needs to count as found here.
    """

    start: int
    stop: int
    shortest: int = 0


def regions(part10: Part10, pixel_length: int, bits_allocated: int) -> list[Region]:
    """Cut an object into its header, its pixels and its large tables, in order.

    Parameters
    ----------
    part10 : Part10
        The written file.
    pixel_length : int
        Bytes of native pixels that its header promises; what lies behind them is no pixel.
    bits_allocated : int
        Of a pixel: eight-bit grey is a letter more often than any other noise.

    Returns
    -------
    list of Region
        They cover all bytes of `part10.data`.
    """
    noisy = [
        Region(element.start, element.stop, 6)
        for element in leaves(part10.dataset)
        if element.vr in _BINARY and element.stop - element.start > _LARGE_BINARY
    ]
    if part10.pixels is not None:
        span = part10.pixels
        noisy = [one for one in noisy if one.stop <= span.start or span.stop <= one.start]
        noisy += _pixel_regions(part10.data, span, pixel_length, 8 if bits_allocated == 8 else 6)
    return _with_gaps(sorted(noisy, key=lambda one: one.start), len(part10.data))


def _pixel_regions(data: Buffer, span: PixelSpan, length: int, shortest: int) -> Iterator[Region]:
    if not span.encapsulated:
        yield Region(span.start, min(span.stop, span.start + length), shortest)
        return
    for start, stop in span.fragments:
        scan = _scan_start(data, start, stop)
        end = bytes(data[max(scan, stop - (64 << 10)) : stop]).rfind(b"\xff\xd9")
        yield Region(scan, stop if end < 0 else max(scan, stop - (64 << 10)) + end, 6)


def _scan_start(data: Buffer, start: int, stop: int) -> int:
    """Return where a codestream's entropy-coded part begins; its segments before are no noise."""
    head = bytes(data[start : min(stop, start + (256 << 10))])
    if not head.startswith((b"\xff\xd8", b"\xff\x4f")):
        return start
    found = head.find(b"\xff\xda" if head.startswith(b"\xff\xd8") else b"\xff\x93")
    return start if found < 0 else start + found


def _with_gaps(noisy: list[Region], length: int) -> list[Region]:
    cut, end = [], 0
    for one in noisy:
        if one.start > end:
            cut.append(Region(end, one.start))
        cut.append(one)
        end = max(end, one.stop)
    return [*cut, Region(end, length)] if end < length else cut


def printable_runs(data: bytes) -> bytes:
    """Return the runs of at least twelve printable characters in binary data."""
    return b"\0\n".join(_RUN.findall(data))


def leaves(dataset: Dataset) -> Iterator[Element]:
    """Yield every element that is no sequence, at every depth, in file order."""
    for element in dataset.values():
        if element.items is None:
            yield element
        for item in element.items or ():
            yield from leaves(item)


def texts(data: Buffer, dataset: Dataset, encodings: tuple[str, ...]) -> Iterator[tuple[Element, str]]:
    """Yield each text of a data set, decoded as declared where it stands."""
    if (named := dataset.get(_CHARACTER_SET)) is not None:
        encodings = leak_charset.codecs_of(bytes(data[named.start : named.stop]))
    for element in dataset.values():
        for item in element.items or ():
            yield from texts(data, item, encodings)
        if element.vr in TEXT_VRS and element.items is None:
            large = element.stop - element.start > _LARGE_BINARY
            raw = b"" if element.vr == "UN" and large else bytes(data[element.start : element.stop])
            if element.vr == "UN" and raw.translate(None, _PRINTABLE + b"\0\x1b"):
                continue
            yield element, leak_charset.decoded(raw, encodings, name=element.vr == "PN")


__all__ = [
    "Budget",
    "INFLATED_MOST",
    "Region",
    "decoded",
    "inflated",
    "leaves",
    "printable_runs",
    "regions",
    "tells",
    "texts",
    "windows",
]
