"""Header values by keyword, and what they say of the pixels.

References
----------
DICOM PS3.18 Annex F (JSON model), PS3.6 (keywords), PS3.3 C.7.6.3 (image pixel module).
"""

from __future__ import annotations

import json
from base64 import b64decode
from collections.abc import Iterator, Mapping
from functools import lru_cache
from typing import Any

from voxelvault.dicom.columns import Tags, columns, load_tags
from voxelvault.dicom.json_model import Model, Repeated, measured_model
from voxelvault.dicom.part10 import Part10
from voxelvault.dicom.vr import tags_by_keyword
from voxelvault.errors import MalformedDicom, NoPixels, UsageError
from voxelvault.model import FrameSpec

_encode = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode


class Header:
    """An object's attributes without bulk data: the DICOM JSON model, read by keyword.

    Attributes are named by keyword (`"Rows"`), by tag in eight hexadecimal digits (`"00291010"`,
    the way to private ones) or by tag as a number. `header["Rows"]` is the model's own
    ``{"vr": "US", "Value": [512]}``. Treat everything that comes out as read-only.
    """

    __slots__ = ("_model", "_text", "cells")

    def __init__(self, model: Model, text: str | None = None, cells: int = 0) -> None:
        self._model = model
        self._text = text
        self.cells = cells
        """What it takes in memory, in cells of about 512 bytes; 0 where nobody counted."""

    @classmethod
    def from_part10(cls, part10: Part10, repeated: Repeated | None = None) -> Header:
        """Read the header of a parsed object; it shares elements with others that had `repeated`.

        Raises
        ------
        TooLarge
            It would take more memory than any real header.
        """
        model, cells = measured_model(part10, repeated)
        return cls(model, cells=cells)

    @classmethod
    def from_json(cls, text: str) -> Header:
        """Read a header that `json` wrote, or anyone's DICOM JSON object.

        Raises
        ------
        MalformedDicom
            The text is no JSON object of elements.
        """
        try:
            model = json.loads(text)
        except (ValueError, RecursionError):
            model = None
        if not _is_model(model):
            raise MalformedDicom("the header is no DICOM JSON object; rebuild the catalog")
        return cls(model)

    def json(self) -> str:
        """Return the header as compact JSON."""
        if self._text is None:
            self._text = _encode(self._model)
        return self._text

    def __getitem__(self, name: str | int) -> Mapping[str, Any]:
        return self._model[_key(name)]

    def __contains__(self, name: str | int) -> bool:
        return _key(name) in self._model

    def __iter__(self) -> Iterator[str]:
        return iter(self._model)

    def __len__(self) -> int:
        return len(self._model)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Header) and self._model == other._model

    def __hash__(self) -> int:
        return hash(self.json())

    def __repr__(self) -> str:
        return f"<Header of {len(self)} attributes>"

    def get(self, name: str | int, default: Any = None) -> Any:
        """Return the first value, or `default` where there is none.

        A name comes as one string, a sequence as a list of Header, inline binary as bytes.
        """
        element = self._model.get(_key(name))
        if element is None:
            return default
        if element["vr"] == "SQ":
            return self.items_of(name) or default
        values = _values(element)
        return default if not values or values[0] is None else values[0]

    def values(self, name: str | int) -> list[Any]:
        """Return every value, None for an empty one among several; [] where there is none."""
        element = self._model.get(_key(name))
        return [] if element is None else _values(element)

    def items_of(self, name: str | int) -> list[Header]:
        """Return the items of a sequence, [] where there is none."""
        element = self._model.get(_key(name))
        if element is None or element.get("vr") != "SQ":
            return []
        return [Header(item or {}) for item in element.get("Value", ())]

    def name_groups(self, name: str = "PatientName") -> dict[str, str]:
        """Return a name's component groups: Alphabetic, Ideographic, Phonetic, as far as there."""
        element = self._model.get(_key(name), {})
        first = next(iter(element.get("Value", ())), None)
        return dict(first) if isinstance(first, dict) else {}

    def private(self, creator: str, group: int, number: int) -> Any:
        """Return the first value of a private element by its creator, None where there is none.

        Blocks move from file to file (PS3.5 7.8.1); `number` is the element's last two digits.
        """
        for block in range(0x10, 0x100):
            if self.get(group << 16 | block) == creator:
                return self.get(group << 16 | block << 8 | number)
        return None

    @property
    def transfer_syntax(self) -> str:
        """Transfer syntax UID that the object came in."""
        return str(self.get("AvailableTransferSyntaxUID", ""))


