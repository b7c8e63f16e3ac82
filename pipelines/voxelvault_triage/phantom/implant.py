"""Bleeds laid into a head that was really scanned: its own noise and anatomy, blood that isn't its own."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from voxelvault.errors import UsageError
from voxelvault_triage.phantom.bleeds import Bleed, Kind, Space
from voxelvault_triage.phantom.fields import Points, Values, soft_step
from voxelvault_triage.phantom.planning import Lesions, plan
from voxelvault_triage.phantom.study import SMALLEST_ML, labelled
from voxelvault_triage.planes import Planes

TRIES = 25
TOP_MM = 78.0
"""Height of the cavity's roof in the atlas' coordinates."""


@dataclass(frozen=True, slots=True, eq=False)
class Host:
    """A scanned head, measured once.

    Parameters
    ----------
    hu : (slice, row, column) float32
        Hounsfield units.
    planes : Planes
        Where its slices lie.
    space : Space
        Its cavity and fluid, at every voxel, in about the atlas' coordinates.
    origin : (3,) float64
        What was added to patient coordinates z, y, x in mm to get there.
    """

    hu: Values
    planes: Planes
    space: Space
    origin: npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class Implanted:
    """A host with blood laid into it.

    Parameters
    ----------
    hu : (slice, row, column) float32
        Hounsfield units.
    labels : (slice, row, column) uint8
        0, or 1 + the index of the type.
    volumes : mapping of Kind to float
        In millilitres.
    """

    hu: Values
    labels: npt.NDArray[np.uint8]
    volumes: dict[Kind, float]


def host(hu: Values, planes: Planes) -> Host:
    """Measure a head: what bone encloses, how deep, and where fluid is.

    Raises
    ------
    UsageError
        Nothing is enclosed by bone in these slices.
    """
    order = np.argsort(planes.heights)
    hu, planes = hu[order], replace(planes, positions=planes.positions[order])
    cavity = _cavity(hu, planes.spacing)
    if cavity.sum() * float(np.median(planes.voxel_ml())) < 300:
        raise UsageError("no cranial cavity is seen in these slices; choose a whole head")
    step = float(np.median(np.diff(planes.heights)))
    sampling = (step, *planes.spacing)
    depth = ndimage.distance_transform_edt(cavity, sampling) - ndimage.distance_transform_edt(
        ~cavity, sampling
    )
    points = planes.points(*hu.shape[1:])[:, :, 0]
    inside = points[:, cavity]
    origin = np.array([TOP_MM - np.percentile(inside[0], 99.9), 16 - inside[1].mean(), -inside[2].mean()])
    points = points + origin.astype(np.float32)[:, None, None, None]
    smooth = ndimage.gaussian_filter(hu, (0.3, 1 / planes.spacing[0], 1 / planes.spacing[1]))
    fluid = soft_step(np.float32(17) - smooth, 5.0) * cavity
    space = Space(points, depth.astype(np.float32), fluid, fluid * (depth > 24))
    return Host(hu, planes, space, origin)


def implant(host: Host, seed: int, lesions: Lesions) -> Implanted:
    """Lay one or two bleeds into a host.

    Raises
    ------
    UsageError
        No bleed of this seed finds room in this head.
    """
    rng = np.random.default_rng(seed)
    for _ in range(TRIES):
        bleeds = plan(rng, lesions, lambda points: _depth_at(host, points))
        shares = [_blurred(bleed.share(host.space), host) for bleed in bleeds]
        volumes = {
            bleed.kind: float(share.sum(axis=(1, 2)) @ host.planes.voxel_ml())
            for bleed, share in zip(bleeds, shares, strict=True)
        }
        if min(volumes.values()) >= SMALLEST_ML:
            break
    else:
        raise UsageError("no bleed finds room in this head; use another seed")
    hu = _pushed(host, bleeds)
    for bleed, share in zip(bleeds, shares, strict=True):
        hu = _laid(hu, host, bleed, share)
    return Implanted(hu, labelled(bleeds, shares, hu.shape), volumes)


def _cavity(hu: Values, spacing: tuple[float, float]) -> npt.NDArray[np.bool_]:
    made = np.zeros(hu.shape, np.bool_)
    gap = max(1, round(3 / spacing[0]))
    for index, plane in enumerate(hu):
        bone = ndimage.binary_closing(plane > 180, iterations=gap)
        hollow = ndimage.binary_fill_holes(bone) & ~bone & (plane > -60)
        # Filled again: calcium within the brain is none of the skull.
        made[index] = ndimage.binary_fill_holes(ndimage.binary_opening(hollow, iterations=gap))
    labels, count = ndimage.label(made)
    return labels == 1 + int(np.argmax(np.bincount(labels.ravel())[1:])) if count else made


def _depth_at(host: Host, points: Points) -> Values:
    """Return depth at head coordinates (3, n): of the nearest voxel."""
    where = (points - host.origin.astype(np.float32)[:, None])[::-1].T
    planes = host.planes
    heights = planes.heights
    nearest = np.abs((where @ planes.normal)[:, None] - heights).argmin(axis=1)
    away = where - planes.positions[nearest]
    rows = np.rint(away @ planes.down / planes.spacing[0]).astype(int).clip(0, host.hu.shape[1] - 1)
    columns = np.rint(away @ planes.across / planes.spacing[1]).astype(int).clip(0, host.hu.shape[2] - 1)
    return np.asarray(host.space.depth[nearest, rows, columns], np.float32)


def _pushed(host: Host, bleeds: tuple[Bleed, ...]) -> Values:
    """Return the head with its brain pushed aside within the slices."""
    moved = host.space.points
    for bleed in bleeds:
        moved = bleed.displaced(moved)
    shift = (moved - host.space.points)[1:] * soft_step(host.space.depth - 2, 3.0)
    out = host.hu.copy()
    rows, columns = np.indices(host.hu.shape[1:], np.float32)
    for index in np.flatnonzero(np.abs(shift).max(axis=(0, 2, 3)) > 0.2):
        down, across = shift[0, index] / host.planes.spacing[0], shift[1, index] / host.planes.spacing[1]
        # Cubic, so that the noise isn't smoothed away where the brain was moved.
        out[index] = ndimage.map_coordinates(
            host.hu[index], [rows + down, columns + across], order=3, mode="nearest"
        )
    return np.where(host.space.depth > 0, out, host.hu)


def _blurred(share: Values, host: Host) -> Values:
    rows, columns = host.planes.spacing
    out: Values = ndimage.gaussian_filter(share, (0.4, 0.5 / rows, 0.5 / columns))
    return out * (host.space.depth > -0.3)


def _laid(hu: Values, host: Host, bleed: Bleed, share: Values) -> Values:
    """Replace what is smooth in the head by blood, and leave its noise."""
    rows, columns = host.planes.spacing
    smooth = ndimage.gaussian_filter(np.clip(hu, -20, 110), (0, 1.5 / rows, 1.5 / columns))
    laid: Values = hu + (bleed.texture(host.space) - smooth) * share
    rim = bleed.rim(host.space, share) * (host.space.depth > 0)
    return np.asarray(np.where(host.space.depth > -2, laid - np.float32(11) * rim, hu), np.float32)
