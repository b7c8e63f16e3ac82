"""The slice viewer's half in the kernel: it hands out one slice after another, and knows what is shown.

The other half is `static/slices.js`: it windows, zooms and draws. Slices travel as messages, never as
widget state, so that neither a notebook saved with its widgets nor a page made of it holds the volume.
Imported only where a viewer is made: anywidget comes with the extra `notebook`.
"""

from __future__ import annotations

import base64
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anywidget
import numpy as np
import numpy.typing as npt
import traitlets

from voxelvault.display.overlay import OPACITY, PALETTE
from voxelvault.display.window import PRESETS, Window, auto_window, choose_window
from voxelvault.errors import VoxelVaultError

STATIC = Path(__file__).parent / "static"

AS_ACQUIRED = "as acquired"
AUTO = "auto"
CUSTOM = "custom"


class SliceViewer(anywidget.AnyWidget):
    """One slice at a time; set `index`, `center`, `width`, `preset`, `opacity`, … from Python as well.

    Parameters
    ----------
    slice_at : callable
        Index to (row, column) modality values, or (row, column, 3) uint8 colour.
    mask_at : callable, optional
        Index to (row, column) uint8 labels.
    header : Window, optional
        The header's own window: what `as acquired` means.
    still : callable
        Viewer to PNG of the slice at hand, for pages where no widgets run.
    **state
        Values of the traits below.
    """

    _esm = STATIC / "slices.js"
    _css = STATIC / "viewer.css"

    count = traitlets.Int(1).tag(sync=True)
    index = traitlets.Int(0).tag(sync=True)
    shape = traitlets.List([1, 1]).tag(sync=True)
    title = traitlets.Unicode("").tag(sync=True)
    unit = traitlets.Unicode("").tag(sync=True)
    letters = traitlets.List(["", "", "", ""]).tag(sync=True)
    coloured = traitlets.Bool(False).tag(sync=True)
    inverted = traitlets.Bool(False).tag(sync=True)
    presets = traitlets.List([AS_ACQUIRED, AUTO, CUSTOM]).tag(sync=True)
    preset = traitlets.Unicode(AS_ACQUIRED).tag(sync=True)
    center = traitlets.Float(0.5).tag(sync=True)
    width = traitlets.Float(1.0).tag(sync=True)
    function = traitlets.Unicode("LINEAR").tag(sync=True)
    view = traitlets.List([1.0, 0.5, 0.5]).tag(sync=True)
    """Zoom, and which point of the slice is in the middle, as parts of its width and height."""
    masked = traitlets.Bool(False).tag(sync=True)
    overlay = traitlets.Bool(True).tag(sync=True)
    outline = traitlets.Bool(True).tag(sync=True)
    opacity = traitlets.Float(OPACITY, min=0.0, max=1.0).tag(sync=True)
    names = traitlets.Dict({}).tag(sync=True)
    hidden: Any = traitlets.List([]).tag(sync=True)
    colours = traitlets.List([list(colour) for colour in PALETTE]).tag(sync=True)

    def __init__(
        self,
        slice_at: Callable[[int], npt.NDArray[Any]],
        mask_at: Callable[[int], npt.NDArray[np.uint8]] | None,
        header: Window | None,
        still: Callable[[SliceViewer], bytes],
        **state: Any,
    ) -> None:
        super().__init__(masked=mask_at is not None, **state)
        self.slice_at, self.mask_at, self._header, self._still = slice_at, mask_at, header, still
        self._following = False
        self.on_msg(self._asked)
        self.observe(self._preset, names="preset")
        self.observe(self._numbers, names=["center", "width"])

    @property
    def window(self) -> Window:
        """The window shown; setting it is a choice of its own, no preset."""
        return Window(self.center, self.width, self.function)

    @window.setter
    def window(self, window: Window) -> None:
        self.preset = CUSTOM
        self._follow(window)

    @traitlets.validate("index")
    def _inside(self, proposal: Any) -> int:
        return min(max(int(proposal["value"]), 0), self.count - 1)

    @traitlets.validate("width")
    def _positive(self, proposal: Any) -> float:
        return float(proposal["value"]) if proposal["value"] > 0 else self.width

    def _asked(self, _: Any, content: Any, buffers: Any) -> None:
        index = content.get("slice") if isinstance(content, dict) else None
        if not isinstance(index, int) or not 0 <= index < self.count:
            return
        try:
            plane = self.slice_at(index)
            mask = None if self.mask_at is None else self.mask_at(index)
        except VoxelVaultError as error:  # a closed series: said where the user looks
            self.send({"slice": index, "problem": str(error)})
            return
        kind, values = encode(plane)
        parts = [values] if mask is None else [values, np.ascontiguousarray(mask)]
        message = {"slice": index, "rows": plane.shape[0], "columns": plane.shape[1], "kind": kind}
        self.send(message, [zlib.compress(part.tobytes(), 1) for part in parts])

    def _preset(self, change: Any) -> None:
        if change["new"] != CUSTOM:
            self._follow(self._named(change["new"]))

    def _named(self, name: str) -> Window:
        if name in PRESETS:
            return PRESETS[name]
        plane = self.slice_at(self.index)
        return auto_window(plane) if name == AUTO else choose_window(None, plane, self._header)

    def _follow(self, window: Window) -> None:
        self._following = True  # the numbers follow the preset, not the other way round
        with self.hold_sync():
            self.center, self.width, self.function = window.center, window.width, window.function
        self._following = False

    def _numbers(self, _: Any) -> None:
        if not self._following:
            self.preset = CUSTOM

    def _repr_mimebundle_(self, **kwargs: Any) -> Any:
        bundle = super()._repr_mimebundle_(**kwargs)
        if bundle is None:
            return None
        data, about = bundle
        return {**data, "image/png": base64.b64encode(self._still(self)).decode()}, about


def encode(plane: npt.NDArray[Any]) -> tuple[str, npt.NDArray[Any]]:
    """Return how a slice travels, values unchanged: whole numbers in two bytes where they fit.

    Parameters
    ----------
    plane : ndarray
        (row, column), or (row, column, 3) uint8.

    Returns
    -------
    tuple
        ``"int16"``, ``"float32"`` or ``"rgb"``, and the array in C order, little endian.
    """
    if plane.ndim == 3:
        return "rgb", np.ascontiguousarray(plane, np.uint8)
    values = np.ascontiguousarray(plane, "<f4")
    with np.errstate(invalid="ignore"):
        small = np.rint(values).astype("<i2")
    return ("int16", small) if np.array_equal(small, values) else ("float32", values)