def _is_model(model: object) -> bool:
    """Tell whether accessors can rely on it: each element has a VR, values are lists, items are models."""
    return isinstance(model, dict) and all(map(_is_element, model.values()))


def _is_element(element: object) -> bool:
    if not isinstance(element, dict) or not isinstance(vr := element.get("vr"), str):
        return False
    values = element.get("Value", ())
    if not isinstance(values, list):
        return values == () and _is_binary(element)
    if vr == "SQ":
        return all(item is None or _is_model(item) for item in values)
    return vr != "PN" or all(value is None or _is_name(value) for value in values)


def _is_binary(element: Mapping[str, Any]) -> bool:
    return isinstance(element.get("BulkDataURI", ""), str) and isinstance(
        element.get("InlineBinary", ""), str
    )


def _is_name(value: object) -> bool:
    groups = value.values() if isinstance(value, dict) else (value,)
    return all(isinstance(group, str) for group in groups)


@lru_cache(maxsize=8192)
def _key(name: str | int) -> str:
    if isinstance(name, int):
        return f"{name:08X}"
    if name == "TransferSyntaxUID":
        return "00083002"
    tag = tags_by_keyword().get(name)
    if tag is not None:
        return f"{tag:08X}"
    if len(name) == 8 and not set(name.upper()) - set("0123456789ABCDEF"):
        return name.upper()
    raise UsageError("no such DICOM keyword; name attributes as PS3.6 does, or by eight hexadecimal digits")


def _values(element: Mapping[str, Any]) -> list[Any]:
    if "InlineBinary" in element:
        return [_decoded(element["InlineBinary"])]
    values = element.get("Value", [])
    if element["vr"] == "PN":
        return [person_name(value) or None for value in values]
    if element["vr"] == "SQ":
        return [Header(item or {}) for item in values]
    return list(values)


def _decoded(text: str) -> bytes:
    try:
        return b64decode(text)
    except ValueError:
        raise MalformedDicom("a header's binary value is no base64; rebuild the catalog") from None


def person_name(groups: Mapping[str, str] | str | None) -> str:
    """Return a name as DICOM writes it: component groups joined by `=`, trailing ones left out."""
    if isinstance(groups, str):
        return groups
    if not groups:
        return ""
    parts = [groups.get(group, "") for group in ("Alphabetic", "Ideographic", "Phonetic")]
    return "=".join(parts).rstrip("=")


def number_of_frames(header: Header) -> int:
    """Return NumberOfFrames, 1 where it is absent or nonsense; check it against the pixels."""
    value = header.get("NumberOfFrames", 1)
    return value if isinstance(value, int) and value > 0 else 1


def frame_spec(header: Header) -> FrameSpec:
    """Return what the header says of each frame.

    Parameters
    ----------
    header : Header
        Of an image.

    Returns
    -------
    FrameSpec
        As sent; only bounds that the standard sets are checked.

    Raises
    ------
    NoPixels
        The object has no rows, columns or pixel element.
    MalformedDicom
        The values exclude one another.

    References
    ----------
    DICOM PS3.3 C.7.6.3.1, C.7.6.24 (floating point), C.7.6.25 (double).
    """
    rows, columns_ = _count(header, "Rows"), _count(header, "Columns")
    width = 64 if 0x7FE00009 in header else 32 if 0x7FE00008 in header else 0
    if not rows or not columns_ or not (width or 0x7FE00010 in header):
        raise NoPixels("the object holds no image; export it to read it with a program of its kind")
    allocated = width or _count(header, "BitsAllocated")
    stored = width or _count(header, "BitsStored") or allocated
    samples = _count(header, "SamplesPerPixel") or 1
    if allocated not in (1, 8, 12, 16, 24, 32, 64) or stored > allocated or samples > 4:
        raise MalformedDicom(
            "the header's pixel description contradicts itself; ask the sender for the file again"
        )
    return FrameSpec(
        rows=rows,
        columns=columns_,
        samples=samples,
        bits_allocated=allocated,
        bits_stored=stored,
        pixel_representation=int(_count(header, "PixelRepresentation") == 1),
        photometric=str(header.get("PhotometricInterpretation", "MONOCHROME2")),
        planar=int(_count(header, "PlanarConfiguration") == 1),
        floating=bool(width),
    )


def _count(header: Header, keyword: str) -> int:
    value = header.get(keyword)
    return value if isinstance(value, int) and value > 0 else 0


__all__ = ["Header", "Tags", "columns", "frame_spec", "load_tags", "number_of_frames", "person_name"]
