"""Axial, coronal and sagittal planes of a volume: a viewer in a notebook, a picture elsewhere."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from voxelvault.display.image import png
from voxelvault.display.nifti_bytes import nifti_bytes, smallest
from voxelvault.display.overlay import OPACITY, as_labels, named
from voxelvault.display.progress import in_notebook
from voxelvault.display.reformat import upright
from voxelvault.display.three_planes import three_planes
from voxelvault.display.window import PRESETS, Window, WindowChoice, auto_window, choose_window
from voxelvault.errors import MissingExtra, UsageError

if TYPE_CHECKING:
    from voxelvault.display.planes_widget import PlanesViewer

MOST_VOXELS = 2**27
"""What a browser takes without trouble; a larger volume is shown thinned out."""


def planes(volume: npt.NDArray[Any], affine_ras: npt.ArrayLike, **look: Any) -> PlanesViewer | Image.Image:
    """Show three planes with a cross-hair: a viewer in a notebook, elsewhere a picture.

    Parameters and errors are those of `viewer`.
    """
    show = viewer if in_notebook() else _picture
    return show(volume, affine_ras, **look)


def _picture(volume: npt.NDArray[Any], affine_ras: npt.ArrayLike, **look: Any) -> Image.Image:
    shown = {name: value for name, value in look.items() if name not in ("unit", "names")}
    return three_planes(volume, affine_ras, **shown)


def viewer(
    volume: npt.NDArray[Any],
    affine_ras: npt.ArrayLike,
    *,
    at: npt.ArrayLike | None = None,
    window: WindowChoice = None,
    header: Window | None = None,
    hounsfield: bool = False,
    inverted: bool = False,
    unit: str = "",
    mask: npt.NDArray[Any] | None = None,
    names: Mapping[int, str] | None = None,
    opacity: float = OPACITY,
) -> PlanesViewer:
    """Return a widget of three planes.

    Parameters
    ----------
    volume : ndarray
        (slice, row, column) modality values.
    affine_ras : array_like
        float (4, 4): (column, row, slice) index to mm, RAS.
    at : (x, y, z), optional
        Where the cross-hair is at first: mm, RAS; the middle by default.
    window, header, hounsfield
        As in `choose_window`.
    inverted : bool
        MONOCHROME1.
    unit : str
        Of the values.
    mask : ndarray, optional
        The volume's shape: bool, or labels 0 to 255.
    names : mapping, optional
        Label to its name; free of identifiers.
    opacity : float
        Of the mask.

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
    chosen = choose_window(window, middle, header, hounsfield=hounsfield)
    images = [nifti_bytes(shown, affine)]
    labels = None if mask is None else as_labels(mask)
    if labels is not None:
        images.append(nifti_bytes(labels[:, ::step, ::step], affine, labels=True))
    place = np.array(turned.index_of(at))
    presets = {"as acquired": choose_window(None, middle, header), "auto": auto_window(middle)}

    def still(now: PlanesViewer) -> bytes:
        look = {"window": now.window, "inverted": inverted, "mask": labels, "opacity": now.opacity}
        return png(three_planes(volume, affine_ras, at=now.at or at, **look))  # type: ignore[arg-type]

    made: PlanesViewer = widget(
        images,
        still,
        unit=unit,
        note=f"every {step}nd row and column" if step == 2 else f"every {step}th row and column" * (step > 1),
        presets={name: _ends(one) for name, one in {**presets, **(PRESETS if hounsfield else {})}.items()},
        low=_ends(chosen)[0],
        high=_ends(chosen)[1],
        range=_range(shown, chosen),
        inverted=inverted,
        opacity=opacity,
        extent=[step * count for step, count in zip(turned.spacing, turned.values.shape, strict=True)],
        names={str(label): name for label, name in named(mask, names).items()},
        cross=[float(part) for part in (place + 0.5) / turned.values.shape],
    )
    return made


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
