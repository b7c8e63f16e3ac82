"""Header values as numbers, vectors and times, whatever the sender wrote; None where they make no sense."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any, Protocol, TypeAlias

Vector: TypeAlias = tuple[float, float, float]
Cosines: TypeAlias = tuple[float, float, float, float, float, float]

FARTHEST = 1e6
"""mm: a kilometre from the origin is no position of a patient, only a broken header."""

FINEST = 1e-6
"""mm: a nanometre."""


class HeaderLike(Protocol):
    """What geometry needs of a header: first value, all values, items of a sequence."""

    def get(self, keyword: str, default: Any = None) -> Any:
        """Return the first or only value."""

    def values(self, keyword: str) -> Sequence[Any]:
        """Return all values, empty when the attribute is absent."""

    def items_of(self, keyword: str) -> Sequence[HeaderLike]:
        """Return the items of a sequence, empty when it is absent."""


def first_item(group: HeaderLike, sequence: str) -> HeaderLike | None:
    """Return the first item of a sequence."""
    return next(iter(group.items_of(sequence)), None)


def as_number(value: Any) -> float | None:
    """Return a finite number."""
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError):
        return None
    return number if math.isfinite(number) else None


def as_positive(value: Any) -> float | None:
    """Return a number above zero."""
    number = as_number(value)
    return number if number is not None and number > 0 else None


def as_length(value: Any) -> float | None:
    """Return a distance in mm."""
    number = as_number(value)
    return number if number is not None and FINEST <= number <= FARTHEST else None


def as_integer(value: Any) -> int | None:
    """Return a whole number of up to 64 bits, cut towards zero."""
    number = as_number(value)
    return None if number is None or abs(number) >= 2**63 else int(number)


def as_text(value: Any) -> str | None:
    """Return text without padding; None when empty."""
    return (str(value).strip() or None) if value is not None else None


def as_texts(values: Iterable[Any]) -> tuple[str, ...]:
    """Return code strings in upper case, without padding."""
    return tuple(str(value).strip().upper() for value in values if value is not None)


def as_numbers(values: Sequence[Any], count: int) -> list[float] | None:
    """Return exactly `count` finite numbers."""
    numbers = [number for number in map(as_number, values) if number is not None]
    return numbers if len(values) == count == len(numbers) else None


def as_vector(values: Sequence[Any]) -> Vector | None:
    """Return a point in mm."""
    numbers = as_numbers(values, 3)
    if numbers is None or max(map(abs, numbers)) > FARTHEST:
        return None
    return numbers[0], numbers[1], numbers[2]


def as_spacing(values: Sequence[Any]) -> tuple[float, float] | None:
    """Return two distances in mm, or a ratio."""
    numbers = as_numbers(values, 2)
    if numbers is None or min(numbers) < FINEST or max(numbers) > FARTHEST:
        return None
    return numbers[0], numbers[1]


def as_cosines(values: Sequence[Any]) -> Cosines | None:
    """Return two unit vectors; None when they are not two perpendicular directions.

    References
    ----------
    DICOM PS3.3 C.7.6.2.1.1: the cosines shall be orthogonal and normal. One hundredth is allowed
    for rounding.
    """
    numbers = as_numbers(values, 6)
    if numbers is None:
        return None
    row, column = math.hypot(*numbers[:3]), math.hypot(*numbers[3:])
    if abs(row - 1) > 0.01 or abs(column - 1) > 0.01:
        return None
    unit = [value / row for value in numbers[:3]] + [value / column for value in numbers[3:]]
    if abs(sum(a * b for a, b in zip(unit[:3], unit[3:], strict=True))) > 0.01:
        return None
    return unit[0], unit[1], unit[2], unit[3], unit[4], unit[5]


def as_seconds(value: Any, *, date: bool = False) -> float | None:
    """Return seconds since midnight of a TM, or of the time part of a DT with `date`."""
    text = str(value or "").replace(":", "").strip()
    text = text[8:] if date else text
    if len(text) < 2 or not text[:2].isdecimal():  # a superscript two is a digit, and no number
        return None
    seconds = as_number(text[4:].split("+")[0].split("-")[0]) or 0.0
    return int(text[:2]) * 3600 + (as_number(text[2:4]) or 0.0) * 60 + seconds


def as_joined(values: Sequence[Any]) -> str | None:
    """Return numbers as one comparable text."""
    numbers = [as_number(value) for value in values]
    return " ".join(f"{number:.4f}" for number in numbers if number is not None) or None


def as_stored(value: int, bits: int, *, signed: bool) -> int:
    """Return the value that the same bits mean as a stored pixel."""
    value &= (1 << bits) - 1
    return value - (1 << bits) if signed and value >> (bits - 1) else value
