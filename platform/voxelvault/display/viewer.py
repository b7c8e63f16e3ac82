"""Leafing through slices: a viewer in a notebook, a contact sheet elsewhere."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import numpy.typing as npt
from PIL import Image

from voxelvault.display.contact_sheet import contact_sheet, pick
from voxelvault.display.image import annotate, edge_letters, png, shape_on_screen, to_image
from voxelvault.display.look import PLAIN, Look
from voxelvault.display.overlay import OPACITY, as_labels, blend
from voxelvault.display.progress import in_notebook
from voxelvault.display.window import PRESETS, Window, to_uint8
from voxelvault.errors import MissingExtra, UsageError

if TYPE_CHECKING:
    from voxelvault.display.slice_widget import SliceViewer

SliceAt: TypeAlias = Callable[[int], npt.NDArray[Any]]

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
    mask: npt.NDArray[np.uint8] | None = None,
    opacity: float = OPACITY,
    outline: bool = True,
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
    mask : ndarray, optional
        (row, column) uint8 labels over it.
    opacity, outline : float, bool
        As in `blend`.
    """
    coloured = plane.ndim == 3 and plane.dtype == np.uint8
    if not coloured and (plane.ndim != 2 or window is None):
        raise UsageError("a viewer shows one plane at a time, (row, column) or (row, column, 3) uint8")
    grey = plane if window is None or coloured else to_uint8(plane, window, inverted=inverted)
    drawn = grey if mask is None else blend(grey, mask, opacity, outline)
    return png(annotate(to_image(drawn, aspect, size), letters, text))


def viewer(
    slice_at: SliceAt,
    count: int,
    look: Look = PLAIN,
    *,
    mask_at: SliceAt | None = None,
    title: str = "",
    start: int | None = None,
    size: int = 512,
) -> SliceViewer:
    """Return a widget that shows one slice at a time.

    Mouse wheel and arrow keys move through the slices; dragging changes the window, with shift it moves
    the picture, ctrl and wheel zoom. Under the pointer it reads place and value.

    Parameters
    ----------
    slice_at : callable
        Index to (row, column) modality values, or (row, column, 3) uint8 colour.
    count : int
        How many slices there are.
    look : Look
        Window, proportions, unit, names of labels, opacity.
    mask_at : callable, optional
        Index to (row, column): bool, or labels 0 to 255.
    title : str
        Above it; free of identifiers.
    start : int, optional
        First slice shown; the middle one by default.
    size : int
        Longest side of the picture, screen pixels.

    Returns
    -------
    SliceViewer
        A widget; its values can be set from Python too: `index`, `preset`, `center`, `width`, `opacity`.

    Raises
    ------
    MissingExtra
        anywidget is not installed.
    UsageError
        There is nothing to show, or no such window.
    """
    if count < 1:
        raise UsageError("there are no slices to show; choose a series with pixels")
    slice_viewer = _widget()
    first = count // 2 if start is None else min(max(start, 0), count - 1)
    plane = slice_at(first)
    chosen, window = look.window_for(plane), look.window
    named = window if isinstance(window, str) else ("as acquired" if window is None else "custom")
    made: SliceViewer = slice_viewer(
        slice_at,
        None if mask_at is None else lambda index: as_labels(np.asarray(mask_at(index))),
        look.header,
        lambda shown: _still(shown, look.aspect, size),
        count=count,
        index=first,
        shape=list(shape_on_screen(plane.shape[0], plane.shape[1], look.aspect, size)),
        title=title,
        unit=look.unit,
        letters=list(edge_letters(look.orientation)),
        coloured=plane.ndim == 3,
        inverted=look.inverted,
        presets=["as acquired", "auto", *(PRESETS if look.hounsfield else ()), "custom"],
        preset=named,
        center=float(chosen.center),
        width=float(chosen.width),
        function=chosen.function,
        names={str(label): name for label, name in (look.names or {}).items()},
        opacity=look.opacity,
    )
    return made


def _still(shown: SliceViewer, aspect: float, size: int) -> bytes:
    """Return the slice at hand as the widget shows it, but whole."""
    mask = None
    if shown.mask_at is not None and shown.overlay:
        labels = shown.mask_at(shown.index)
        mask = np.where(np.isin(labels, shown.hidden), 0, labels).astype(np.uint8)
    left, right, top, bottom = shown.letters
    return render(
        shown.slice_at(shown.index),
        None if shown.coloured else shown.window,
        aspect=aspect,
        letters=(left, right, top, bottom),
        text=f"[{shown.index}] of {shown.count}",  # the index, as arrays count: volume[index]
        size=size,
        inverted=shown.inverted,
        mask=mask,
        opacity=shown.opacity,
        outline=shown.outline,
    )


def show(
    slice_at: SliceAt,
    count: int,
    look: Look = PLAIN,
    *,
    mask_at: SliceAt | None = None,
    start: int | None = None,
) -> Any:
    """Return a viewer in a notebook, elsewhere a contact sheet.

    Parameters
    ----------
    slice_at, count, look, mask_at, start
        As in `viewer`.

    Returns
    -------
    SliceViewer or PIL.Image.Image
        What a notebook displays, or a picture with `save` and `show`.

    Raises
    ------
    MissingExtra
        In a notebook without anywidget.
    """
    if in_notebook():
        return viewer(slice_at, count, look, mask_at=mask_at, start=start)
    return sheet(slice_at, count, look, mask_at=mask_at)


def sheet(
    slice_at: SliceAt,
    count: int,
    look: Look = PLAIN,
    *,
    mask_at: SliceAt | None = None,
    indexes: Sequence[int] | None = None,
    across: int | None = None,
    shown: int = _SHEET,
) -> Image.Image:
    """Return a contact sheet of slices, evenly spread, all under one window.

    Parameters
    ----------
    slice_at, count, look, mask_at
        As in `viewer`.
    indexes : sequence of int, optional
        Which slices; evenly spread ones by default.
    across : int, optional
        Tiles in a row.
    shown : int
        Slices on the sheet, at most, where they are not named.

    Raises
    ------
    UsageError
        There is nothing to show, or no such window.
    """
    if count < 1:
        raise UsageError("there are no slices to show; choose a series with pixels")
    indexes = pick(count, shown) if indexes is None else indexes
    planes = [slice_at(index) for index in indexes]
    if planes[0].ndim == 2:
        chosen = look.window_for(planes[len(planes) // 2])
        planes = [to_uint8(plane, chosen, inverted=look.inverted) for plane in planes]
    if mask_at is not None:
        masks = [as_labels(np.asarray(mask_at(index))) for index in indexes]
        planes = [blend(plane, mask, look.opacity) for plane, mask in zip(planes, masks, strict=True)]
    letters = [edge_letters(look.orientation)] * len(planes)
    captions = [f"[{index}] of {count}" for index in indexes]
    return contact_sheet(planes, captions, aspects=look.aspect, letters=letters, across=across)


def _widget() -> Any:
    try:
        from voxelvault.display.slice_widget import SliceViewer
    except ImportError as error:
        raise MissingExtra("the viewer needs anywidget; run: pip install 'voxelvault[notebook]'") from error
    return SliceViewer


__all__ = ["render", "sheet", "show", "viewer"]
