"""The rules as data: PS3.15 Table E.1-1, the safe private list, and what we say of everything else.

All is keyed on tag numbers, since dictionaries lag behind the standard. The CSV files beside this
module name their edition in the first line.

References
----------
DICOM PS3.15 Table E.1-1, Table E.3.10-1; PS3.3 (types of attributes).
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from hashlib import sha256
from importlib.resources import files
from typing import NamedTuple

from voxelvault.deid.model import Option

EDITION = "2026d"
"""Edition of PS3.15 that the tables are taken from; their first lines say so too."""

FILES = (
    "e1-1.csv",
    "safe-private.csv",
    "required.csv",
    "filled.csv",
    "storage-classes.csv",
    "public.csv",
    "pseudonyms.csv",
    "schemes.csv",
    "meanings.csv",
    "terms.txt",
)
STANDARD = "standard"
"""Value of a rule that puts a standard value in place, such as sRGB for a colour profile."""

_STORAGE = "1.2.840.10008.5.1.4."


@dataclass(frozen=True)
class Row:
    """One row of Table E.1-1.

    Attributes
    ----------
    key : str
        Eight hexadecimal digits, `50xxxxxx`, `60xx3000`, `60xx4000` or `private`.
    vr : str
        As the data dictionary has it, `OB or OW` included; empty where several are possible.
    basic : str
        The action of the Basic Profile, `X/Z/D` and the like where the type decides.
    options : dict of Option to str
        `K` or `C`, for the options that say anything.
    """

    key: str
    keyword: str
    vr: str
    basic: str
    options: dict[Option, str]

    def __hash__(self) -> int:
        return hash(self.key)


class Public(NamedTuple):
    """What happens to a public element outside the table."""

    key: str
    action: str
    why: str


def lines(name: str) -> list[str]:
    """Return the lines of a data file that are no comments."""
    text = (files("voxelvault.deid") / "rules" / name).read_text(encoding="utf-8")
    return [line for line in text.splitlines() if line and not line.startswith("#")]


def _rows(name: str, delimiter: str = ",") -> Iterator[dict[str, str]]:
    return csv.DictReader(lines(name), delimiter=delimiter)


@cache
def table() -> dict[str, Row]:
    """Return the rows of Table E.1-1 by key."""
    return {
        row["tag"]: Row(
            row["tag"],
            row["keyword"],
            row["vr"],
            row["basic"],
            {option: row[option] for option in Option if row.get(option)},
        )
        for row in _rows("e1-1.csv")
    }


def is_tag(key: str) -> bool:
    """Tell whether the key of a row is one tag, not a group or `private`."""
    return bool(re.fullmatch("[0-9A-F]{8}", key))


@cache
def _numbered() -> dict[int, Row]:
    return {int(key, 16): row for key, row in table().items() if is_tag(key)}


def numbers() -> Iterable[int]:
    """Return the tags that have a row of their own in the table."""
    return _numbered().keys()


def listed(tag: int) -> Row | None:
    """Return the row of the table for a tag, None where it has none."""
    row = _numbered().get(tag)
    if row is not None:
        return row
    group = tag >> 16
    if group & 1:
        return table()["private"] if group > 8 else None
    if group & 0xFFE1 == 0x5000:
        return table()["50xxxxxx"]
    if group & 0xFFE1 == 0x6000:
        return table().get(f"60xx{tag & 0xFFFF:04X}")
    return None


@cache
def safe_private() -> dict[tuple[int, int, str], str]:
    """Return VR by group, element within the block, and creator, of the safe private list."""
    return {
        (int(row["group"], 16), int(row["element"], 16), row["creator"]): row["vr"]
        for row in _rows("safe-private.csv")
    }


@cache
def _required() -> dict[tuple[int, bool], dict[str, int]]:
    found: dict[tuple[int, bool], dict[str, int]] = {}
    for row in _rows("required.csv"):
        types = found.setdefault((int(row["tag"], 16), row["nested"] == "1"), {})
        types.update({_STORAGE + name: int(row["type"]) for name in row["sop_classes"].split()})
    return found


@cache
def _known_classes() -> frozenset[str]:
    return frozenset(name for types in _required().values() for name in types)


def type_of(tag: int, sop_class: str, nested: bool) -> int:
    """Return the type that a class gives to an attribute of the table: 1, 2 or 3.

    Conditions count as met, since the source has the attribute. For a class that nobody has told
    of, the strictest type of any class stands, which keeps the object valid.

    Parameters
    ----------
    tag : int
        Of an attribute with a choice of actions, such as X/Z/D.
    sop_class : str
        UID.
    nested : bool
        Inside a sequence.
    """
    types = _required().get((tag, nested), {})
    if sop_class in _known_classes():
        return types.get(sop_class, 3)
    return min(types.values(), default=3)


@cache
def _filled() -> dict[tuple[int, bool], frozenset[str]]:
    names = [_STORAGE + row["sop_class"] for row in _rows("storage-classes.csv")]
    return {
        (int(row["tag"], 16), row["nested"] == "1"): frozenset(names[one] for one in _ranges(row["classes"]))
        for row in _rows("filled.csv")
    }


def _ranges(text: str) -> Iterator[int]:
    for part in text.split():
        first, _, last = part.partition("-")
        yield from range(int(first), int(last or first) + 1)


@cache
def _all_filled() -> frozenset[str]:
    return frozenset(name for names in _filled().values() for name in names)


def wants_value(tag: int, sop_class: str, nested: bool) -> bool:
    """Tell whether a class wants a value of an attribute outside the table: type 1 or 1C.

    For a class that nobody has told of, what any class wants counts.
    """
    classes = _filled().get((tag, nested), frozenset())
    return sop_class in classes or (bool(classes) and sop_class not in _all_filled())


@cache
def _public() -> dict[str, Public]:
    return {row["key"]: Public(row["key"], row["action"], row["why"]) for row in _rows("public.csv")}


@cache
def _prefixes() -> tuple[str, ...]:
    return tuple(key.rstrip("x") for key in _public() if "x" in key)


def public_tag(tag: int) -> Public | None:
    """Return what is said of this tag or its group, None where the VR decides."""
    key = f"{tag:08X}"
    if key in _public():
        return _public()[key]
    prefix = next((prefix for prefix in _prefixes() if key.startswith(prefix)), None)
    return _public()[prefix.ljust(8, "x")] if prefix is not None else None


def public_vr_rule(vr: str) -> Public:
    """Return what is said of a VR; nothing is said of those unknown, so they go."""
    return _public().get(vr, Public(vr, "X", "no such VR"))


@cache
def pseudonymous() -> dict[int, str]:
    """Return the kind of pseudonym by tag, of identifiers that Z and D replace."""
    return {int(row["tag"], 16): row["domain"] for row in _rows("pseudonyms.csv")}


@cache
def terms() -> frozenset[str]:
    """Return the values of CS attributes that say nothing of a person."""
    return frozenset(lines("terms.txt"))


@cache
def schemes() -> dict[str, tuple[re.Pattern[str] | None, str]]:
    """Return form and check digit of codes by coding scheme designator."""
    return {
        row["designator"]: (re.compile(row["pattern"]) if row["pattern"] else None, row["check"])
        for row in _rows("schemes.csv", ";")
    }


@cache
def meanings() -> dict[tuple[str, str], str]:
    """Return the meaning of codes of languages, places and leads, by scheme and code."""
    return {(row["scheme"], row["code"]): row["meaning"] for row in _rows("meanings.csv", ";")}


@cache
def digest() -> bytes:
    """Return the SHA-256 of all data files."""
    return sha256(b"".join(sha256("\n".join(lines(name)).encode()).digest() for name in FILES)).digest()
