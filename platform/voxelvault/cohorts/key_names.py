"""What the key columns of tables are called: by the catalog, and as people spell them."""

from __future__ import annotations

from collections.abc import Mapping

import pyarrow as pa

from voxelvault.errors import UsageError

SPELLINGS: Mapping[str, tuple[str, ...]] = {
    "SOPInstanceUID": ("sopinstanceuid", "sopuid", "instanceuid", "imageuid"),
    "SeriesInstanceUID": ("seriesinstanceuid", "seriesuid"),
    "series_id": ("seriesid",),
    "StudyInstanceUID": ("studyinstanceuid", "studyuid"),
    "study_id": ("studyid",),
    "AccessionNumber": ("accessionnumber", "accession"),
    "PatientID": ("patientid", "patient"),
    "subject_id": ("subjectid", "subject"),
}
"""Key columns by the finest first, and how their heads are spelt without case, blanks, `_` and `-`."""


def canonical(name: str) -> str | None:
    """Return the key that a header spells; None where it is no key's."""
    return next((key for key, spellings in SPELLINGS.items() if plain(name) in spellings), None)


def plain(name: str) -> str:
    """Return a header without case, blanks, `_` and `-`."""
    return "".join(character for character in name.lower() if character.isalnum())


def named_key(table: pa.Table, on: str | None, own: str | None) -> tuple[pa.Table, str]:
    """Return a table whose key column is called as the key is, and the key.

    Parameters
    ----------
    table : pyarrow.Table
        Labels and keys.
    on : str, optional
        What the key column holds, in any spelling of `SPELLINGS`.
    own : str, optional
        Header of the column that the table itself says is its key; it may be an unusual one.

    Raises
    ------
    UsageError
        There is no such key or column, or several columns are spelt as it is.
    """
    key = canonical(on or own or "SeriesInstanceUID")
    if key is None and on in (None, own):
        raise UsageError(
            "the header of the key column doesn't tell what it holds: say it as well, such as"
            " with_labels(table, on='StudyInstanceUID')"
        )
    if key is None:
        raise UsageError(f"the key that labels are joined on is one of {', '.join(SPELLINGS)}")
    column = _column(table.column_names, key, own)
    return table.rename_columns([key if name == column else name for name in table.column_names]), key


def _column(names: list[str], key: str, own: str | None) -> str:
    if key in names:
        return key
    if own in names and canonical(own) is None:
        return own
    fitting = [name for name in names if canonical(name) == key]
    if len(fitting) == 1:
        return fitting[0]
    if fitting:
        raise UsageError(f"{len(fitting)} columns are spelt like {key}; rename all but the one that is meant")
    others = [other for other in SPELLINGS if any(canonical(name) == other for name in names)]
    advice = f"it has {', '.join(others)}: say so by on= (--on)" if others else "rename its key column so"
    raise UsageError(f"the table has no column {key!r}; {advice}")


__all__ = ["SPELLINGS", "canonical", "named_key", "plain"]
