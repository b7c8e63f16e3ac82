"""What is measured of a CT, and how far each measure may go: decisions alone, no I/O.

Each check has a limit; its severity is 0.5 at the limit, grows with the measure and ends at 1. What can't
be measured (no table in the picture, no soft tissue) has no severity.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from voxelvault_triage.content import BODY, body_of, coarse

Floats = npt.NDArray[np.float64]

PADDING = -1500.0
"""Hounsfield units below which nothing was measured."""
TABLE_CM2, ONE_SIDED = 2.0, 3.0
"""Least area of a table in a slice; how much more of it lies on one side than on the other."""


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that is checked.

    Parameters
    ----------
    limit : float
        At and above which it is told of.
    unit : str
        Of the measure.
    sentence : str
        What it means, for people.
    """

    limit: float
    unit: str
    sentence: str


CHECKS: Mapping[str, Check] = {
    "missing": Check(1, "slices", "slices are missing between others"),
    "uneven": Check(0.1, "of the step", "slices lie unevenly: treat the volume slice by slice, or resample"),
    "tilt": Check(2, "degrees", "the gantry's tilt in the header isn't the one of the positions"),
    "orientation": Check(1, "", "the table lies on another side than PatientPosition says"),
    "upside-down": Check(1, "", "a head's top lies at its foot"),
    "truncated": Check(0.05, "of the outline", "the field of view cuts the body"),
    "noise": Check(25, "HU", "noise in soft tissue is high"),
}
"""By name; the keys of a finding's types."""


@dataclass(frozen=True, slots=True)
class SliceFacts:
    """What one slice shows.

    Parameters
    ----------
    area : float
        Of the body, square centimetres.
    cavities : float
        Air within it, square centimetres.
    skull : bool
        A closed skull surrounds brain.
    cut : float
        Share of the body's outline that lies on the edge of what was measured.
    noise : float
        Standard deviation in even soft tissue, Hounsfield units; NaN where there is none.
    table : (float, float, float, float)
        Area of what is neither body nor air, towards row 0, the last row, column 0, the last column.
    """

    area: float
    cavities: float
    skull: bool
    cut: float
    noise: float
    table: tuple[float, float, float, float]


@dataclass(frozen=True, slots=True)
class Measured:
    """Measures of one stack, by check; what can't be measured is left out."""

    values: Mapping[str, float] = field(default_factory=dict)

    @property
    def severities(self) -> dict[str, float]:
        """Severity of every check, 0 to 1; 0.5 at its limit, 0 where it can't be measured."""
        return {
            name: float(min(1.0, 0.5 * self.values.get(name, 0.0) / check.limit))
            for name, check in CHECKS.items()
        }


def tilt_of(positions: Floats, normal: Floats) -> float:
    """Return by how many degrees the slices' stacking leans off their normal, from 0.

    Parameters
    ----------
    positions : (slice, 3) float64
        mm, LPS, in order.
    normal : (3,) float64
        Unit vector across the slices.
    """
    whole = positions[-1] - positions[0]
    along = abs(float(whole @ normal))
    return float(np.degrees(np.arctan2(np.linalg.norm(whole - (whole @ normal) * normal), along)))


def unevenness(steps: Floats) -> float:
    """Return the largest difference of a step from the usual one, as a part of that one; gaps left out."""
    usual = float(np.median(steps))
    return float(np.abs(steps[steps < 1.6 * usual] - usual).max(initial=0.0) / usual) if usual > 0 else 0.0


