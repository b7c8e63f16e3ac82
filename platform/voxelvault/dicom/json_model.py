"""A parsed data set as the DICOM JSON model, bulk data left out.

Differences from `pydicom.Dataset.to_json_dict`, all on purpose:

- group lengths and group 0002 are absent, as PS3.18 F.2 wants;
- bulk data is a `BulkDataURI` of the form ``?offset=…&length=…``, counted in the data set's bytes;
- empty values within several are null (F.2.5), empty components of names are absent;
- DS and IS that are no numbers stay text; NaN and infinities are the strings "NaN", "inf";
- UN of known length that holds items is a sequence; a number field of a wrong length is UN;
- UN of a known tag has its dictionary VR, but numbers in a big endian file stay UN: they are little
  endian there (PS3.5 6.2.2), which pydicom overlooks;
- text is split after it is decoded, so half a Chinese character is no backslash;
- NUL within text is U+FFFD, since databases stumble over it.

References
----------
DICOM PS3.18 Annex F, PS3.5 6.2.
"""

from __future__ import annotations

from base64 import b64encode
from math import inf, isfinite
from struct import unpack
from typing import Any, TypeAlias, TypeVar

from voxelvault.dicom import charset
from voxelvault.dicom.elements import TooLarge
from voxelvault.dicom.part10 import PIXEL_TAGS, Dataset, Part10
from voxelvault.dicom.vr import BINARY, NUMBERS, SINGLE
from voxelvault.model import Buffer

Model: TypeAlias = dict[str, dict[str, Any]]

INLINE_LIMIT = 1024
"""Bytes of binary that still stand in the JSON."""

NUMBERS_LIMIT = 16 << 10
"""Bytes of binary numbers that still do."""

TEXT_LIMIT = 1 << 20
"""Bytes of text, decimal strings included, that still do."""

MAX_CELLS = 1_000_000
"""What one header may cost in memory, in cells of 512 bytes, or twice that: more than any real one does."""

_BYTES_A_CELL = {"PN": 2, "DS": 6, "IS": 6}
"""Of a value, as a power of two: what `1\\1\\1…` grows to is many times its length, of names most."""
_OTHER_BYTES_A_CELL = 5

REPEATED_LIMIT, REPEATED_MOST = 256, 16_384
"""Bytes of a value that `Repeated` keeps, and how many values."""

_PAD = "\0 "
_BEYOND: dict[type, float] = {int: 2**63, float: inf}
_PLAIN = frozenset(["AE", "AS", "CS", "DA", "DT", "TM", "UI"])
_DECODED = frozenset(["LO", "SH", "UC"])
_PIXEL_REPRESENTATION = 0x00280103
_CHARACTER_SET = 0x00080005
_TRANSFER_SYNTAX = "00083002"


class Repeated:
    """Elements that were met before: the headers of a series differ in a few values.

    Headers made with the same one share what they have in common, which saves most of the time and
    memory of a header. It holds values of patients: keep it no longer than the files at hand.
    """

    __slots__ = ("elements", "keys")

    def __init__(self) -> None:
        self.elements: dict[tuple[Any, ...], dict[str, Any]] = {}
        self.keys: dict[int, str] = {}

    def key_of(self, tag: int) -> str:
        """Return a tag's eight digits, and know them from now on."""
        return _remembered(self.keys, tag, "%08X" % tag)  # noqa: UP031 - half the time of an f-string


K = TypeVar("K")
V = TypeVar("V")


def _remembered(known: dict[K, V], key: K, value: V) -> V:
    if len(known) >= REPEATED_MOST:
        known.clear()
    known[key] = value
    return value


def json_model(part10: Part10) -> Model:
    """Return the JSON model of a parsed object.

    Parameters
    ----------
    part10 : Part10
        From `part10.parse`.

    Returns
    -------
    dict
        Eight hexadecimal digits to ``{"vr": …, "Value": […]}``. The transfer syntax stands as
        (0008,3002) AvailableTransferSyntaxUID, group 0002 having no place in the model.

    Raises
    ------
    TooLarge
        It would take more memory than any real header.

    References
    ----------
    DICOM PS3.18 F.2.
    """
    return measured_model(part10)[0]


def measured_model(part10: Part10, repeated: Repeated | None = None) -> tuple[Model, int]:
    """Return what `json_model` does, and how many cells it costs, did it share nothing."""
    writer = _Writer(part10.data, part10.big_endian, Repeated() if repeated is None else repeated)
    model = writer.dataset(part10.dataset, charset.encodings_of(b""), 0)
    model[_TRANSFER_SYNTAX] = {"vr": "UI", "Value": [part10.transfer_syntax]}
    return model, writer.cells


