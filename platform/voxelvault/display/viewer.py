"""Leafing through slices in a notebook: a slider, window presets, centre and width."""

from __future__ import annotations

import base64
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
from PIL import Image

from voxelvault.display.contact_sheet import contact_sheet, pick
from voxelvault.display.image import annotate, edge_letters, png, shape_on_screen, to_image
from voxelvault.display.progress import in_notebook
from voxelvault.display.window import PRESETS, Window, WindowChoice, auto_window, choose_window, to_uint8
from voxelvault.errors import MissingExtra, UsageError

SliceAt: TypeAlias = Callable[[int], npt.NDArray[Any]]

_OWN = "as acquired"
_AUTO = "auto"
_CUSTOM = "custom"
_SHEET = 20


def render(
    plane: npt.NDArray[Any],
    window: Window | None,
    *,
    aspect: float = 1.0,
    letters: tuple[str, str, str, str] = ("", "", "", ""),
    text: str = "",
    size: int = 512,
    inverted: bool = False,
) -> bytes:
    """Return one slice as PNG.

    Parameters
    ----------
    plane : ndarray
        (row, column) modality values, or (row, column, 3) uint8 colour.
    window : Window, optional
        What to show; needed unless the plane is coloured.
    aspect : float
        Row spacing over column spacing.
    letters : tuple of 4 str
        Sides of the body at (left, right, top, bottom).
    text : str
        A line at the bottom left, free of identifiers.
    size : int
        Longest side, screen pixels.
    inverted : bool
        MONOCHROME1.
    """
    coloured = plane.ndim == 3 and plane.dtype == np.uint8
    if not coloured and (plane.ndim != 2 or window is None):
        raise UsageError("a viewer shows one plane at a time, (row, column) or (row, column, 3) uint8")
    grey = plane if window is None or coloured else to_uint8(plane, window, inverted=inverted)
    return png(annotate(to_image(grey, aspect, size), letters, text))


def viewer(
    slice_at: SliceAt,
    count: int,
    *,
    window: WindowChoice = None,
    header: Window | None = None,
    hounsfield: bool = False,
    aspect: float = 1.0,
    orientation: Sequence[float] | None = None,
    inverted: bool = False,
    start: int | None = None,
    size: int = 512,
) -> Any:
    """Return a widget that shows one slice at a time.

    Parameters
    ----------
    slice_at : callable
        Index to (row, column) modality values, or (row, column, 3) uint8 colour.
    count : int
        How many slices there are.
    window : str, (center, width), Window, optional
        As in `choose_window`.
    header : Window, optional
        The header's own window.
    hounsfield : bool
        The values are Hounsfield units: offer the presets.
    aspect : float
        Row spacing over column spacing, whatever the plane's orientation.
    orientation : sequence of 6 floats, optional
        Direction cosines, for the letters at the edges.
    inverted : bool
        MONOCHROME1.
    start : int, optional
        First slice shown; the middle one by default.
    size : int
        Longest side of the picture, screen pixels.

    Returns
    -------
    ipywidgets.VBox
        Its children are the picture and the controls.

    Raises
    ------
    MissingExtra
        ipywidgets is not installed.
    UsageError
        There is nothing to show, or no such window.
    """
    if count < 1:
        raise UsageError("there are no slices to show; choose a series with pixels")
    return _Viewer(
        slice_at, count, window, header, hounsfield, aspect, edge_letters(orientation), inverted, start, size
    ).box


def show(
    slice_at: SliceAt,
    count: int,
    *,
    spacing: tuple[float, float] = (1.0, 1.0),
    window: WindowChoice = None,
    header: Window | None = None,
    orientation: Sequence[float] | None = None,
    unit: str | None = None,
    inverted: bool = False,
) -> Any:
    """Return a viewer in a notebook, elsewhere a contact sheet.

    Parameters
    ----------
    slice_at, count, window, header, orientation, inverted
        As in `viewer`.
    spacing : tuple
        (row, column) mm; only their ratio matters.
    unit : str, optional
        Unit of the values; window presets are for HU, and for values whose unit is not told.

    Returns
    -------
    ipywidgets.VBox or PIL.Image.Image
        What a notebook displays, or a picture with `save` and `show`.

    Raises
    ------
    MissingExtra
        In a notebook without ipywidgets.
    """
    aspect, hounsfield = spacing[0] / spacing[1], unit in (None, "HU")
    if in_notebook():
        return viewer(
            slice_at,
            count,
            window=window,
            header=header,
            hounsfield=hounsfield,
            aspect=aspect,
            orientation=orientation,
            inverted=inverted,
        )
    return sheet(
        slice_at,
        count,
        window=window,
        header=header,
        hounsfield=hounsfield,
        aspect=aspect,
        orientation=orientation,
        inverted=inverted,
    )