def cut_mask(plane: npt.NDArray[np.float32], body: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    """Return the part of a coarse slice's body that lies on the edge of what was measured."""
    measured = plane > PADDING
    inner = ndimage.binary_erosion(measured, iterations=2)
    return np.asarray(body & ~inner, np.bool_)


def cut_share(body: npt.NDArray[np.bool_], cut: npt.NDArray[np.bool_]) -> float:
    """Return the share of a body's outline that is cut."""
    outline = body & ~ndimage.binary_erosion(body, iterations=1)
    return float((outline & cut).sum() / max(1, outline.sum()))


def noise_of(plane: npt.NDArray[np.floating], spacing: tuple[float, float]) -> float:
    """Return the standard deviation in even soft tissue of a slice, HU; NaN where there is too little.

    Windows of about 4 mm that hold soft tissue alone; the quieter half of them, since anatomy varies too.
    """
    size = max(5, round(4 / max(spacing)))
    whole = np.nan_to_num(plane.astype(np.float32), nan=-1000.0)
    soft = (whole > -60) & (whole < 140)
    mean = ndimage.uniform_filter(whole, size)
    even = ndimage.uniform_filter(soft.astype(np.float32), size) > 0.98
    even &= (mean > 0) & (mean < 80)
    if even.sum() < 200:
        return float("nan")
    square = ndimage.uniform_filter(np.square(whole - 30), size) - np.square(mean - 30)
    spread = np.sqrt(np.maximum(square[even], 0))
    return float(np.median(spread[spread <= np.median(spread)]))


def table_of(
    plane: npt.NDArray[np.float32], body: npt.NDArray[np.bool_], step: tuple[float, float]
) -> tuple[float, float, float, float]:
    """Return how much that is neither body nor air lies beyond the body on each of four sides, cm²."""
    rows, columns = np.nonzero(body)
    if not rows.size:
        return 0.0, 0.0, 0.0, 0.0
    near = ndimage.binary_dilation(body, iterations=max(1, round(4 / max(step))))
    other = (plane > -700) & (plane > PADDING) & ~near
    pixel = step[0] * step[1] / 100
    middle = int(rows.mean()), int(columns.mean())
    parts = other[: middle[0]], other[middle[0] :], other[:, : middle[1]], other[:, middle[1] :]
    up, down, left, right = (float(part.sum() * pixel) for part in parts)
    return up, down, left, right


def slice_facts(
    plane: npt.NDArray[np.floating], spacing: tuple[float, float], brain: bool
) -> tuple[SliceFacts, npt.NDArray[np.bool_]]:
    """Return what one slice shows, and where its body is cut, on the coarse grid.

    Parameters
    ----------
    plane : (row, column) floating
        Hounsfield units; NaN for padding.
    spacing : (float, float)
        (row, column) mm.
    brain : bool
        It shows brain in a skull.
    """
    padded = np.where(np.isfinite(plane), plane, np.float32(2 * PADDING))
    small, step = coarse(padded, spacing)
    body = body_of(small, step)
    cut = cut_mask(small, body)
    pixel = step[0] * step[1] / 100
    facts = SliceFacts(
        area=float(body.sum() * pixel),
        cavities=float((body & (small < BODY)).sum() * pixel),
        skull=brain,
        cut=cut_share(body, cut),
        noise=noise_of(plane, spacing),
        table=table_of(small, body, step),
    )
    return facts, cut


def table_direction(facts: Sequence[SliceFacts], row: Floats, column: Floats) -> Floats | None:
    """Return where the table lies seen from the body, a unit vector in LPS; None where none is seen.

    Parameters
    ----------
    facts : sequence of SliceFacts
        Of the slices.
    row, column : (3,) float64
        Directions along a row (to the next column) and along a column (to the next row).
    """
    up, down, left, right = np.median([one.table for one in facts], axis=0)
    for less, more, direction in (
        (up, down, column),
        (down, up, -column),
        (left, right, row),
        (right, left, -row),
    ):
        if more >= TABLE_CM2 and more >= ONE_SIDED * less and more >= max(up, down, left, right):
            return np.asarray(direction, np.float64)
    return None


_TABLE_AT: Mapping[str, tuple[float, float, float]] = {
    "S": (0, 1, 0),
    "P": (0, -1, 0),
    "DR": (-1, 0, 0),
    "DL": (1, 0, 0),
}
"""Where the table is in LPS for the last letters of PatientPosition (PS3.3 C.7.3.1.1.2): who lies on the
right side (DR) has the table at the right."""


def table_differs(direction: Floats | None, patient_position: str) -> bool | None:
    """Tell whether the table lies elsewhere than PatientPosition says; None where one isn't known."""
    said = _TABLE_AT.get(patient_position.strip().upper()[2:])
    if direction is None or said is None:
        return None
    return bool(direction @ np.array(said) < 0.5)


__all__ = [
    "CHECKS",
    "Check",
    "Measured",
    "SliceFacts",
    "cut_mask",
    "noise_of",
    "slice_facts",
    "table_differs",
    "table_direction",
    "tilt_of",
    "unevenness",
]
