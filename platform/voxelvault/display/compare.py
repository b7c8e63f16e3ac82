"""Several volumes side by side, scrolling together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image

from voxelvault.display.contact_sheet import pick
from voxelvault.display.look import PLAIN, Look
from voxelvault.display.progress import in_notebook
from voxelvault.display.viewer import SliceAt, sheet, viewer
from voxelvault.errors import UsageError

_GAP = 6


@dataclass(frozen=True)
class Pane:
    """One volume of several.

    Parameters
    ----------
    slice_at : callable
        As in `viewer`.
    count : int
        Of slices.
    look : Look
        As in `viewer`.
    title : str
        Above it; free of identifiers.
    places : sequence of float, optional
        Where each slice lies along the common normal, mm.
    space : str
        Panes of the same space and with places show the same place; others the same part of the way.
    """

    slice_at: SliceAt
    count: int
    look: Look = PLAIN
    title: str = ""
    places: Sequence[float] | None = None
    space: str = ""


def counterpart(one: Pane, index: int, other: Pane) -> int:
    """Return the slice of another volume that goes with a slice of one.

    Parameters
    ----------
    one, other : Pane
        The volumes.
    index : int
        Of a slice of `one`.

    Returns
    -------
    int
        The nearest in space where both lie in the same, else as far along in the volume.
    """
    if one.places is not None and other.places is not None and one.space and one.space == other.space:
        return int(np.argmin(np.abs(np.asarray(other.places) - one.places[index])))
    return round(index / max(one.count - 1, 1) * (other.count - 1))


def compare(panes: Sequence[Pane], *, size: int = 384, shown: int = 6) -> Any:
    """Return volumes side by side: linked viewers in a notebook, elsewhere rows of slices.

    Scrolling, zoom and pan go together; windows go together where the units are the same.

    Parameters
    ----------
    panes : sequence of Pane
        Two or more.
    size : int
        Longest side of each picture, screen pixels.
    shown : int
        Slices of each on the sheet.

    Returns
    -------
    ipywidgets.Box or PIL.Image.Image
        The box's children are the viewers.

    Raises
    ------
    MissingExtra
        In a notebook without the extra.
    UsageError
        Fewer than two, or one without slices.
    """
    if len(panes) < 2 or any(pane.count < 1 for pane in panes):
        raise UsageError("side by side needs at least two volumes with slices")
    return _linked(panes, size) if in_notebook() else _rows(panes, shown)


def _linked(panes: Sequence[Pane], size: int) -> Any:
    first = panes[0].count // 2
    made = []
    for pane in panes:
        start = counterpart(panes[0], first, pane)
        made.append(viewer(pane.slice_at, pane.count, pane.look, title=pane.title, start=start, size=size))
    import ipywidgets

    for number, one in enumerate(made[1:], start=1):
        ipywidgets.jslink((made[0], "view"), (one, "view"))
        if one.unit == made[0].unit and not (one.coloured or made[0].coloured):
            for name in ("center", "width", "function"):
                ipywidgets.jslink((made[0], name), (one, name))
        made[number].observe(_Follow(panes, made, number), names="index")
    made[0].observe(_Follow(panes, made, 0), names="index")
    layout = ipywidgets.Layout(display="flex", flex_flow="row wrap", grid_gap="12px")
    return ipywidgets.Box(made, layout=layout)


@dataclass
class _Follow:
    """Moves the other viewers to where one went, and doesn't follow those in turn."""

    panes: Sequence[Pane]
    viewers: Sequence[Any]
    number: int

    def __call__(self, change: Any) -> None:
        if getattr(self.viewers[self.number], "_led", False):
            return
        for number, other in enumerate(self.viewers):
            if number != self.number:
                other._led = True
                other.index = counterpart(self.panes[self.number], change["new"], self.panes[number])
                other._led = False


def _rows(panes: Sequence[Pane], shown: int) -> Image.Image:
    rows = []
    for pane in panes:
        indexes = [counterpart(panes[0], index, pane) for index in pick(panes[0].count, shown)]
        rows.append(sheet(pane.slice_at, pane.count, pane.look, indexes=indexes, across=len(indexes)))
    whole = Image.new(
        "RGB",
        (max(row.width for row in rows), sum(row.height for row in rows) + _GAP * (len(rows) - 1)),
        (24, 24, 27),
    )
    top = 0
    for row in rows:
        whole.paste(row, (0, top))
        top += row.height + _GAP
    return whole
