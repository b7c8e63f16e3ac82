"""Labels out of what the vault itself holds: segments, regions, and findings of reports."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from voxelvault.cohorts.labels import Labels
from voxelvault.dicom.structured_report import Finding
from voxelvault.errors import UsageError
from voxelvault.reading.segments import findings_in_vault, labels_in_vault
from voxelvault.resources import Resources

SOURCES = ("SEG", "RTSTRUCT", "SR")


def found_labels(resources: Resources, series_ids: Sequence[str], source: str) -> Labels:
    """Return what segmentations, structure sets or reports of the vault say of series.

    Parameters
    ----------
    resources : Resources
        The open vault.
    series_ids : sequence of str
        Opaque ids.
    source : {"SEG", "RTSTRUCT", "SR"}
        SEG and RTSTRUCT give a column `segments` or `regions`: the labels, a list of str. SR gives a
        column for each coded concept of measurements and codes; free text is left out.

    Raises
    ------
    UsageError
        There is no such source.
    PolicyDenied, AuditError
        Then nothing was read.
    """
    if source not in SOURCES:
        raise UsageError(f"from_= is one of {', '.join(SOURCES)}")
    if source == "SR":
        said = findings_in_vault(resources, series_ids)
        rows = {series_id: _said(found) for series_id, found in said.items()}
        columns = tuple(dict.fromkeys(name for row in rows.values() for name in row))
        return Labels(columns, {series_id: row for series_id, row in rows.items() if row})
    name = "segments" if source == "SEG" else "regions"
    named = labels_in_vault(resources, series_ids, source)
    return Labels((name,), {series_id: {name: labels} for series_id, labels in named.items() if labels})


def _said(found: Sequence[Finding]) -> dict[str, Any]:
    """Return values by concept; a list where a concept comes more than once."""
    values: dict[str, list[Any]] = {}
    for one in found:
        if one.concept is None or one.value is None or one.kind not in ("NUM", "CODE"):
            continue
        unit = f" ({one.unit.value})" if one.unit is not None else ""
        value = one.value if isinstance(one.value, float | str) else str(one.value)
        values.setdefault(str(one.concept) + unit, []).append(value)
    return {name: told[0] if len(told) == 1 else told for name, told in values.items()}


__all__ = ["SOURCES", "found_labels"]
