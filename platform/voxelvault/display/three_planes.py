"""Axial, coronal and sagittal through one point, as a picture."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw

from voxelvault.display.image import annotate, to_image
from voxelvault.display.look import PLAIN, Look
from voxelvault.display.overlay import as_labels, blend, mask_middle
from voxelvault.display.reformat import Upright, upright
from voxelvault.display.window import to_uint8
from voxelvault.errors import UsageError

_PLANES = ((2, 0, 1), (1, 0, 2), (0, 1, 2))
"""Axis that a plane cuts, and those along its columns and rows: axial, coronal, sagittal."""

_GAP = 4
_HAIR = (90, 170, 90)


def three_planes(
    volume: npt.NDArray[Any],
    affine_ras: npt.ArrayLike,
    look: Look = PLAIN,
    *,
    at: npt.ArrayLike | None = None,
    mask: npt.NDArray[Any] | None = None,
    size: int = 384,
) -> Image.Image:
    """Draw three planes through one point with its cross-hair, all at one scale.

    Planes follow the volume's own axes, nearest to the patient's; nothing is interpolated across them.
    The patient's right is at the left of axial and coronal planes, the front at the left of sagittal.

    Parameters
    ----------
    volume : ndarray
        (slice, row, column) modality values.
    affine_ras : array_like
        float (4, 4): (column, row, slice) index to mm, RAS.
    look : Look
        Window and opacity.
    at : (x, y, z), optional
        mm, RAS; by default in the middle of the mask (`mask_middle`), or of the volume without one.
    mask : ndarray, optional
        The volume's shape: bool, or labels 0 to 255.
    size : int
        Longest side of the volume on the screen, pixels.

    Returns
    -------
    PIL.Image.Image
        Axial, coronal, sagittal side by side; nothing on it names anybody.

    Raises
    ------
    UsageError
        Not a grey volume, or a mask of another shape.
    """
    if mask is not None and mask.shape != volume.shape:
        raise UsageError(f"a mask of shape {mask.shape} does not lie on a volume of shape {volume.shape}")
    turned = upright(volume, affine_ras)
    labels = None if mask is None else upright(as_labels(mask), affine_ras).values
    place = start(turned, at, labels)
    chosen = look.window_for(volume[volume.shape[0] // 2])
    extents = [step * count for step, count in zip(turned.spacing, turned.values.shape, strict=True)]
    scale = size / max(extents)
    pictures = []
    for cut, across, down in _PLANES:
        plane = to_uint8(_plane(turned.values, cut, place[cut]), chosen, inverted=look.inverted)
        if labels is not None:
            plane = blend(plane, _plane(labels, cut, place[cut]), look.opacity)
        shape = max(round(extents[across] * scale), 1), max(round(extents[down] * scale), 1)
        picture = to_image(plane).resize(shape, Image.Resampling.BILINEAR).convert("RGB")
        _cross(picture, _part(turned, across, place[across]), _part(turned, down, place[down]))
        pictures.append(annotate(picture, turned.letters(across, down)))
    return _beside(pictures)


def start(
    turned: Upright, at: npt.ArrayLike | None, labels: npt.NDArray[np.uint8] | None
) -> tuple[int, int, int]:
    """Return the voxel where the cross-hair is at first: as asked, else in the mask, else the middle.

    Parameters
    ----------
    turned : Upright
        The volume.
    at : (x, y, z), optional
        mm, RAS.
    labels : ndarray, optional
        (x, y, z) like the volume; 0 for background.
    """
    found = None if at is not None or labels is None else mask_middle(labels)
    return turned.index_of(at) if found is None else found


def _plane(values: npt.NDArray[Any], cut: int, index: int) -> npt.NDArray[Any]:
    """Return (row, column): both axes backwards, so that right, front and head come first."""
    return np.ascontiguousarray(np.take(values, index, axis=cut)[::-1, ::-1].T)


def _part(turned: Upright, axis: int, index: int) -> float:
    """Return where on the picture an index lies, 0 to 1."""
    count = turned.values.shape[axis]
    return float((count - 0.5 - index) / count)


def _cross(picture: Image.Image, x: float, y: float) -> None:
    across, down = x * picture.width, y * picture.height
    draw = ImageDraw.Draw(picture)
    draw.line([(across, 0), (across, picture.height)], fill=_HAIR)
    draw.line([(0, down), (picture.width, down)], fill=_HAIR)


def _beside(pictures: list[Image.Image]) -> Image.Image:
    width = sum(picture.width + _GAP for picture in pictures) + _GAP
    whole = Image.new("RGB", (width, max(picture.height for picture in pictures) + 2 * _GAP), (24, 24, 27))
    left = _GAP
    for picture in pictures:
        whole.paste(picture, (left, (whole.height - picture.height) // 2))
        left += picture.width + _GAP
    return whole
