"""What the network sees in training: planes drawn evenly over types, bent and brightened at random."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from scipy import ndimage

from voxelvault_triage.hemorrhage.preprocess import AIR, CHANNELS, COLUMNS, ROWS, channels
from voxelvault_triage.phantom.bleeds import KINDS
from voxelvault_triage.training.dataset import Sample

SEEN = 12
"""Pixels of a type at which a plane counts as showing it."""


BONE = 150.0
"""Hounsfield units above which bone hides blood that lies in the same voxel: it isn't asked for."""
EVENLY = 0.5
"""Share of the planes without blood that are drawn evenly; the others by how suspicious they looked."""

Rows = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Pool:
    """Planes by what they show.

    Parameters
    ----------
    samples : sequence of Sample
        The studies.
    shows : tuple of tuples of (n, 2) int64 arrays
        For each type, for each study that has it: study and plane of those that show it.
    clear : (n, 2) int64 array
        Study and plane of those without blood in them or beside them, of both classes.
    suspicion : (n,) float32
        How suspicious each clear plane looked when it was last seen, 0 to 1; a half at first. Changes.
    """

    samples: Sequence[Sample]
    shows: tuple[tuple[Rows, ...], ...]
    clear: Rows
    suspicion: npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True, eq=False)
class Batch:
    """Planes of one step.

    Parameters
    ----------
    images : (plane, channel, row, column) float32
        As `channels` makes them.
    targets : (plane, output, row, column) float32
        Any blood, then each type.
    clear : (plane,) int64
        Which of the pool's clear planes each is; -1 for those that show blood.
    """

    images: torch.Tensor
    targets: torch.Tensor
    clear: npt.NDArray[np.int64]


def pool(samples: Sequence[Sample]) -> Pool:
    """Sort the planes of all studies by what they show."""
    shows: list[list[Rows]] = [[] for _ in KINDS]
    clear = [np.empty((0, 2), np.int64)]
    for study, sample in enumerate(samples):
        counts = np.stack([np.bincount(one.ravel(), minlength=len(KINDS) + 1)[1:] for one in sample.labels])
        for kind in range(len(KINDS)):
            if (counts[:, kind] >= SEEN).any():
                shows[kind].append(_rows(study, counts[:, kind] >= SEEN))
        # Beside a bleed there is often a little of it, too little for a label.
        bloody = ndimage.binary_dilation(counts.any(axis=1), iterations=1)
        clear.append(_rows(study, ~bloody))
    every = np.concatenate(clear)
    return Pool(samples, tuple(map(tuple, shows)), every, np.full(len(every), 0.5, np.float32))


def _rows(study: int, planes: npt.NDArray[np.bool_]) -> Rows:
    found = np.flatnonzero(planes)
    return np.stack([np.full_like(found, study), found], axis=1)


def batch(pool: Pool, rng: np.random.Generator, size: int) -> Batch:
    """Return planes for a step, half of which show blood.

    Of those, each type comes as often as the others, and each study as often as others of its type, however
    many planes it has. Of the clear ones half are drawn by how suspicious they looked: what is mistaken for
    blood is rare, and decides how many studies are flagged wrongly.
    """
    images = np.empty((size, CHANNELS, ROWS, COLUMNS), np.float32)
    targets = np.empty((size, len(KINDS) + 1, ROWS, COLUMNS), np.float32)
    kinds = [studies for studies in pool.shows if studies]
    weights = pool.suspicion.astype(float) + 0.01
    hard = rng.choice(len(pool.clear), size, p=weights / weights.sum())
    drawn = np.where(rng.random(size) < EVENLY, rng.integers(len(pool.clear), size=size), hard)
    for index in range(size):
        if kinds and index % 2:
            drawn[index] = -1
            studies = kinds[int(rng.integers(len(kinds)))]
            rows = studies[int(rng.integers(len(studies)))]
            study, plane = rows[int(rng.integers(len(rows)))]
        else:
            study, plane = pool.clear[drawn[index]]
        images[index], targets[index] = example(pool.samples[study], int(plane), rng)
    return Batch(torch.from_numpy(images), torch.from_numpy(targets), drawn)


def example(sample: Sample, plane: int, rng: np.random.Generator) -> tuple[npt.NDArray[np.float32], ...]:
    """Return a plane of a study as the network sees it in training, and what it is to answer.

    Returns
    -------
    tuple of ndarray
        (channel, row, column) and (output, row, column) float32, bent and brightened at random.
    """
    around = np.clip(np.arange(plane - 2, plane + 3), 0, len(sample.hu) - 1)
    if rng.random() < 0.3:
        around = around[::-1]
    stack = sample.hu[around].astype(np.float32)
    share = np.float32(rng.uniform(0.05, 0.3) if rng.random() < 0.3 else 0.0)
    thick = (1 - 2 * share) * stack[1:-1] + share * (stack[:-2] + stack[2:])
    hu, labels = _bent(thick, sample.labels[plane], rng)
    labels[hu[1] > BONE] = 0
    image = channels(_rescanned(hu, rng))[1]
    targets = np.stack([labels > 0, *(labels == 1 + kind for kind in range(len(KINDS)))])
    return image, targets.astype(np.float32)


