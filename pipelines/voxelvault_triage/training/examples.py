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


@dataclass(frozen=True, slots=True)
class Pool:
    """Planes by what they show.

    Parameters
    ----------
    samples : sequence of Sample
        The studies.
    shows : tuple of (n, 2) int64 arrays
        Study and plane of those that show each type.
    clear : (n, 2) int64 array
        Those without blood, of both classes.
    """

    samples: Sequence[Sample]
    shows: tuple[npt.NDArray[np.int64], ...]
    clear: npt.NDArray[np.int64]


def pool(samples: Sequence[Sample]) -> Pool:
    """Sort the planes of all studies by what they show."""
    shows: list[list[tuple[int, int]]] = [[] for _ in KINDS]
    clear = []
    for study, sample in enumerate(samples):
        for plane, labels in enumerate(sample.labels):
            counts = np.bincount(labels.ravel(), minlength=len(KINDS) + 1)[1:]
            for kind in np.flatnonzero(counts >= SEEN):
                shows[kind].append((study, plane))
            if not counts.any():
                clear.append((study, plane))
    arrays = tuple(np.array(rows, np.int64).reshape(-1, 2) for rows in shows)
    return Pool(samples, arrays, np.array(clear, np.int64).reshape(-1, 2))


def batch(pool: Pool, rng: np.random.Generator, size: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Return images (plane, channel, row, column) and targets (plane, output, row, column), float32.

    Half of the planes show blood, each type as often as the others.
    """
    images = np.empty((size, CHANNELS, ROWS, COLUMNS), np.float32)
    targets = np.empty((size, len(KINDS) + 1, ROWS, COLUMNS), np.float32)
    kinds = [rows for rows in pool.shows if len(rows)]
    for index in range(size):
        rows = kinds[int(rng.integers(len(kinds)))] if kinds and index % 2 else pool.clear
        study, plane = rows[int(rng.integers(len(rows)))]
        images[index], targets[index] = _example(pool.samples[study], int(plane), rng)
    return torch.from_numpy(images), torch.from_numpy(targets)


def _example(sample: Sample, plane: int, rng: np.random.Generator) -> tuple[npt.NDArray[np.float32], ...]:
    around = np.clip([plane - 1, plane, plane + 1], 0, len(sample.hu) - 1)
    if rng.random() < 0.3:
        around = around[::-1]
    hu, labels = _bent(sample.hu[around].astype(np.float32), sample.labels[plane], rng)
    hu = _brightened(hu, rng)
    image = channels(hu)[1]
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


def _brightened(hu: npt.NDArray[np.float32], rng: np.random.Generator) -> npt.NDArray[np.float32]:
    hu = hu * np.float32(np.exp(rng.normal(0, 0.04))) + np.float32(rng.normal(0, 2.5))
    if rng.random() < 0.3:
        sigma = rng.uniform(0.3, 0.9)
        hu = ndimage.gaussian_filter(hu, (0, sigma, sigma), truncate=2.5)
    if rng.random() < 0.5:
        noise = rng.standard_normal(hu.shape, np.float32) * np.float32(rng.uniform(0, 6))
        hu = hu + ndimage.gaussian_filter(noise, (0, 0.5, 0.5), truncate=2) * np.float32(1.6)
    return hu