class _Writer:
    """Turns the elements of one buffer into values."""

    __slots__ = ("_data", "_order", "_repeated", "cells")

    def __init__(self, data: Buffer, big_endian: bool, repeated: Repeated) -> None:
        self._repeated = repeated
        self.cells = 0
        self._data = data
        self._order = ">" if big_endian else "<"

    def dataset(self, elements: Dataset, encodings: tuple[str, ...], signed: int) -> Model:
        """Return one data set; `encodings` and `signed` are inherited by the items within."""
        data, keys, order = self._data, self._repeated.keys, self._order
        known = self._repeated.elements
        if (named := elements.get(_CHARACTER_SET)) is not None:
            encodings = charset.encodings_of(bytes(data[named.start : min(named.stop, named.start + 256)]))
        if (sign := elements.get(_PIXEL_REPRESENTATION)) is not None and sign.stop - sign.start == 2:
            (signed,) = unpack(order + "H", data[sign.start : sign.stop])
        model: Model = {}
        for tag, vr, start, stop, items in elements.values():
            if not tag & 0xFFFF:
                continue
            if len(vr) != 2:
                vr = unambiguous(vr, tag, stop - start, signed)
            key = keys.get(tag) or self._repeated.key_of(tag)
            if items is not None:
                values: Any = [self.dataset(item, encodings, signed) for item in items]
                model[key] = {"vr": vr, "Value": values} if values else {"vr": vr}
            elif start == stop:
                model[key] = {"vr": vr}
            elif tag in PIXEL_TAGS or stop - start > _limit(vr):
                model[key] = {"vr": vr, "BulkDataURI": f"?offset={start}&length={stop - start}"}
            else:
                self.cells += (stop - start) >> _BYTES_A_CELL.get(vr, _OTHER_BYTES_A_CELL)
                if self.cells > MAX_CELLS:
                    raise TooLarge("the header holds more values than any real one; leave the file out")
                raw = bytes(data[start:stop])
                told = known.get(same := (vr, raw, encodings, order))
                if told is None:
                    told = self._element(vr, raw, encodings)
                    if len(raw) <= REPEATED_LIMIT:
                        _remembered(known, same, told)
                model[key] = told
        self.cells += 1 + len(model)
        return model

    def _element(self, vr: str, raw: bytes, encodings: tuple[str, ...]) -> dict[str, Any]:
        if vr in BINARY:
            return _inline(vr, raw)
        values: list[Any]
        if vr in _PLAIN:
            values = _split(str(raw, "latin-1"))
        elif vr == "DS":
            values = [_number(text, float) for text in _split(str(raw, "latin-1"))]
        elif vr == "IS":
            values = [_number(text, int) for text in _split(str(raw, "latin-1"))]
        elif vr in _DECODED:
            values = _split(charset.decode(raw, encodings))
        elif vr == "PN":
            values = [_person(text) for text in _split(charset.decode(raw, encodings, name=True))]
        elif vr in NUMBERS:
            return self._numbers(vr, raw)
        elif vr in SINGLE:
            text = _clean(
                (str(raw, "latin-1") if vr == "UR" else charset.decode(raw, encodings)).rstrip(_PAD)
            )
            values = [text] if text else []
        elif vr == "AT" and not len(raw) % 4:
            pairs = unpack(f"{self._order}{len(raw) // 2}H", raw)
            values = ["%04X%04X" % pair for pair in zip(pairs[::2], pairs[1::2], strict=True)]  # noqa: UP031
        else:
            return _inline("UN", raw)
        return {"vr": vr, "Value": values} if values else {"vr": vr}

    def _numbers(self, vr: str, raw: bytes) -> dict[str, Any]:
        code, size = NUMBERS[vr]
        if len(raw) % size:
            return _inline("UN", raw)
        values: list[Any] = list(unpack(f"{self._order}{len(raw) // size}{code}", raw))
        if code in "fd":
            values = [value if isfinite(value) else _not_finite(value) for value in values]
        return {"vr": vr, "Value": values}


def _limit(vr: str) -> int:
    if vr in BINARY:
        return INLINE_LIMIT
    return NUMBERS_LIMIT if vr in NUMBERS or vr == "AT" else TEXT_LIMIT


def unambiguous(vr: str, tag: int, length: int, signed: int) -> str:
    """Decide what the dictionary leaves open, as PS3.5 A.1 and PS3.3 C.11.1.1 do."""
    if vr.startswith("US or SS"):
        return "SS" if signed == 1 else "US"
    if vr == "US or OW":
        return "US" if length == 2 else "OW"
    return "OW" if vr == "OB or OW" else "UN"


def _inline(vr: str, raw: bytes) -> dict[str, Any]:
    if len(raw) > INLINE_LIMIT:
        return {"vr": vr}
    return {"vr": vr, "InlineBinary": b64encode(raw).decode("ascii")}


def _split(text: str) -> list[str | None]:
    """Split a value field; padding goes, an empty field has no values, empty ones are None."""
    text = text.strip(_PAD)
    if "\0" in text:
        text = _clean(text)
    if "\\" not in text:
        return [text] if text else []
    return [part.strip(_PAD) or None for part in text.split("\\")]


def _clean(text: str) -> str:
    return text.replace("\0", "\ufffd")


def _number(text: str | None, kind: type[int] | type[float]) -> int | float | str | None:
    """Return the number, or the text where it is none (PS3.18 F.2.3 allows both)."""
    if text is None:
        return None
    try:
        value = kind(text)
    except ValueError:
        return _whole(text) if kind is int else text
    # Thousands of digits are a number that neither a float nor a column holds.
    return value if abs(value) < _BEYOND[kind] and "_" not in text else text


def _whole(text: str) -> int | str:
    """Forgive an IS such as `1.0`."""
    try:
        value = float(text)
    except ValueError:
        return text
    return int(value) if value.is_integer() and "_" not in text and abs(value) < 2**53 else text


def _not_finite(value: float) -> str:
    return "NaN" if value != value else ("inf" if value > 0 else "-inf")


def _person(text: str | None) -> dict[str, str] | None:
    if text is None:
        return None
    groups = zip(("Alphabetic", "Ideographic", "Phonetic"), text.split("="), strict=False)
    return {group: stripped for group, part in groups if (stripped := part.strip(_PAD))}


__all__ = [
    "INLINE_LIMIT",
    "MAX_CELLS",
    "Model",
    "NUMBERS_LIMIT",
    "Repeated",
    "TEXT_LIMIT",
    "json_model",
    "measured_model",
    "unambiguous",
]
