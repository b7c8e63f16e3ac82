"""The view that filters see: what describes scanner, protocol and person coarsely, and no identifier.

Left out on purpose: UIDs, names, numbers, exact dates, and every free text, in which anything may stand.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType


@dataclass(frozen=True, slots=True)
class Column:
    """How a column of the view is made, over `series`, `studies` and `patients`; str or float."""

    sql: str
    kind: type


def _series(name: str, kind: type = str) -> Column:
    return Column(f'series."{name}"', kind)


_AGE = "regexp_extract(studies.\"PatientAge\", '^([0-9]{3})Y$', 1)"

COLUMNS: Mapping[str, Column] = MappingProxyType(
    {
        "Modality": _series("Modality"),
        "BodyPartExamined": _series("BodyPartExamined"),
        "Laterality": _series("Laterality"),
        "Manufacturer": _series("Manufacturer"),
        "ManufacturerModelName": _series("ManufacturerModelName"),
        "SliceThickness": _series("SliceThickness", float),
        "SpacingBetweenSlices": _series("SpacingBetweenSlices", float),
        "KVP": _series("KVP", float),
        "ConvolutionKernel": Column("array_to_string(series.\"ConvolutionKernel\", '\\')", str),
        "MagneticFieldStrength": _series("MagneticFieldStrength", float),
        "MRAcquisitionType": _series("MRAcquisitionType"),
        "PatientSex": Column('patients."PatientSex"', str),
        "AgeYears": Column(f"TRY_CAST({_AGE} AS DOUBLE)", float),
        "StudyYear": Column('CAST(year(studies."StudyDate") AS DOUBLE)', float),
        "Frames": Column(
            "CAST((SELECT count(*) FROM frames WHERE frames.series_id = series.series_id) AS DOUBLE)", float
        ),
    }
)
"""Column to how it is made."""


def view_sql() -> str:
    """Return the view's SQL: a row a series, with the opaque ids that the site itself needs."""
    columns = ", ".join(f'{column.sql} AS "{name}"' for name, column in COLUMNS.items())
    return (  # nothing in it comes from outside
        f"SELECT series.series_id, series.subject_id, {columns} FROM series "  # noqa: S608
        "JOIN studies ON studies.study_id = series.study_id "
        "JOIN patients ON patients.subject_id = series.subject_id"
    )


__all__ = ["COLUMNS", "Column", "view_sql"]
