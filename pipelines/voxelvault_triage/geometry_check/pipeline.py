"""The pipeline `ct-geometry-check`: a CT series measured against its own header. It has no model.

Its score isn't a probability: it is how far the worst check is out, 0.5 at its limit. It flags what a
reader or a program that trusts the header should know of, nothing about the patient.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from voxelvault import Vault
from voxelvault.series import Series
from voxelvault_triage.candidates import heights, open_of, series_of
from voxelvault_triage.content import evenly, look
from voxelvault_triage.geometry_check.checks import (
    Measured,
    SliceFacts,
    slice_facts,
    table_differs,
    table_direction,
    tilt_of,
    unevenness,
)
from voxelvault_triage.hemorrhage.choosing import described
from voxelvault_triage.hemorrhage.gate import missing_slices, upside_down
from voxelvault_triage.model import Finding, Gated, Reason, Study
from voxelvault_triage.pipeline import Model

FEWEST = 3
LOOKED_AT = 60
"""Slices that are looked into; positions are checked of all."""
THRESHOLD = 0.5

REASONS: Mapping[str, str] = {
    "no-ct": "the study has no CT images",
    "pixels": "some of the images are damaged or can't be decoded",
    "slices": f"no CT series of the study has {FEWEST} slices with a place in the patient",
    "rescale": "values aren't Hounsfield units",
}
"""The closed set of reasons for not being analysed."""


@dataclass(frozen=True, slots=True, eq=False)
class Looked:
    """What was read of a stack.

    Parameters
    ----------
    measured : Measured
        By check.
    cut : (slice, row, column) bool
        Where the field of view cuts the body.
    voxel_ml : float
        Volume of a voxel, in millilitres.
    worst : int
        Slice that shows best what is wrong.
    """

    measured: Measured
    cut: npt.NDArray[np.bool_]
    voxel_ml: float
    worst: int


class GeometryCheck:
    """Checks geometry, orientation, field of view and noise of the largest CT series of a study."""

    name = "ct-geometry-check"
    version = "0.1.0"
    model: str | None = None
    ranks = False
    """How an image was made says nothing of how urgent its patient is."""

    def gate(self, vault: Vault, study: Study) -> Gated:
        """Choose the CT series with most slices, and leave it open, or say why there is none."""
        rows = [described(row) for row in series_of(vault, study)]
        found = sorted((one for one in rows if one.modality == "CT"), key=lambda one: -one.frames)
        code = "slices" if found else "no-ct"
        for one in found:
            if one.undecodable:
                # Kept without a slice: it would be told as missing between others.
                code = "pixels"
                continue
            if one.frames < FEWEST:
                continue
            with ExitStack() as held:
                series = held.enter_context(open_of(vault, study, one.SeriesInstanceUID, self.name))
                for stack in range(len(series.stacks)):
                    if not _placed(series, stack):
                        continue
                    if series.unit(stack) == "HU":
                        held.pop_all()
                        return Gated(one.SeriesInstanceUID, stack, opened=series)
                    code = "rescale"
        return Gated(None, 0, (Reason(code, REASONS[code]),))

    def prepare(self, series: Series, stack: int) -> Looked:
        """Read the slices and measure."""
        group: Any = series.geometry(stack)
        count, header = len(group), series.header(0, stack=stack)
        facts, cut = _slices(series, stack)
        order = np.argsort(heights(series, stack))
        steps = np.abs(np.diff((group.positions @ group.normal)[order]))
        values = {"missing": float(missing_slices(steps)), "uneven": unevenness(steps)}
        said = _number(header.get("GantryDetectorTilt"))
        if said is not None:
            values["tilt"] = abs(tilt_of(group.positions, group.normal) - abs(said))
        row, column = group.orientation[:3], group.orientation[3:]
        differs = table_differs(
            table_direction(list(facts.values()), row, column), str(header.get("PatientPosition") or "")
        )
        if differs is not None:
            values["orientation"] = float(differs)
        values |= _content(facts, heights(series, stack))
        voxel = float(np.median(steps) * np.prod(group.pixel_spacing) / 1000)
        return Looked(Measured(values), cut, voxel, _worst(facts, steps, order, count))

    def infer(self, prepared: Looked, model: Model | None) -> Finding:
        """Say what is out of bounds."""
        severities = prepared.measured.severities
        return Finding(
            score=max(severities.values()),
            threshold=THRESHOLD,
            types=severities,
            mask=prepared.cut,
            volume_ml=float(prepared.cut.sum() * prepared.voxel_ml),
            key_frame=prepared.worst,
        )


def _placed(series: Series, stack: int) -> bool:
    group = series.geometry(stack)
    known = group.orientation is not None and group.pixel_spacing is not None
    return known and len(group) >= FEWEST and bool(np.isfinite(group.positions).all())


def _slices(series: Series, stack: int) -> tuple[dict[int, SliceFacts], npt.NDArray[np.bool_]]:
    """Return what slices spread over a stack show, and where they are cut, on the stack's own grid."""
    group: Any = series.geometry(stack)
    facts: dict[int, SliceFacts] = {}
    cut: npt.NDArray[np.bool_] | None = None
    for index in evenly(len(group), LOOKED_AT):
        plane = series.frame(index, stack)
        if cut is None:
            cut = np.zeros((len(group), *plane.shape), np.bool_)
        seen = look(plane, group.pixel_spacing)
        facts[index], small = slice_facts(plane, group.pixel_spacing, seen.is_brain)
        factors = tuple(whole // part for whole, part in zip(plane.shape, small.shape, strict=True))
        fine = np.kron(small, np.ones(factors, np.bool_))
        cut[index, : fine.shape[0], : fine.shape[1]] = fine
    assert cut is not None  # noqa: S101 - a stack has a slice
    return facts, cut


def _content(facts: Mapping[int, SliceFacts], where: list[float]) -> dict[str, float]:
    found = list(facts.values())
    values = {"truncated": float(np.percentile([one.cut for one in found], 90))}
    noise = [one.noise for one in found if np.isfinite(one.noise)]
    if noise:
        values["noise"] = float(np.median(noise))
    if sum(one.skull for one in found) >= 2:
        places = [where[index] for index in facts]
        areas, cavities = [one.area for one in found], [one.cavities for one in found]
        values["upside-down"] = float(upside_down(areas, cavities, places))
    return values


def _worst(
    facts: Mapping[int, SliceFacts], steps: npt.NDArray[np.float64], order: npt.NDArray[np.intp], count: int
) -> int:
    """Return the slice beside a gap; else the one that is cut most; else the middle one."""
    if missing_slices(steps):
        return int(order[int(np.argmax(steps))])
    most = max(facts, key=lambda index: facts[index].cut)
    return most if facts[most].cut > 0 else count // 2


def _number(value: object) -> float | None:
    try:
        return float(str(value))
    except ValueError:
        return None


__all__ = ["GeometryCheck", "Looked", "REASONS"]
