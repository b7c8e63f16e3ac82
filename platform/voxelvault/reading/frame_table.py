"""Rows of frames by column: small enough to travel, arranged into volumes when they are looked at."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any, TypeAlias

from voxelvault.dicom.frames import FrameAttributes

if TYPE_CHECKING:
    import pyarrow as pa

FRAME_COLUMNS = (
    "ImagePositionPatient",
    "ImageOrientationPatient",
    "PixelSpacing",
    "SliceThickness",
    "temporal",
    "temporal_source",
    "echo",
    "acquisition",
    "InstanceNumber",
    "FrameNumber",
    "RescaleSlope",
    "RescaleIntercept",
    "RescaleType",
    "WindowCenter",
    "WindowWidth",
    "VOILUTFunction",
    "image_type",
    "padding",
    "marks",
)
"""Columns of the catalog's `frames` that describe a frame, as `FrameAttributes` orders its fields."""

PLACE_COLUMNS = ("pack_id", "stack", "frame", "instance_id")
"""Columns that say where a frame is stored."""


@dataclass(frozen=True, slots=True)
class Same:
    """A column with one value in all its rows, as most are: the rows of a series are much alike."""

    value: Any


Column: TypeAlias = "list[Any] | Same"


@dataclass(frozen=True, slots=True)
class FrameTable:
    """Rows of the catalog's `frames` for one series, by column; it pickles small.

    Parameters
    ----------
    length : int
        Rows.
    columns : mapping of str to list or Same
        `PLACE_COLUMNS` and `FRAME_COLUMNS`; lists of numbers are tuples.
    """

    length: int
    columns: Mapping[str, Column]

    def __len__(self) -> int:
        """Return the number of frames."""
        return self.length

    def values(self, name: str) -> Sequence[Any]:
        """Return a column, a value a row."""
        column = self.columns[name]
        return [column.value] * self.length if isinstance(column, Same) else column

    def attributes(self) -> list[FrameAttributes]:
        """Return what the headers say of each frame, as `frame_rows` was given it."""
        columns = [map(_TURNS.get(name, _same), self.values(name)) for name in FRAME_COLUMNS]
        return [FrameAttributes(*values) for values in zip(*columns, strict=True)]


def frame_table(rows: pa.Table) -> FrameTable:
    """Return rows of the catalog's `frames` by column."""
    if not rows.num_rows:
        return FrameTable(0, {name: [] for name in (*PLACE_COLUMNS, *FRAME_COLUMNS)})
    columns = {name: _column(rows.column(name)) for name in (*PLACE_COLUMNS, *FRAME_COLUMNS)}
    return FrameTable(rows.num_rows, columns)


def _column(column: pa.ChunkedArray) -> Column:
    array = column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()
    values = _tuples(array) if hasattr(array, "offsets") else array.to_pylist()
    if values and values.count(values[0]) == len(values):
        return Same(values[0])
    return values


def _tuples(array: pa.ListArray) -> list[Any]:
    """Return lists as tuples; row by row the same takes ten times as long."""
    stops = array.offsets.to_pylist()
    first = stops[0]
    # The values below a slice are those of the whole table.
    flat = array.values.slice(first, stops[-1] - first).to_pylist()
    missing = array.is_null().to_pylist()
    pairs = zip(stops, stops[1:], missing, strict=False)
    return [None if none else tuple(flat[start - first : stop - first]) for start, stop, none in pairs]


def _same(value: Any) -> Any:
    return value


@lru_cache(maxsize=1024)
def _marks(text: str | None) -> tuple[Any, ...]:
    return tuple((name, value) for name, value in json.loads(text)) if text else ()


_TURNS: Mapping[str, Callable[[Any], Any]] = {
    "FrameNumber": lambda number: number - 1,
    "VOILUTFunction": lambda name: name or "LINEAR",
    "image_type": lambda words: words or (),
    "padding": lambda ends: None if ends is None else (int(ends[0]), int(ends[1])),
    "marks": _marks,
}

__all__ = ["FRAME_COLUMNS", "PLACE_COLUMNS", "FrameTable", "Same", "frame_table"]
