"""Axial, coronal and sagittal planes of a volume: a viewer in a notebook, a picture elsewhere."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from voxelvault.display.image import png
from voxelvault.display.look import PLAIN, Look
from voxelvault.display.nifti_bytes import nifti_bytes, smallest
from voxelvault.display.overlay import as_labels, named
from voxelvault.display.progress import in_notebook
from voxelvault.display.reformat import upright
from voxelvault.display.three_planes import start, three_planes
from voxelvault.display.window import PRESETS, Window, auto_window, choose_window
from voxelvault.errors import MissingExtra, UsageError

if TYPE_CHECKING:
    from voxelvault.display.planes_widget import PlanesViewer

MOST_VOXELS = 2**27
"""What a browser takes without trouble; a larger volume is shown thinned out."""


def planes(
    volume: npt.NDArray[Any],
    affine_ras: npt.ArrayLike,
    look: Look = PLAIN,
    *,
    at: npt.ArrayLike | None = None,
    mask: npt.NDArray[Any] | None = None,
) -> PlanesViewer | Image.Image:
    """Show three planes with a cross-hair: a viewer in a notebook, elsewhere a picture.

    Parameters and errors are those of `viewer`.
    """
    show = viewer if in_notebook() else three_planes
    return show(volume, affine_ras, look, at=at, mask=mask)


def viewer(
    volume: npt.NDArray[Any],
    affine_ras: npt.ArrayLike,
    look: Look = PLAIN,
    *,
    at: npt.ArrayLike | None = None,
    mask: npt.NDArray[Any] | None = None,
) -> PlanesViewer:
    """Return a widget of three planes.

    Parameters
    ----------
    volume : ndarray
        (slice, row, column) modality values.
    affine_ras : array_like
        float (4, 4): (column, row, slice) index to mm, RAS.
    look : Look
        Window, unit, names of labels, opacity.
    at : (x, y, z), optional
        Where the cross-hair is at first: mm, RAS. By default in the middle of the mask, which a line
        below the picture says, or of the volume without one.
    mask : ndarray, optional
        The volume's shape: bool, or labels 0 to 255.

    Raises
    ------
    MissingExtra
        ipyniivue or anywidget is not installed.
    UsageError
        Not a grey volume, or a mask of another shape.
    """
    widget = _widget()
    turned = upright(volume, affine_ras)
    if mask is not None and mask.shape != volume.shape:
        raise UsageError(f"a mask of shape {mask.shape} does not lie on a volume of shape {volume.shape}")
    step = thinning(volume.shape)
    affine = np.asarray(affine_ras, np.float64) @ np.diag([float(step), float(step), 1.0, 1.0])
    shown = smallest(volume[:, ::step, ::step])
    middle = volume[volume.shape[0] // 2]
    chosen = look.window_for(middle)
    images = [nifti_bytes(shown, affine)]
    labels = None if mask is None else as_labels(mask)
    if labels is not None:
        images.append(nifti_bytes(labels[:, ::step, ::step], affine, labels=True))
    laid = None if labels is None else upright(labels, affine_ras).values
    place = np.array(start(turned, at, laid))
    presets = {"as acquired": choose_window(None, middle, look.header), "auto": auto_window(middle)}

    def still(now: PlanesViewer) -> bytes:
        at_hand = replace(look, window=now.window, opacity=now.opacity)
        return png(three_planes(volume, affine_ras, at_hand, at=now.at or at, mask=labels))

    made: PlanesViewer = widget(
        images,
        still,
        unit=look.unit,
        note=_note(step, laid, at),
        presets={
            name: _ends(one) for name, one in {**presets, **(PRESETS if look.hounsfield else {})}.items()
        },
        low=_ends(chosen)[0],
        high=_ends(chosen)[1],
        range=_range(shown, chosen),
        inverted=look.inverted,
        opacity=look.opacity,
        extent=[step * count for step, count in zip(turned.spacing, turned.values.shape, strict=True)],
        names={str(label): name for label, name in named(mask, look.names).items()},
        cross=[float(part) for part in (place + 0.5) / turned.values.shape],
    )
    return made


def _note(step: int, laid: npt.NDArray[np.uint8] | None, at: npt.ArrayLike | None) -> str:
    """Return what the viewer says of what it shows."""
    told = [f"one row and column of {step}"] if step > 1 else []
    if laid is not None and not laid.any():
        told.append("the mask is empty")
    elif laid is not None and at is None:
        told.append("opened in the middle of the mask")
    return "; ".join(told)


def thinning(shape: tuple[int, ...]) -> int:
    """Return the step between rows, and between columns, that are shown.

    Parameters
    ----------
    shape : tuple of int
        (slice, row, column).
    """
    step = 1
    while shape[0] * -(-shape[1] // step) * -(-shape[2] // step) > MOST_VOXELS:
        step += 1
    return step


def _ends(window: Window) -> list[float]:
    """Return the values that are just black and just white."""
    return [window.center - window.width / 2, window.center + window.width / 2]


def _range(shown: npt.NDArray[Any], chosen: Window) -> list[float]:
    """Return what the sliders reach over: nearly all values, and the window."""
    low, high = np.percentile(shown.reshape(-1)[:: max(shown.size // 500_000, 1)], [0.1, 99.9])
    ends = _ends(chosen)
    return [float(min(low, ends[0])), float(max(high, ends[1]))]


def _widget() -> Any:
    try:
        from voxelvault.display.planes_widget import PlanesViewer, program
    except ImportError as error:
        raise MissingExtra("three planes need anywidget; run: pip install 'voxelvault[notebook]'") from error
    program()
    return PlanesViewer
