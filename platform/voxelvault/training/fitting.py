"""Whether patches fit the volumes that they are cut from. Decides, reads nothing."""

from __future__ import annotations

import warnings
from collections.abc import Sequence

from voxelvault.errors import UsageError
from voxelvault.training.patches import Box

MOST = 2
"""So many times as long as the longest volume a patch may be: beyond, most of it would be padding."""

CALLER = 6
"""From here up to who asked for the data set."""


class PaddedPatches(UserWarning):
    """Some volumes are smaller than the patches, which are padded there."""


def check_fit(shapes: Sequence[Box], size: Box) -> None:
    """Warn of volumes that are smaller than a patch, and refuse a patch that is mostly padding.

    Parameters
    ----------
    shapes : sequence of tuple of int
        Of the volumes, along the axes of the patch.
    size : tuple of int
        Of the patch.

    Raises
    ------
    UsageError
        Along an axis it is more than twice as long as every volume.
    """
    small = sum(1 for shape in shapes if any(long > own for long, own in zip(size, shape, strict=True)))
    if not small:
        return
    largest = tuple(max(lengths) for lengths in zip(*shapes, strict=True))
    if any(long > MOST * own for long, own in zip(size, largest, strict=True)):
        raise UsageError(
            f"patch_size={size} is more than twice as long as every volume along an axis: the longest are"
            f" {largest}. Axes are those of the cache, or (slice, row, column) without one; choose a smaller"
            " patch, or pad in the transform"
        )
    warnings.warn(
        f"{small} of {len(shapes)} volumes are smaller than patch_size={size} along an axis, and their"
        f" patches are padded there; the longest are {largest}",
        PaddedPatches,
        stacklevel=CALLER,
    )


__all__ = ["PaddedPatches", "check_fit"]
