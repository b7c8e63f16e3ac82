"""How a volume wants to be shown: its slices, window, proportions, sides of the body, labels over it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from voxelvault.dicom.frames import pixel_aspect
from voxelvault.errors import UsageError
from voxelvault.reading.stacks import FrameStack
from voxelvault.reading.volumes import Array, VolumeReader

if TYPE_CHECKING:
    from voxelvault.display.compare import Pane
    from voxelvault.display.look import Look


class Open(Protocol):
    """A handle, as far as showing needs it."""

    def check(self) -> None:
        """Raise unless it is open."""


def slices_of(reader: VolumeReader, handle: Open, chosen: FrameStack) -> Callable[[int], Array]:
    """Return what reads one slice for the screen: (row, column) values, or uint8 colour.

    Parameters
    ----------
    reader : VolumeReader
        Of the series.
    handle : Open
        Checked before each slice.
    chosen : FrameStack
        The volume.
    """

    def read(index: int) -> Array:
        handle.check()
        shape = reader.shape(chosen)[1:]
        out = np.empty((1, *shape), reader.dtype(chosen, None))
        reader.read(chosen, [index], out, None, mask=True)
        if chosen.layout.colour and out.dtype != np.uint8:
            return np.asarray(out[0] >> max(0, reader.bits(chosen) - 8)).astype(np.uint8)
        return np.asarray(out[0])

    return read


def look_of(reader: VolumeReader, chosen: FrameStack, **asked: Any) -> Look:
    """Return how a volume looks by itself: its own window, unit, aspect ratio, sides.

    Parameters
    ----------
    reader : VolumeReader
        Of the series.
    chosen : FrameStack
        The volume.
    **asked
        Further fields of `Look`.
    """
    from voxelvault.display.look import Look
    from voxelvault.display.window import Window

    middle = chosen.attributes[len(chosen.attributes) // 2]
    own = None
    if middle.window_center is not None and middle.window_width:
        own = Window(middle.window_center, middle.window_width, middle.window_function)
    spacing, orientation = chosen.group.pixel_spacing, chosen.group.orientation
    header = reader.header(chosen.refs[0].instance_id)
    return Look(
        header=own,
        hounsfield=middle.rescale_type == "HU",
        inverted=chosen.layout.inverted,
        unit=unit_of(reader, chosen),
        aspect=spacing[0] / spacing[1] if spacing else pixel_aspect(header),
        orientation=None if orientation is None else tuple(float(cosine) for cosine in orientation),
        **asked,
    )


def unit_of(reader: VolumeReader, chosen: FrameStack) -> str:
    """Return the unit that a reading under the pointer gives; empty where there is none to speak of.

    Parameters
    ----------
    reader, chosen
        As in `look_of`.
    """
    unit = "" if chosen.layout.colour else reader.unit_of(chosen, None)[1]
    return "" if "UNITLESS" in unit.upper() else unit


def pane_of(reader: VolumeReader, handle: Open, chosen: FrameStack, title: str) -> Pane:
    """Return a volume as one of several side by side.

    Parameters
    ----------
    reader, handle, chosen
        As in `slices_of`.
    title : str
        Above it; free of identifiers.
    """
    from voxelvault.display.compare import Pane

    group = chosen.group
    placed = group.orientation is not None and bool(np.isfinite(group.positions).all())
    space = reader.header(chosen.refs[0].instance_id).get("FrameOfReferenceUID")
    return Pane(
        slices_of(reader, handle, chosen),
        len(chosen.refs),
        look_of(reader, chosen),
        title,
        [float(place) for place in group.positions @ group.normal] if placed else None,
        f"{space} {np.round(group.normal, 2) + 0.0}" if placed and space else "",
    )


def under(window: Any, panes: Sequence[Pane]) -> list[Pane]:
    """Return the panes with a window for those whose unit is the first one's.

    Parameters
    ----------
    window : str, (center, width), optional
        As in `choose_window`.
    panes : sequence of Pane
        Volumes.
    """
    unit = panes[0].look.unit
    return [
        replace(pane, look=replace(pane.look, window=window if pane.look.unit == unit else None))
        for pane in panes
    ]


def laid(mask: Array | None, shape: tuple[int, ...]) -> Array | None:
    """Return the mask if it lies on a volume.

    Parameters
    ----------
    mask : ndarray, optional
        Any.
    shape : tuple of int
        (slice, row, column) of the volume.

    Raises
    ------
    UsageError
        It has another shape.
    """
    if mask is not None and mask.shape != shape:
        raise UsageError(f"the mask has shape {mask.shape}; this volume needs {shape}")
    return mask


def first_slice(labels: Array | None) -> int | None:
    """Return the slice in the middle of a mask; None where it is empty.

    Parameters
    ----------
    labels : ndarray, optional
        (slice, row, column).
    """
    from voxelvault.display.overlay import as_labels, mask_middle

    found = None if labels is None else mask_middle(as_labels(labels))
    return None if found is None else found[0]
