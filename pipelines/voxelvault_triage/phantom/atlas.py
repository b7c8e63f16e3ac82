"""Maps of one head in its own frame: from averaged real anatomy where it is at hand, else analytic."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from voxelvault.errors import UsageError

Map = npt.NDArray[np.float32]

FILES = ("scct", "scgrey", "scwhite", "sccsf")
SPACING_MM = 2.0
_SHAPE = (91, 109, 91)
_ORIGIN = (-72.0, -90.0, -90.0)


@dataclass(frozen=True, slots=True, eq=False)
class Atlas:
    """One head, sampled; all maps (z, y, x) float32 on one grid, head coordinates in mm.

    x points to the patient's left, y to the back, z to the vertex (LPS directions).

    Parameters
    ----------
    name : str
        ``template`` or ``analytic``.
    origin : tuple of float
        Coordinates z, y, x in mm of the first voxel.
    spacing : float
        In mm, the same along all axes.
    depth, skin : (z, y, x) float32
        Distance in mm to the inner table of the skull, and to the skin; positive inside.
    grey, white, csf : (z, y, x) float32
        Share of each tissue, 0 to 1.
    ventricle : (z, y, x) float32
        Share of ventricular fluid, 0 to 1.
    bone : (z, y, x) float32
        Averaged attenuation outside the brain in Hounsfield units.
    """

    name: str
    origin: tuple[float, float, float]
    spacing: float
    depth: Map
    skin: Map
    grey: Map
    white: Map
    csf: Map
    ventricle: Map
    bone: Map

    def at(self, values: Map, points: Map) -> Map:
        """Return a map's values at points, linearly interpolated.

        Parameters
        ----------
        values : (z, y, x) float32
            One of the maps.
        points : (3, ...) float32
            Head coordinates z, y, x in mm.
        """
        out = np.empty(points.shape[1:], np.float32)
        ndimage.map_coordinates(values, self.index(points), order=1, mode="nearest", output=out)
        return out

    def index(self, points: Map) -> Map:
        """Return points as fractional indices into the maps."""
        origin = np.asarray(self.origin, np.float32).reshape(3, *[1] * (points.ndim - 1))
        return (points - origin) / np.float32(self.spacing)


def hounsfield(stored: npt.NDArray[np.floating]) -> Map:
    """Return Hounsfield units of values on the template's own scale, which widens -100 to 100 elevenfold.

    References
    ----------
    Rorden et al. 2012, NeuroImage 61(4):957-965: the scale that spreads the range of soft tissue.
    """
    return np.asarray(np.interp(stored, [0, 900, 3100, 6000], [-1000, -100, 100, 3000]), np.float32)


def template(folder: Path) -> Atlas:
    """Return the head of averaged real anatomy, from its NIfTI files.

    Raises
    ------
    UsageError
        A file is missing in the folder.
    """
    import nibabel

    volumes = {}
    for name in FILES:
        path = folder / f"{name}.nii"
        if not path.is_file():
            raise UsageError(
                f"there is no {name}.nii in the folder of templates; leave it out for the analytic head"
            )
        # Stored right to left and back to front: (x, y, z) RAS to (z, y, x) towards left, back and vertex.
        stored = np.asanyarray(nibabel.load(path).dataobj, np.float32)  # type: ignore[attr-defined]
        volumes[name] = np.ascontiguousarray(stored.transpose(2, 1, 0)[:, ::-1, :])
    return _from_tissue(
        "template", hounsfield(volumes["scct"]), volumes["scgrey"], volumes["scwhite"], volumes["sccsf"]
    )


def _from_tissue(name: str, hu: Map, grey: Map, white: Map, csf: Map) -> Atlas:
    z, y, _ = _coordinates()
    orbits = (y < -50) & (z < -22)
    inside = _solid(ndimage.gaussian_filter(grey + white + np.where(orbits, 0, csf), 0.7) > 0.45)
    # The averaged probabilities fade at the convexity: the fluid over the cortex belongs to the cavity.
    depth = _distance(inside) + np.float32(1.0)
    head = _solid(hu > -350)
    middle = np.clip((depth - 20) / 6, 0, 1).astype(np.float32)
    ventricle = _central(csf * middle)
    return Atlas(
        name, _ORIGIN, SPACING_MM, depth, _distance(head), grey, white, csf, ventricle,
        np.where(depth > 0, 0, hu).astype(np.float32),
    )  # fmt: skip


def _central(csf: Map) -> Map:
    """Keep the fluid of the ventricles: near the midline, above the base and below the vertex."""
    z, y, x = _coordinates()
    near = np.exp(-((x / 38) ** 4) - ((z - 6) / 34) ** 4 - ((y - 18) / 62) ** 4)
    return np.asarray(np.clip(csf * near * 1.3, 0, 1), np.float32)


def _solid(mask: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    closed = ndimage.binary_closing(np.pad(mask, 4), iterations=3)[4:-4, 4:-4, 4:-4]
    labels, count = ndimage.label(closed)
    if count > 1:
        closed = labels == 1 + int(np.argmax(np.bincount(labels.ravel())[1:]))
    return np.stack([ndimage.binary_fill_holes(plane) for plane in closed])


def _distance(mask: npt.NDArray[np.bool_]) -> Map:
    """Return the signed distance to a mask's surface in mm, smoothed; positive inside.

    The volume is continued below: a head doesn't end where the averaged one was cut.
    """
    grown = np.pad(mask, ((8, 0), (0, 0), (0, 0)), mode="edge")
    inside = ndimage.distance_transform_edt(grown) - ndimage.distance_transform_edt(~grown)
    smooth = ndimage.gaussian_filter(inside.astype(np.float32) * SPACING_MM, 1.0)
    return np.ascontiguousarray(smooth[8:])


def _coordinates() -> tuple[Map, Map, Map]:
    z, y, x = (o + SPACING_MM * np.arange(n, dtype=np.float32) for o, n in zip(_ORIGIN, _SHAPE, strict=True))
    return z[:, None, None], y[None, :, None], x[None, None, :]


def analytic() -> Atlas:
    """Return a head of ellipsoids, for where no template is at hand."""
    z, y, x = _coordinates()
    cavity = _ellipsoid(z - 8, y - 18, x, 68, 86, 68)
    cavity = np.minimum(cavity, (z + 46 + 0.18 * np.abs(y - 40)) / 12)
    brain = _share(cavity * 60 - 3)
    horns = [_ellipsoid(z - 14, y - 12 - 0.3 * s * x, x - 15 * s, 12, 40, 8) for s in (-1, 1)]
    slits = [_ellipsoid(z - 2, y - 14, x, 12, 16, 3), _ellipsoid(z + 32, y - 44, x, 8, 7, 6)]
    fluid = _share(np.maximum.reduce([*horns, *slits]) * 12)
    nuclei = [_ellipsoid(z - 4, y - 8, x - 26 * s, 16, 22, 9) for s in (-1, 1)]
    deep = _share(np.maximum.reduce(nuclei) * 12)
    cortex = np.exp(-(((cavity * 60 - 8) / 6) ** 2))
    grey = brain * np.maximum(cortex, deep) * (1 - fluid)
    white = brain * (1 - fluid) * (1 - np.maximum(cortex, deep))
    rim = _share(cavity * 60) - brain
    head = _ellipsoid(z - 4, y - 14, x, 86, 104, 80) * 80
    hu = np.where(cavity > 0, 30, np.where(head > 0, 40, -1000)).astype(np.float32)
    hu[(cavity < 0) & (cavity > -0.16) & (head > 0)] = 700
    hu = ndimage.gaussian_filter(hu, 1.0)
    whole = [np.ascontiguousarray(a, np.float32) for a in (grey, white, np.clip(rim + fluid, 0, 1))]
    return _from_tissue("analytic", hu, *whole)


def _ellipsoid(z: Map, y: Map, x: Map, a: float, b: float, c: float) -> Map:
    """Return 1 at the centre, 0 on the surface, negative outside."""
    inside: Map = 1 - np.sqrt((z / a) ** 2 + (y / b) ** 2 + (x / c) ** 2)
    return inside


def _share(distance: Map) -> Map:
    """Return a soft step over a distance in mm."""
    return np.asarray(1 / (1 + np.exp(-np.clip(distance, -30, 30))), np.float32)
