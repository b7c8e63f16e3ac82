"""Which CT series of a study may be analysed for hemorrhage, and why not: decisions alone, no I/O.

In three steps, each of which sees more: what the catalog says of a series, where the slices of one of
its stacks lie, and what a few of them show. Text (descriptions, BodyPartExamined) decides nothing: it
is missing or wrong too often.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from voxelvault_triage.content import Seen
from voxelvault_triage.model import Reason

CT_CLASSES = frozenset(
    {"1.2.840.10008.5.1.4.1.1.2", "1.2.840.10008.5.1.4.1.1.2.1", "1.2.840.10008.5.1.4.1.1.2.2"}
)
"""CT, Enhanced CT and Legacy Converted Enhanced CT Image Storage (PS3.4 B.5)."""

FEWEST_SLICES = 12
THICKNESS_MM = (0.4, 8.0)
KVP = (80.0, 150.0)
STEEPEST = 35.0
"""Degrees that the slices may stand off the axial plane: gantries tilt by 30."""
WIDEST_STEP_MM = 10.5
LEAST_COVER_MM = 85.0
PIXEL_MM = (0.2, 1.2)
AIR_LEVEL = (-1080.0, -900.0)
LEAST_AIR = 0.08
"""Of a slice; around a whole head it is a third."""
LEAST_BRAIN_MM = 35.0
LEAST_BRAIN_SHARE = 0.25

REASONS: Mapping[str, str] = {
    "no-ct": "the study has no CT images",
    "no-slices": "the series holds localizers, pages or secondary captures, no CT slices",
    "slices": f"the series has fewer than {FEWEST_SLICES} slices",
    "thickness": "slices are thinner than {:g} or thicker than {:g} mm, or don't say".format(*THICKNESS_MM),
    "kvp": "the tube voltage is below {:g} or above {:g} kV, or isn't said".format(*KVP),
    "contrast": "a contrast agent was given, which is as bright as blood",
    "pixels": "some of the images are damaged or can't be decoded",
    "position": "the slices don't say where in the patient they lie",
    "orientation": f"the slices stand more than {STEEPEST:g} degrees off the axial plane",
    "pixel-size": "pixels are smaller than {:g} or larger than {:g} mm".format(*PIXEL_MM),
    "gaps": f"slices are missing, or more than {WIDEST_STEP_MM:g} mm apart",
    "coverage": f"the slices cover less than {LEAST_COVER_MM:g} mm",
    "rescale": "values aren't Hounsfield units, or there is no air to tell by",
    "field-of-view": "there is hardly any air around the patient: the field of view cuts the head",
    "body-part": "the slices show no skull with brain in it, or much more than a head",
    "upside-down": "the head's top lies at its foot: position or orientation is wrong",
}
"""The closed set of reasons, by code, each a sentence that names nobody."""

_SHARP = re.compile(r"^(BONE|EDGE|LUNG|DETAIL|[BHJUQTF]R?[67]\d|FC[358]\d|YE?|E|D)", re.IGNORECASE)


def reason(code: str) -> Reason:
    """Return a reason of the closed set."""
    return Reason(code, REASONS[code])


@dataclass(frozen=True, slots=True)
class Described:
    """What the catalog says of one series.

    Parameters
    ----------
    SeriesInstanceUID : str
        As in the header.
    modality : str
        Modality.
    classes : frozenset of str
        SOP Class UIDs of its instances.
    image_types : frozenset of str
        Values of ImageType of its instances.
    frames : int
        How many.
    thickness, kvp : float or None
        SliceThickness in mm, KVP in kV.
    contrast : str
        ContrastBolusAgent.
    kernel : str
        First value of ConvolutionKernel.
    undecodable : int
        Images of it whose pixels the vault couldn't decode when they came in.
    """

    SeriesInstanceUID: str
    modality: str
    classes: frozenset[str]
    image_types: frozenset[str]
    frames: int
    thickness: float | None
    kvp: float | None
    contrast: str
    kernel: str
    undecodable: int

    @property
    def rank(self) -> tuple[bool, bool, float]:
        """Sorts what is read first: soft kernels, original slices, near 4 mm."""
        derived = "DERIVED" in self.image_types
        return bool(_SHARP.match(self.kernel)), derived, abs((self.thickness or 99.0) - 4.0)


def described_reasons(one: Described) -> tuple[Reason, ...]:
    """Judge a series by what the catalog says of it."""
    if one.modality != "CT":
        return (reason("no-ct"),)
    if not one.classes & CT_CLASSES or one.image_types & {"LOCALIZER", "SCREEN SAVE", "DOSE_INFO"}:
        return (reason("no-slices"),)
    return _those(
        ("slices", one.frames < FEWEST_SLICES),
        ("thickness", not _within(one.thickness, THICKNESS_MM)),
        ("kvp", not _within(one.kvp, KVP)),
        ("contrast", one.contrast.strip().upper() not in ("", "NONE", "NO", "NO CONTRAST")),
    )


def placed_reasons(
    positions: npt.NDArray[np.float64],
    orientation: npt.NDArray[np.float64] | None,
    pixel_spacing: tuple[float, float] | None,
) -> tuple[Reason, ...]:
    """Judge a stack by where its slices lie.

    Parameters
    ----------
    positions : (slice, 3) float64
        Of each slice's first pixel, mm, LPS.
    orientation : (6,) float64 or None
        Row and column direction.
    pixel_spacing : (float, float) or None
        (row, column) mm.
    """
    if len(positions) < FEWEST_SLICES:
        return (reason("slices"),)
    if orientation is None or pixel_spacing is None or not np.isfinite(positions).all():
        return (reason("position"),)
    normal = np.cross(orientation[:3], orientation[3:])
    steps = np.abs(np.diff(np.sort(positions @ normal)))
    return _those(
        ("orientation", abs(normal[2]) < np.cos(np.radians(STEEPEST))),
        ("pixel-size", not all(_within(step, PIXEL_MM) for step in pixel_spacing)),
        ("gaps", missing_slices(steps) > 0 or steps.max() > WIDEST_STEP_MM),
        ("coverage", steps.sum() < LEAST_COVER_MM),
    )


def missing_slices(steps: npt.NDArray[np.float64]) -> int:
    """Return how many slices are missing between slices: a step that is a multiple of both its neighbours'.

    Parameters
    ----------
    steps : (slice - 1,) float64
        Distances of neighbours along the normal, mm, in order. A protocol may change its step on the
        way from the skull base to the vertex; then the steps on one side differ, not one alone.
    """
    beside = np.pad(steps, 1)
    nearest = np.maximum(beside[:-2], beside[2:])
    wide = steps > 1.6 * nearest
    return int(np.rint(steps[wide] / nearest[wide] - 1).sum()) if steps.size > 1 else 0


def content_reasons(seen: Sequence[Seen], heights: Sequence[float]) -> tuple[Reason, ...]:
    """Judge a stack by what slices of it show.

    Parameters
    ----------
    seen : sequence of Seen
        Of slices spread over the whole stack.
    heights : sequence of float
        Of each, mm towards the head.
    """
    levels = [one.air_level for one in seen if np.isfinite(one.air_level)]
    if not levels or not _within(float(np.median(levels)), AIR_LEVEL):
        return (reason("rescale"),)
    if float(np.median([one.air for one in seen])) < LEAST_AIR:
        return (reason("field-of-view"),)
    return _those(
        ("body-part", not _is_head(seen, heights)),
        ("upside-down", upside_down([one.area for one in seen], [one.cavities for one in seen], heights)),
    )


def _is_head(seen: Sequence[Seen], heights: Sequence[float]) -> bool:
    brain = [height for one, height in zip(seen, heights, strict=True) if one.is_brain]
    if len(brain) < 2:
        return False
    apart = (max(heights) - min(heights)) / max(1, len(heights) - 1)
    return max(brain) - min(brain) + apart >= LEAST_BRAIN_MM and len(brain) >= LEAST_BRAIN_SHARE * len(seen)


def upside_down(areas: Sequence[float], cavities: Sequence[float], heights: Sequence[float]) -> bool:
    """Tell whether a head stands on its top, by two signs that agree.

    Air of sinuses and throat lies above the brain, and the narrow vertex below it.

    Parameters
    ----------
    areas, cavities : sequence of float
        Of the body and of air within it, by slice, square centimetres.
    heights : sequence of float
        Of each slice, mm towards the head.
    """
    order = np.argsort(heights)
    widths, air = np.asarray(areas)[order], np.asarray(cavities)[order]
    third = max(1, len(order) // 3)
    low, high = air[:third].sum(), air[-third:].sum()
    return bool(high > 6 and high > 3 * low and widths[-1] > 1.3 * widths[0])


def _those(*found: tuple[str, bool]) -> tuple[Reason, ...]:
    return tuple(reason(code) for code, wrong in found if wrong)


def _within(value: float | None, bounds: tuple[float, float]) -> bool:
    return value is not None and bounds[0] <= value <= bounds[1]


__all__ = [
    "CT_CLASSES",
    "Described",
    "REASONS",
    "content_reasons",
    "described_reasons",
    "missing_slices",
    "placed_reasons",
    "reason",
    "upside_down",
]