def sheet(
    slice_at: SliceAt,
    count: int,
    *,
    window: WindowChoice = None,
    header: Window | None = None,
    hounsfield: bool = False,
    aspect: float = 1.0,
    orientation: Sequence[float] | None = None,
    inverted: bool = False,
    shown: int = _SHEET,
) -> Image.Image:
    """Return a contact sheet of slices, evenly spread, all under one window.

    Parameters
    ----------
    slice_at, count, window, header, hounsfield, aspect, orientation, inverted
        As in `viewer`.
    shown : int
        Slices on the sheet, at most.

    Raises
    ------
    UsageError
        There is nothing to show, or no such window.
    """
    if count < 1:
        raise UsageError("there are no slices to show; choose a series with pixels")
    indexes = pick(count, shown)
    planes = [slice_at(index) for index in indexes]
    if planes[0].ndim == 2:
        chosen = choose_window(window, planes[len(planes) // 2], header, hounsfield=hounsfield)
        planes = [to_uint8(plane, chosen, inverted=inverted) for plane in planes]
    letters = [edge_letters(orientation)] * len(planes)
    captions = [f"[{index}] of {count}" for index in indexes]
    return contact_sheet(planes, captions, aspects=aspect, letters=letters)


class _Viewer:
    """The state behind the widget: the slice at hand and its window."""

    def __init__(
        self,
        slice_at: SliceAt,
        count: int,
        window: WindowChoice,
        header: Window | None,
        hounsfield: bool,
        aspect: float,
        letters: tuple[str, str, str, str],
        inverted: bool,
        start: int | None,
        size: int,
    ) -> None:
        widgets = _widgets()
        self._slice_at, self._count, self._header = slice_at, count, header
        self._aspect, self._letters, self._inverted, self._size = aspect, letters, inverted, size
        first = count // 2 if start is None else min(max(start, 0), count - 1)
        self._index, self._plane = first, slice_at(first)
        self._coloured = self._plane.ndim == 3
        self._window = choose_window(window, self._plane, header, hounsfield=hounsfield)
        self._busy = False
        width, height = shape_on_screen(self._plane.shape[0], self._plane.shape[1], aspect, size)
        self.picture = widgets.Image(format="png", width=width, height=height)
        self.slider = widgets.IntSlider(first, 0, count - 1, description="slice", continuous_update=True)
        self.slider.layout.width = f"{max(width, 300)}px"
        names = [_OWN, _AUTO, *(PRESETS if hounsfield else ()), _CUSTOM]
        chosen = window if isinstance(window, str) else (_CUSTOM if window is not None else _OWN)
        self.preset = widgets.Dropdown(options=names, value=chosen, description="window")
        self.center = widgets.FloatText(self._window.center, description="center")
        self.width = widgets.FloatText(self._window.width, description="width")
        self._watch()
        grey = [] if self._coloured else [widgets.HBox([self.preset, self.center, self.width])]
        self.box = _box_of(self.picture)([self.picture, *([self.slider] if count > 1 else []), *grey])
        self._draw()

    def _watch(self) -> None:
        self.slider.observe(self._move, names="value")
        self.preset.observe(self._preset, names="value")
        self.center.observe(self._numbers, names="value")
        self.width.observe(self._numbers, names="value")

    def _move(self, change: Any) -> None:
        self._index, self._plane = int(change["new"]), self._slice_at(int(change["new"]))
        self._draw()

    def _preset(self, change: Any) -> None:
        if self._busy or change["new"] == _CUSTOM:
            return
        self._window = self._named(str(change["new"]))
        self._busy = True  # the numbers follow the preset, not the other way round
        self.center.value, self.width.value = self._window.center, self._window.width
        self._busy = False
        self._draw()

    def _named(self, name: str) -> Window:
        if name in PRESETS:
            return PRESETS[name]
        return choose_window(None, self._plane, self._header) if name == _OWN else auto_window(self._plane)

    def _numbers(self, _: Any) -> None:
        if self._busy or not self.width.value > 0:
            return
        self._window = Window(float(self.center.value), float(self.width.value))
        self._busy = True
        self.preset.value = _CUSTOM
        self._busy = False
        self._draw()

    def _draw(self) -> None:
        self.picture.value = render(
            self._plane,
            None if self._coloured else self._window,
            aspect=self._aspect,
            letters=self._letters,
            text=f"[{self._index}] of {self._count}",  # the index, as arrays count: volume[index]
            size=self._size,
            inverted=self._inverted,
        )


def _box_of(picture: Any) -> Any:
    """Return a VBox class that shows the picture alone where no widgets run, as on a web page."""

    class Box(_widgets().VBox):  # type: ignore[misc]
        def _repr_mimebundle_(self, **kwargs: Any) -> Any:
            bundle = super()._repr_mimebundle_(**kwargs)
            still = {"image/png": base64.b64encode(picture.value).decode()}
            return bundle if bundle is None else {**bundle, **still}

    return Box


def _widgets() -> Any:
    try:
        import ipywidgets
    except ImportError as error:
        raise MissingExtra("the viewer needs ipywidgets; run: pip install 'voxelvault[notebook]'") from error
    return ipywidgets


__all__ = ["render", "show", "viewer"]
