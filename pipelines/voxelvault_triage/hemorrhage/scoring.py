"""From maps to one answer: how likely, which types, how much, where."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from voxelvault_triage.hemorrhage.preprocess import Prepared, channels, restore
from voxelvault_triage.model import Finding
from voxelvault_triage.phantom.bleeds import KINDS
from voxelvault_triage.pipeline import Arrays

Values = npt.NDArray[np.float32]

INPUT, OUTPUT = "image", "logits"
TOP = 40
"""A plane's evidence is the mean of this many most suspicious pixels, unless a bundle says otherwise."""
BATCH = 8


@dataclass(frozen=True, slots=True, eq=False)
class Evidence:
    """What a network's maps say of one study.

    Parameters
    ----------
    study : float
        Of the study, as a logit, not yet calibrated.
    types : (type,) float64
        Of each type, as a logit.
    planes : (plane,) float64
        Of each plane, as a logit.
    volume_ml : float
        Of what is marked, in millilitres.
    """

    study: float
    types: npt.NDArray[np.float64]
    planes: npt.NDArray[np.float64]
    volume_ml: float


def sigmoid(values: npt.ArrayLike) -> npt.NDArray[np.float64]:
    """Return the logistic function, safe for large arguments."""
    return np.asarray(1 / (1 + np.exp(-np.clip(np.asarray(values, float), -60, 60))))


def logits(hu: Values, run: Callable[[Arrays], Arrays]) -> Values:
    """Run a network over a prepared head, (plane, output, row, column) float32.

    Parameters
    ----------
    hu : (plane, row, column) float32
        On the network's grid, Hounsfield units.
    run : callable
        The network: outputs by name for inputs by name.
    """
    image = channels(hu)
    parts = [run({INPUT: image[k : k + BATCH]})[OUTPUT] for k in range(0, len(image), BATCH)]
    return np.concatenate(parts)


def evidence(maps: Values, plane_ml: npt.NDArray[np.float64], pixels: int = TOP) -> Evidence:
    """Sum up what a network says of a study.

    Parameters
    ----------
    maps : (plane, output, row, column) float32
        Logits.
    plane_ml : (plane,) float64
        Volume of a voxel in millilitres.
    pixels : int
        A plane's evidence is the mean of this many most suspicious ones: many where what is mistaken for
        blood is thin or small, few where small bleeds matter most.
    """
    flat = maps.reshape(*maps.shape[:2], -1)
    top = _top_means(flat, pixels)
    # What is real goes on in the next plane, unless it is small: the neighbour counts for a quarter.
    beside = np.pad(top, ((1, 1), (0, 0)), constant_values=-np.inf)
    joined = 0.75 * top + 0.25 * np.maximum(beside[:-2], beside[2:])
    volume = float((flat[:, 0] > 0).sum(axis=-1) @ plane_ml)
    return Evidence(float(joined[:, 0].max()), joined[:, 1:].max(axis=0), joined[:, 0], volume)


def _top_means(flat: Values, pixels: int) -> npt.NDArray[np.float64]:
    """Return the mean of the largest values along the last axis, (plane, output) float64."""
    # Values as large as so many of the maxima of parts are few, and all that count are among them.
    parts = max(1, flat.shape[-1] // (4 * pixels))
    whole = flat.shape[-1] // parts * parts
    maxima = flat[..., :whole].reshape(*flat.shape[:-1], parts, -1).max(axis=-2)
    bounds = np.partition(maxima, -pixels, axis=-1)[..., -pixels]
    means = np.empty(flat.shape[:-1])
    for at in np.ndindex(means.shape):
        largest = flat[at][flat[at] >= bounds[at]]
        means[at] = np.partition(largest, -pixels)[-pixels:].mean(dtype=float)
    return means


def _marked(maps: Values, prepared: Prepared) -> npt.NDArray[np.bool_]:
    """Return where any blood is more likely than not, on the source's grid."""
    logit = maps[:, 0]
    # Between pixels there is no more than at them: those beside what is marked decide its edge.
    marked = np.pad(logit > 0, ((0, 0), (1, 1), (1, 1)))
    rows = marked[:, :-2] | marked[:, 1:-1] | marked[:, 2:]
    near = rows[..., :-2] | rows[..., 1:-1] | rows[..., 2:]
    shares = np.zeros(logit.shape, np.float32)
    shares[near] = sigmoid(logit[near])
    return restore(shares, prepared) > 0.5


def infer_volume(
    prepared: Prepared,
    run: Callable[[Arrays], Arrays],
    calibrate: Callable[[float], float] = float,
    threshold: float = 0.5,
    pixels: int = TOP,
) -> Finding:
    """Run a network on a prepared head and say what was found, on the grid of the source series.

    Parameters
    ----------
    prepared : Prepared
        From `prepare_volume`.
    run : callable
        The loaded model's `run`.
    calibrate : callable
        From the network's own score, 0 to 1, to a probability.
    threshold : float
        Probability at and above which a study is flagged.
    pixels : int
        As `evidence` takes it.
    """
    maps = logits(prepared.hu, run)
    found = evidence(maps, prepared.plane_ml, pixels)
    mask = _marked(maps, prepared)
    counts = mask.sum(axis=(1, 2))
    best = int(np.argmax(counts)) if counts.any() else int(np.argmax(found.planes[prepared.plane_of]))
    return Finding(
        score=calibrate(float(sigmoid(found.study))),
        threshold=threshold,
        types={str(kind): float(sigmoid(value)) for kind, value in zip(KINDS, found.types, strict=True)},
        mask=mask,
        volume_ml=float(counts @ prepared.voxel_ml),
        key_frame=best,
    )
