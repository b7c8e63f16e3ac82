"""A rewritten data set as the bytes of a Part 10 file.

New file meta with nothing but what a reader needs, a preamble of zeros, no group lengths, no padding
and nothing after the last element.

References
----------
DICOM PS3.10 7.1 (file meta information), PS3.5 7.1.2 (explicit VR), 7.5 (sequences), A.4
(encapsulated pixels).
"""

from __future__ import annotations

from collections.abc import Iterator
from struct import pack

from pydicom.dataelem import DataElement, RawDataElement
from pydicom.dataset import Dataset

from voxelvault.deid.model import Rewritten
from voxelvault.deid.normal import stored
from voxelvault.dicom.decode import NATIVE
from voxelvault.dicom.vr import CODES
from voxelvault.dicom.write import IMPLEMENTATION, IMPLEMENTATION_NAME, element

_ITEM, _SEQUENCE_END = pack("<HH", 0xFFFE, 0xE000), pack("<HHI", 0xFFFE, 0xE0DD, 0)
_PIXELS = 0x7FE00010
_UNDEFINED = 0xFFFFFFFF
_SOP_CLASS, _SOP_INSTANCE = 0x00080016, 0x00080018
_LONG = frozenset(code.vr for code in CODES.values() if code.long)
_ZEROS = frozenset(["OB", "OD", "OF", "OL", "OV", "OW", "UI", "UN"])


def file_bytes(rewritten: Rewritten) -> bytes:
    """Return the file.

    Parameters
    ----------
    rewritten : Rewritten
        Its file meta's Transfer Syntax UID is an explicit little-endian one; encapsulated pixels are
        fragments with their offset table, without the delimiter at the end.

    Returns
    -------
    bytes
        The same for the same data set.
    """
    dataset = rewritten.dataset
    syntax = str(dataset.file_meta.TransferSyntaxUID)
    # Asked of the value, not of pydicom's dictionary, which lacks the newest syntaxes.
    body = b"".join(_dataset(dataset, syntax not in NATIVE))
    return bytes(128) + b"DICM" + _meta(dataset, syntax) + body


def _meta(dataset: Dataset, syntax: str) -> bytes:
    values: list[tuple[int, str, bytes]] = [
        (0x00020001, "OB", b"\0\1"),
        (0x00020002, "UI", _uid(dataset, _SOP_CLASS)),
        (0x00020003, "UI", _uid(dataset, _SOP_INSTANCE)),
        (0x00020010, "UI", syntax.encode()),
        (0x00020012, "UI", IMPLEMENTATION),
        (0x00020013, "SH", IMPLEMENTATION_NAME),
    ]
    elements = b"".join(element(tag, vr, value) for tag, vr, value in values if value)
    return element(0x00020000, "UL", pack("<I", len(elements))) + elements


def _uid(dataset: Dataset, tag: int) -> bytes:
    value = stored(dataset.get_item(tag)).value if tag in dataset else b""
    return value.strip(b"\0 ") if isinstance(value, bytes) else b""


def _dataset(dataset: Dataset, encapsulated: bool = False) -> Iterator[bytes]:
    for tag, item in sorted(dataset.items(), key=_number):
        if not tag & 0xFFFF or tag >> 16 <= 2:
            continue
        if encapsulated and tag == _PIXELS:
            yield from _fragments(stored(item).value)
        else:
            yield from _element(tag, item)


def _number(pair: tuple[int, object]) -> int:
    return int(pair[0])


def _element(tag: int, item: DataElement | RawDataElement) -> Iterator[bytes]:
    found = stored(item)
    vr = found.vr or "UN"
    if not isinstance(found.value, bytes):
        items = b"".join(_items(found.value))
        yield pack("<HH2sHI", tag >> 16, tag & 0xFFFF, b"SQ", 0, len(items)) + items
        return
    value = found.value
    if len(value) & 1:
        value += b"\0" if vr in _ZEROS else b" "
    size = len(value)
    if vr in _LONG or size > 0xFFFF:
        vr = vr if vr in _LONG else "UN"
        yield pack("<HH2sHI", tag >> 16, tag & 0xFFFF, vr.encode(), 0, size)
    else:
        yield pack("<HH2sH", tag >> 16, tag & 0xFFFF, vr.encode(), size)
    yield value


def _items(items: object) -> Iterator[bytes]:
    for item in items:  # type: ignore[attr-defined]
        body = b"".join(_dataset(item))
        yield _ITEM + pack("<I", len(body)) + body


def _fragments(value: object) -> Iterator[bytes]:
    """Yield encapsulated pixels with their delimiter, which pydicom's `encapsulate` leaves out."""
    yield pack("<HH2sHI", 0x7FE0, 0x0010, b"OB", 0, _UNDEFINED)
    assert isinstance(value, bytes)  # noqa: S101
    yield value
    yield _SEQUENCE_END if not value.endswith(_SEQUENCE_END) else b""


__all__ = ["file_bytes"]
