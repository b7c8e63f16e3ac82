"""How a volume wants to be shown: its window, proportions and sides, and what lies over it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy.typing as npt

from voxelvault.display.overlay import OPACITY
from voxelvault.display.window import Window, WindowChoice, choose_window


@dataclass(frozen=True, kw_only=True)
class Look:
    """How a volume is shown, in whatever viewer or picture.

    Parameters
    ----------
    window : str, (center, width), Window, optional
        As in `choose_window`.
    header : Window, optional
        The header's own window.
    hounsfield : bool
        The values are Hounsfield units: presets hold.
    inverted : bool
        MONOCHROME1.
    unit : str
        Of the values, for readings.
    aspect : float
        Row spacing over column spacing, whatever the plane's orientation. Three planes have an affine.
    orientation : sequence of 6 floats, optional
        Direction cosines of a slice, for the letters at the edges. Three planes have an affine.
    names : mapping of int to str, optional
        Label of the mask to its name; free of identifiers.
    opacity : float
        Of the mask.
    """

    window: WindowChoice = None
    header: Window | None = None
    hounsfield: bool = False
    inverted: bool = False
    unit: str = ""
    aspect: float = 1.0
    orientation: tuple[float, ...] | None = None
    names: Mapping[int, str] | None = None
    opacity: float = OPACITY

    def window_for(self, values: npt.NDArray[Any]) -> Window:
        """Return the window that is asked for, else the header's, else one from the values.

        Parameters
        ----------
        values : ndarray
            What is going to be shown, any shape.

        Raises
        ------
        UsageError
            As for `choose_window`.
        """
        return choose_window(self.window, values, self.header, hounsfield=self.hounsfield)


PLAIN = Look()
"""For values of which nothing is known."""

__all__ = ["PLAIN", "Look"]
