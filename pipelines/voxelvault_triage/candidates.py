"""What a gate reads of a study: its series in the catalog, where their slices lie, what a few show."""

from __future__ import annotations

from typing import Any

from voxelvault import Vault
from voxelvault.series import Series, open_series
from voxelvault_triage.content import Seen, evenly, look
from voxelvault_triage.model import Study

LOOKED_AT = 9
"""Slices of a stack that a gate looks at."""

_SERIES = """
select s.SeriesInstanceUID, s.Modality, s.SliceThickness, s.KVP, s.ContrastBolusAgent,
    s.ConvolutionKernel, list(distinct i.SOPClassUID) as classes,
    flatten(list(distinct i.ImageType)) as image_types, coalesce(sum(i.NumberOfFrames), 0) as many,
    count(*) as instances,
    count(*) filter (i.pixels = 'undecodable') as undecodable
from series s join instances i using (series_id)
where s.study_id = $study and s.subject_id = $subject and s.SeriesInstanceUID is not null
    and not i.superseded and coalesce(i.origin, '') = ''
group by all order by s.SeriesInstanceUID
"""


def series_of(vault: Vault, study: Study) -> list[dict[str, Any]]:
    """Return a row for each series of a study; what pipelines made is left out.

    Columns: SeriesInstanceUID, Modality, SliceThickness, KVP, ContrastBolusAgent, ConvolutionKernel, classes,
    image_types, frames, undecodable (images of which the vault keeps the file alone).
    """
    # No entry in the log: nothing here tells of a person, and opening a series is entered.
    asked = {"study": study.study_id, "subject": study.subject_id}
    rows = vault.resources.catalog.query(_SERIES, asked).to_pylist()
    return [{**row, "frames": max(int(row["many"]), int(row["instances"]))} for row in rows]


def open_of(vault: Vault, study: Study, uid: str, pipeline: str) -> Series:
    """Open a series of a study for a pipeline; who asked closes it."""
    told = f"triage.{pipeline}"
    return open_series(vault.resources, uid, study.StudyInstanceUID or None, study.subject_id, told)


def heights(series: Series, stack: int) -> list[float]:
    """Return how far towards the head each slice of a stack lies, mm."""
    group = series.geometry(stack)
    up = group.normal if group.normal[2] >= 0 else -group.normal
    return [float(height) for height in group.positions @ up]


def looked_at(series: Series, stack: int, most: int = LOOKED_AT) -> tuple[list[Seen], list[float]]:
    """Return what slices spread over a stack show, and the height of each."""
    group, every = series.geometry(stack), heights(series, stack)
    chosen = evenly(len(every), most)
    spacing: Any = group.pixel_spacing
    return [look(series.frame(index, stack), spacing) for index in chosen], [every[index] for index in chosen]


__all__ = ["LOOKED_AT", "heights", "looked_at", "open_of", "series_of"]
