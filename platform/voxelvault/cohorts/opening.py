"""Opening the series of a selection."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from voxelvault.errors import UnknownUID
from voxelvault.resources import Resources
from voxelvault.series import Series, open_series


def one_by_one(resources: Resources, series_ids: Sequence[str]) -> Iterator[Series]:
    """Yield the series open, each until the next is asked for.

    Raises
    ------
    UnknownUID
        One was erased since it was selected.
    """
    for series_id in series_ids:
        rows = resources.catalog.query(
            "select SeriesInstanceUID as uid, StudyInstanceUID as study, subject_id as subject from series"
            " where series_id = $id",
            {"id": series_id},
        ).to_pylist()
        if not rows:
            raise UnknownUID("a series of this selection is no longer in the vault; select again")
        with open_series(resources, **rows[0]) as series:
            yield series


__all__ = ["one_by_one"]
