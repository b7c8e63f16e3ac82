"""The gate of the head CT pipeline: reads what its decisions need, series by series, until one fits."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from typing import Any

from voxelvault import Vault
from voxelvault.errors import DicomError
from voxelvault.series import Series
from voxelvault_triage.candidates import looked_at, open_of, series_of
from voxelvault_triage.hemorrhage.gate import (
    Described,
    content_reasons,
    described_reasons,
    placed_reasons,
    reason,
)
from voxelvault_triage.model import Gated, Reason, Study

NAME = "head-ct-hemorrhage"

Judged = tuple[int, tuple[Reason, ...]]
"""How far a series came, and why no further."""


def choose(vault: Vault, study: Study) -> Gated:
    """Choose the series and stack of a study to be analysed, or say why there is none.

    Of several that fit, the one that is read first: soft kernel, original slices, near 4 mm. Where none
    fits, the reasons are those of the series that came furthest. The chosen one is left open.
    """
    rows = [described(row) for row in series_of(vault, study)]
    judged: list[Judged] = [(0, (reason("no-ct"),))]
    for one in sorted(rows, key=lambda one: one.rank):
        found = described_reasons(one)
        if found:
            judged.append((1 if one.modality == "CT" else 0, found))
            continue
        if one.undecodable:
            # Their slices would be missing, and at the ends of a stack nobody would notice.
            judged.append((2, (reason("pixels"),)))
            continue
        with ExitStack() as held:
            series = held.enter_context(open_of(vault, study, one.SeriesInstanceUID, NAME))
            for stack, came in enumerate(stacks_judged(series)):
                if not came[1]:
                    held.pop_all()
                    return Gated(one.SeriesInstanceUID, stack, opened=series)
                judged.append(came)
    return Gated(None, 0, max(judged, key=lambda came: (came[0], -len(came[1])))[1])


def described(row: Mapping[str, Any]) -> Described:
    """Return what the catalog says of a series."""
    return Described(
        row["SeriesInstanceUID"],
        str(row["Modality"] or ""),
        frozenset(filter(None, row["classes"] or ())),
        frozenset(filter(None, row["image_types"] or ())),
        int(row["frames"]),
        row["SliceThickness"],
        row["KVP"],
        str(row["ContrastBolusAgent"] or ""),
        str((row["ConvolutionKernel"] or [""])[0] or ""),
        int(row["undecodable"]),
    )


def stacks_judged(series: Series) -> Iterator[Judged]:
    """Judge each stack of a series by place and content, the one with most slices first."""
    if not series.stacks:
        yield 2, (reason("pixels"),)
    for stack in range(len(series.stacks)):
        yield stack_judged(series, stack)


def stack_judged(series: Series, stack: int) -> Judged:
    """Judge one stack; no reasons where it fits."""
    group = series.geometry(stack)
    found = placed_reasons(group.positions, group.orientation, group.pixel_spacing)
    if found:
        return 3, found
    try:
        if series.unit(stack) != "HU":
            return 3, (reason("rescale"),)
        seen, where = looked_at(series, stack)
    except DicomError:
        return 2, (reason("pixels"),)
    return 4, content_reasons(seen, where)


__all__ = ["choose", "described", "stack_judged", "stacks_judged"]
