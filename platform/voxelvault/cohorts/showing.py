"""A selection as a table, in a line, and with pictures; nothing identifying unless asked for."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from voxelvault.access import log_query
from voxelvault.catalog.user_sql import Result
from voxelvault.cohorts.selecting import Chosen, one_view
from voxelvault.errors import VoxelVaultError
from voxelvault.reading.many import OpenedMany, open_many
from voxelvault.resources import Resources

PICTURED = 24
"""Rows of a gallery."""

SHORT = 32
"""Letters of a label's text that a gallery may show."""


def table(chosen: Chosen, series_ids: Sequence[str]) -> Result:
    """Return a row a series: columns of series, study and patient, then labels; an identifying read."""
    log_query(chosen.resources, "select * from series")
    view = one_view(chosen.ask, "frame_count instance_count")
    ids = ", ".join(f"'{series_id}'" for series_id in series_ids) or "NULL"
    rows = chosen.ask(f"SELECT * FROM {view} WHERE series_id IN ({ids})").arrow()  # noqa: S608 - opaque ids
    rows = rows.take(pc.sort_indices(rows, [("series_id", "ascending")]))
    order = rows["series_id"].to_pylist()
    for name in chosen.labels.columns:
        values = [chosen.labels.of(series_id).get(name) for series_id in order]
        free = name if name not in rows.column_names else f"label_{name}"
        rows = rows.append_column(free, _column(values))
    return Result(rows, chosen.resources.options.identifying)


def _column(values: Sequence[Any]) -> pa.Array:
    try:
        return pa.array(values)
    except (pa.ArrowInvalid, pa.ArrowTypeError):
        # Numbers beside texts, as a table of objects may have them.
        return pa.array([None if value is None else str(value) for value in values])


def counts(resources: Resources, series_ids: Sequence[str]) -> dict[str, Any]:
    """Return `series`, `subjects`, and `modalities` with the number of series of each."""
    rows = resources.catalog.query(
        "select coalesce(Modality, 'none') as modality, subject_id from series"
        " where series_id in (select unnest($ids))",
        {"ids": list(series_ids)},
    ).to_pylist()
    found = Counter(row["modality"] for row in rows)
    return {
        "series": len(series_ids),
        "subjects": len({row["subject_id"] for row in rows}),
        "modalities": dict(sorted(found.items(), key=lambda item: (-item[1], item[0]))),
    }


def line(resources: Resources, series_ids: Sequence[str]) -> str:
    """Return the counts in words."""
    told = counts(resources, series_ids)
    people = "1 subject" if told["subjects"] == 1 else f"{told['subjects']} subjects"
    modalities = "".join(f", {name} {n}" for name, n in told["modalities"].items())
    return f"{told['series']} series of {people}{modalities}"


def pictures(
    chosen: Chosen, series_ids: Sequence[str], parts: Mapping[str, str], title: str, note: str
) -> str:
    """Return the first series as an HTML table with a small picture each."""
    from voxelvault.display.gallery import gallery

    shown = series_ids[:PICTURED]
    cohort_id = chosen.frozen.cohort_id if chosen.frozen else None
    many = open_many(chosen.resources, shown, kind_code="gallery", cohort_id=cohort_id)
    try:
        labels = _shown_labels(chosen, series_ids, many.series_ids)
        rows = [_row(chosen, many, series_id, labels[series_id], parts) for series_id in many.series_ids]
        thumbnails = [_picture(many, series_id) for series_id in many.series_ids]
    finally:
        many.close()
    left = len(series_ids) - len(shown)
    more = f"… and {left:,} more series. " if left else ""
    return gallery(rows, thumbnails, title, more + note)


def _shown_labels(
    chosen: Chosen, series_ids: Sequence[str], shown: Sequence[str]
) -> dict[str, dict[str, object]]:
    """Return labels that may be seen: numbers, truth values, and short texts that several subjects have."""
    labels = {series_id: chosen.labels.of(series_id) for series_id in shown}
    if chosen.resources.options.identifying or not chosen.labels.columns:
        return labels
    subject = _subjects(chosen.resources, series_ids)
    having: dict[tuple[str, str], set[str]] = {}
    for series_id in series_ids:
        for name, value in chosen.labels.of(series_id).items():
            for text in _texts(value):
                having.setdefault((name, text), set()).add(subject.get(series_id, ""))
    common = {key for key, subjects in having.items() if len(subjects) > 1 and len(key[1]) <= SHORT}
    return {
        series_id: {
            name: value if all((name, text) in common for text in _texts(value)) else "…"
            for name, value in row.items()
        }
        for series_id, row in labels.items()
    }


def _texts(value: Any) -> list[str]:
    values = value if isinstance(value, list) else [value]
    return [one for one in values if isinstance(one, str)]


def _subjects(resources: Resources, series_ids: Sequence[str]) -> dict[str, str]:
    rows = resources.catalog.query(
        "select series_id, subject_id from series where series_id in (select unnest($ids))",
        {"ids": list(series_ids)},
    ).to_pylist()
    return {row["series_id"]: row["subject_id"] for row in rows}


def _row(
    chosen: Chosen,
    many: OpenedMany,
    series_id: str,
    labels: Mapping[str, object],
    parts: Mapping[str, str],
) -> dict[str, object]:
    source = many.series(series_id)
    row: dict[str, object] = {"series_id": series_id[:8] + "…", "Modality": source.modality}
    if chosen.resources.options.identifying:
        row |= {name: source.row.get(name) for name in ("SeriesInstanceUID", "SeriesDescription")}
    if source.stacks:
        first = source.stacks[0]
        spacing = first.group.spacing
        row["frames"] = " + ".join(str(len(stack.refs)) for stack in source.stacks[:3])
        row["image"] = str(first.layout)
        row["spacing, mm"] = "" if spacing is None else " × ".join(f"{step:.3g}" for step in spacing)  # noqa: RUF001
    row |= labels
    return row | ({"part": parts[series_id]} if series_id in parts else {})


def _picture(many: OpenedMany, series_id: str) -> bytes | None:
    """Return the middle slice; nothing where there are no pixels that can be shown."""
    from voxelvault.display.gallery import thumbnail
    from voxelvault.reading.pictures import look_of, slices_of

    source = many.series(series_id)
    if not source.stacks:
        return None
    reader, stack = many.reader(series_id), source.stacks[0]
    try:
        look = look_of(reader, stack)
        plane = slices_of(reader, many.handle, stack)(len(stack.refs) // 2)
        return thumbnail(plane, look)
    except VoxelVaultError:
        return None


__all__ = ["counts", "line", "pictures", "table"]
