"""Rows of the report out of a vault; each query is an entry in its log."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

from voxelvault import Vault
from voxelvault.errors import UsageError
from voxelvault_triage.model import Verdict
from voxelvault_triage.monitoring.rows import Input, Row

# The same images again, for another model or after a failure, have not waited since they came.
_WORK = """
    with told as (
        select *, row_number() over (partition by study_id, pipeline, content order by scheduled) as turn
        from tasks where arrived >= ?
    )
    select told.study_id, told.series_id, told.pipeline, told.model, told.state, told.verdict,
        told.reasons, told.score, told.threshold, told.arrived,
        epoch(coalesce(ranked, greatest(listed, ended))
            - if(turn = 1, told.arrived, told.scheduled)) as seconds,
        coalesce(reading_items.overridden, false) as overridden
    from told left join reading_items
        on reading_items.task_id = told.task_id and not reading_items.superseded
    where told.state in ('COMPLETED', 'CANCELED') and not told.superseded
    order by told.scheduled
"""
_SERIES = """
    with chosen as (select distinct study_id from tasks where arrived >= ?),
    counted as (
        select series_id, count(*) as slices from frames
        where study_id in (select study_id from chosen) group by series_id
    )
    select series.series_id, series.study_id, Manufacturer, ManufacturerModelName, StationName,
        SliceThickness, KVP, ConvolutionKernel, ReconstructionDiameter, GantryDetectorTilt, slices
    from series join chosen using (study_id) left join counted using (series_id)
    where Modality not in ('SR', 'SEG', 'OT', 'KO', 'PR')
    order by slices desc nulls last
"""
_NUMBERS = ("SliceThickness", "KVP", "ReconstructionDiameter", "GantryDetectorTilt", "slices")
_SCANNER = ("Manufacturer", "ManufacturerModelName", "StationName")


def rows_of(vault: Vault, since: datetime, labels: Mapping[str, bool] | None = None) -> list[Row]:
    """Return the analyses of studies that arrived since then; those superseded are left out.

    Parameters
    ----------
    vault : Vault
        Open.
    since : datetime
        UTC, without a zone.
    labels : mapping of str to bool, optional
        What studies turned out to be, by `study_id`.
    """
    series = _named(vault.sql(_SERIES, [since]))
    by_id = {row["series_id"]: row for row in series}
    # Where nothing was analysed, the study's longest series tells the scanner.
    by_study: dict[str, Mapping[str, Any]] = {}
    for row in series:
        by_study.setdefault(row["study_id"], row)
    told = labels or {}
    return [
        _row(work, by_id.get(work["series_id"]), by_study.get(work["study_id"], {}), told)
        for work in _named(vault.sql(_WORK, [since]))
    ]


def _named(result: Any) -> list[dict[str, Any]]:
    return [dict(zip(result.columns, row, strict=True)) for row in result.fetchall()]


def _row(
    work: Mapping[str, Any],
    analysed: Mapping[str, Any] | None,
    longest: Mapping[str, Any],
    labels: Mapping[str, bool],
) -> Row:
    return Row(
        study=work["study_id"],
        scanner=_scanner(analysed or longest),
        pipeline=work["pipeline"],
        model=work["model"] or "",
        arrived=work["arrived"],
        verdict=Verdict(work["verdict"]) if work["state"] == "COMPLETED" and work["verdict"] else None,
        reasons=tuple(work["reasons"] or ()),
        score=work["score"],
        threshold=work["threshold"],
        seconds=work["seconds"],
        overridden=bool(work["overridden"]),
        inputs=_inputs(analysed) if analysed else {},
        label=labels.get(work["study_id"]),
    )


def _scanner(series: Mapping[str, Any]) -> str:
    return " ".join(str(series[name]).strip() for name in _SCANNER if series.get(name)) or "unknown"


def _inputs(series: Mapping[str, Any]) -> dict[str, Input]:
    found: dict[str, Input] = {name: float(series[name]) for name in _NUMBERS if series[name] is not None}
    if series["ConvolutionKernel"]:
        found["ConvolutionKernel"] = "\\".join(series["ConvolutionKernel"])
    return found


def labels_of(vault: Vault, path: Path, column: str) -> dict[str, bool]:
    """Return what studies turned out to be, by `study_id`, from a table with StudyInstanceUID and a label.

    Parameters
    ----------
    vault : Vault
        Open.
    path : Path
        Ends in ``.csv``, ``.tsv`` or ``.parquet``.
    column : str
        Called so; holds 0 and 1, or true and false.

    Raises
    ------
    UsageError
        No such file or column, no row fits any study, or a label is something else.
    """
    chosen = vault.select("true").with_labels(path, on="StudyInstanceUID", columns=[column])
    found: dict[str, bool] = {}
    for series_id, study_id in vault.sql("select series_id, study_id from series").fetchall():
        label = chosen.labels.of(series_id).get(column)
        if label is not None:
            found[study_id] = _truth(label)
    return found


def _truth(label: Any) -> bool:
    if label in (0, 1):
        return bool(label)
    raise UsageError("labels are 0 and 1, or true and false; mend the column")
