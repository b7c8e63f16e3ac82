"""Places of frames that a header gives as vectors: dose grids and nuclear medicine reconstructions."""

from __future__ import annotations

from voxelvault.dicom.coerce import (
    FARTHEST,
    Cosines,
    HeaderLike,
    Vector,
    as_cosines,
    as_integer,
    as_number,
    as_vector,
    first_item,
)


def vector_places(header: HeaderLike, count: int) -> list[Vector] | None:
    """Return the position of every frame where a vector gives it.

    Parameters
    ----------
    header : HeaderLike
        A multi-frame instance without per-frame functional groups.
    count : int
        How many frames there are.

    Returns
    -------
    list of (x, y, z) or None
        mm, LPS; None when no vector says so.

    References
    ----------
    DICOM PS3.3 C.8.4.8 and C.8.4.15 (NM), C.8.8.3.2 (RT dose).
    """
    source = header if header.values("ImageOrientationPatient") else _detector(header)
    first = as_vector(source.values("ImagePositionPatient"))
    cosines = as_cosines(source.values("ImageOrientationPatient"))
    if first is None or cosines is None or count < 2:
        return None
    normal = _cross(cosines)
    offsets = _grid_offsets(header, count, normal) or _slice_offsets(header, count)
    if offsets is None or max(map(abs, offsets)) > FARTHEST:
        return None
    return [_along(first, normal, offset) for offset in offsets]


def _detector(header: HeaderLike) -> HeaderLike:
    return first_item(header, "DetectorInformationSequence") or header


def _grid_offsets(header: HeaderLike, count: int, normal: Vector) -> list[float] | None:
    """Return mm along the normal for each plane of a dose grid."""
    vector = [as_number(value) for value in header.values("GridFrameOffsetVector")]
    offsets = [value for value in vector if value is not None]
    if len(offsets) != len(vector) or len(offsets) < count:
        return None
    # A vector that does not start at 0 holds patient z coordinates of transverse planes.
    sign = -1.0 if offsets[0] != 0 and abs(normal[2] + 1) < 1e-3 else 1.0
    return [sign * (value - offsets[0]) for value in offsets[:count]]


def _slice_offsets(header: HeaderLike, count: int) -> list[float] | None:
    """Return mm along the normal by SliceVector and SpacingBetweenSlices."""
    slices = [as_integer(value) for value in header.values("SliceVector")]
    numbers = [value for value in slices if value is not None]
    step = as_number(header.get("SpacingBetweenSlices"))
    if len(numbers) < count or not step:
        return None
    return [step * (number - 1) for number in numbers[:count]]


def _along(start: Vector, direction: Vector, distance: float) -> Vector:
    x, y, z = (a + distance * d for a, d in zip(start, direction, strict=True))
    return x, y, z


def _cross(cosines: Cosines) -> Vector:
    a, b, c, d, e, f = cosines
    return b * f - c * e, c * d - a * f, a * e - b * d
