"""Values to grey levels: windows by name, by centre and width, or from the values themselves."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from voxelvault.errors import UsageError

Grey: TypeAlias = npt.NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class Window:
    """A range of values shown from black to white.

    Parameters
    ----------
    center, width : float
        In the values' own unit.
    function : str
        LINEAR, LINEAR_EXACT or SIGMOID.

    References
    ----------
    DICOM PS3.3 C.11.2.1.2 and C.11.2.1.3.
    """

    center: float
    width: float
    function: str = "LINEAR"


PRESETS: dict[str, Window] = {
    "brain": Window(40, 80),
    "stroke": Window(35, 40),
    "subdural": Window(75, 215),
    "soft tissue": Window(50, 400),
    "abdomen": Window(60, 400),
    "liver": Window(60, 160),
    "mediastinum": Window(50, 350),
    "lung": Window(-600, 1500),
    "bone": Window(500, 2000),
    "temporal bone": Window(600, 2800),
    "angiography": Window(300, 600),
}
"""Usual windows for CT, Hounsfield units."""

WindowChoice: TypeAlias = "str | tuple[float, float] | Window | None"


def choose_window(
    choice: WindowChoice, values: npt.NDArray[Any], header: Window | None = None, *, hounsfield: bool = True
) -> Window:
    """Return the window that is meant.

    Parameters
    ----------
    choice : str, (center, width), Window, optional
        A preset's name, `"auto"` for one from the values, or numbers; without a choice the header's
        window, else one from the values.
    values : ndarray
        What is going to be shown.
    header : Window, optional
        The header's own.
    hounsfield : bool
        The values are Hounsfield units; the presets hold for nothing else.

    Returns
    -------
    Window
        Never with a width of zero.

    Raises
    ------
    UsageError
        No such preset, presets for values that are not Hounsfield units, or a width that is not above zero.
    """
    if choice is None:
        return header if header is not None and header.width > 0 else auto_window(values)
    if isinstance(choice, str):
        return auto_window(values) if choice == "auto" else _preset(choice, hounsfield)
    window = choice if isinstance(choice, Window) else Window(float(choice[0]), float(choice[1]))
    if not window.width > 0:
        raise UsageError("a window's width must be above zero; give (center, width)")
    return window


def auto_window(values: npt.NDArray[Any]) -> Window:
    """Return a window that leaves out the darkest and brightest half per cent.

    Parameters
    ----------
    values : ndarray
        Any shape; nan is left out.
    """
    sample = values.reshape(-1)[:: max(values.size // 200_000, 1)].astype(np.float64)
    sample = sample[np.isfinite(sample)]
    if not sample.size:
        return Window(0.5, 1.0, "LINEAR_EXACT")
    low, high = np.percentile(sample, [0.5, 99.5])
    if high <= low:
        low, high = sample.min(), sample.max()
    return Window(float(low + high) / 2, float(high - low) or 1.0, "LINEAR_EXACT")


def to_uint8(values: npt.NDArray[Any], window: Window, *, inverted: bool = False) -> Grey:
    """Return grey levels, 0 black to 255 white.

    Parameters
    ----------
    values : ndarray
        Any shape, modality values; nan becomes black.
    window : Window
        What to show.
    inverted : bool
        MONOCHROME1: small values are white.

    Returns
    -------
    ndarray
        uint8, the same shape.

    References
    ----------
    DICOM PS3.3 C.11.2.1.2.1 (LINEAR), C.11.2.1.3.1 (SIGMOID), C.11.2.1.3.2 (LINEAR_EXACT).
    """
    levels = _LEVELS.get(window.function, _linear)(values.astype(np.float32), window)
    np.clip(levels, 0.0, 1.0, out=levels)
    if inverted:
        np.subtract(1.0, levels, out=levels)
    np.nan_to_num(levels, copy=False, nan=0.0)
    return np.asarray(np.rint(levels * 255), dtype=np.uint8)


def _linear(values: npt.NDArray[np.float32], window: Window) -> npt.NDArray[np.float32]:
    if window.width <= 1:
        return np.where(
            np.isnan(values), np.float32(np.nan), (values > window.center - 0.5).astype(np.float32)
        )
    return np.asarray((values - (window.center - 0.5)) / (window.width - 1) + 0.5, dtype=np.float32)


def _linear_exact(values: npt.NDArray[np.float32], window: Window) -> npt.NDArray[np.float32]:
    return np.asarray((values - window.center) / window.width + 0.5, dtype=np.float32)


def _sigmoid(values: npt.NDArray[np.float32], window: Window) -> npt.NDArray[np.float32]:
    with np.errstate(over="ignore"):
        return np.asarray(1 / (1 + np.exp(-4 * (values - window.center) / window.width)), dtype=np.float32)


_LEVELS = {"LINEAR": _linear, "LINEAR_EXACT": _linear_exact, "SIGMOID": _sigmoid}


def _preset(name: str, hounsfield: bool) -> Window:
    if name not in PRESETS:
        raise UsageError(f"no such window; use one of {', '.join(PRESETS)}, auto, or (center, width)")
    if not hounsfield:
        raise UsageError("window presets are for Hounsfield units; use window='auto' or (center, width)")
    return PRESETS[name]