def _bent(
    hu: npt.NDArray[np.float32], labels: npt.NDArray[np.uint8], rng: np.random.Generator
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.uint8]]:
    if rng.random() < 0.5:
        hu, labels = hu[:, :, ::-1], labels[:, ::-1]
    turn, scale = rng.normal(0, 0.08), np.exp(rng.normal(0, 0.06, 2))
    theta = np.array(
        [[np.cos(turn), -np.sin(turn) * ROWS / COLUMNS, 0], [np.sin(turn) * COLUMNS / ROWS, np.cos(turn), 0]]
    )
    theta[:, :2] *= scale[:, None]
    theta[:, 2] = rng.normal(0, 0.04, 2)
    grid = F.affine_grid(
        torch.from_numpy(theta[None].astype(np.float32)), [1, 1, ROWS, COLUMNS], align_corners=False
    )
    stack = torch.from_numpy(np.ascontiguousarray(hu) - np.float32(AIR))[None]
    moved = F.grid_sample(stack, grid, align_corners=False)[0].numpy() + np.float32(AIR)
    marks = torch.from_numpy(np.ascontiguousarray(labels, np.float32))[None, None]
    return moved, F.grid_sample(marks, grid, mode="nearest", align_corners=False)[0, 0].numpy().astype(
        np.uint8
    )


def _rescanned(hu: npt.NDArray[np.float32], rng: np.random.Generator) -> npt.NDArray[np.float32]:
    """Return planes (3, row, column) as another scanner might show them: level, shading, sharpness, grain."""
    if rng.random() < 0.3:
        hu = _tight(hu, rng)
    hu = hu * np.float32(np.exp(rng.normal(0, 0.05))) + np.float32(rng.normal(0, 3.5))
    if rng.random() < 0.4:
        hu = hu + _shading(rng)
    if rng.random() < 0.4:
        hu = hu + _glow(hu, rng)
    turn = rng.random()
    if turn < 0.3:
        hu = _blurred(hu, rng.uniform(0.3, 1.3))
    elif turn < 0.5:
        hu = hu + np.float32(rng.uniform(0.2, 0.9)) * (hu - _blurred(hu, 1.0))
    if rng.random() < 0.6:
        grain = _blurred(rng.standard_normal(hu.shape, np.float32), rng.uniform(0.35, 1.2))
        hu = hu + grain * (np.float32(rng.uniform(0, 8)) / grain.std())
    return hu


def _shading(rng: np.random.Generator) -> npt.NDArray[np.float32]:
    """Return a smooth shading, (row, column): cupping, or one side or level brighter than the other."""
    down, across = np.mgrid[-1 : 1 : ROWS * 1j, -1 : 1 : COLUMNS * 1j].astype(np.float32)
    a, b, c = rng.normal(0, 2.0, 3).astype(np.float32)
    return np.asarray(a * down + b * across + c * (down**2 + across**2 - np.float32(0.6)), np.float32)


def _tight(hu: npt.NDArray[np.float32], rng: np.random.Generator) -> npt.NDArray[np.float32]:
    """Return planes of a brain that fills its skull: no fluid between bone and cortex, the noise left."""
    away = np.stack([ndimage.distance_transform_edt(plane < BONE) for plane in hu])
    brain = hu[(hu > 15) & (hu < 50)]
    level = np.float32(np.median(brain) if brain.size else 30)
    smooth = _blurred(np.minimum(hu, level), 0.7)
    lacking = np.clip(level - smooth, 0, 40) * (smooth > -40)
    near = np.clip((rng.uniform(3, 9) - away) / 2, 0, 1).astype(np.float32)
    return np.asarray(hu + lacking * near, np.float32)


def _glow(hu: npt.NDArray[np.float32], rng: np.random.Generator) -> npt.NDArray[np.float32]:
    """Return what bone adds around it where beam hardening and scatter aren't made good: a bright cortex.

    A narrow rim and a wide one. Near the vertex, where bone is all around, everything is brighter. Seldom it
    is a little too much made good, and the cortex is dark.
    """
    bone = np.clip(hu - np.float32(BONE), 0, 1500)
    narrow = _blurred(bone, rng.uniform(1.0, 2.5)) * np.float32(rng.uniform(0, 0.2))
    return narrow + _blurred(bone, rng.uniform(4.0, 12.0)) * np.float32(rng.uniform(-0.01, 0.05))


def _blurred(hu: npt.NDArray[np.float32], sigma: float) -> npt.NDArray[np.float32]:
    out: npt.NDArray[np.float32] = ndimage.gaussian_filter(hu, (0, sigma, sigma), truncate=2.5)
    return out
