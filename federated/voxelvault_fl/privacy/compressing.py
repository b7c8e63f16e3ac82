"""Updates made smaller with loss: int8, or the largest values alone. What is lost goes into the next update.

A compressed update is arrays by name again: ``q:``, ``s:`` and ``i:`` with the name of the array that they
stand for; arrays that aren't floats travel as they are, under ``r:``.

References
----------
Seide et al. 2014, Karimireddy et al. 2019 (error feedback); Alistarh et al. 2017, QSGD (rounding by chance).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from voxelvault_fl.errors import SetAside
from voxelvault_fl.jobs.task import Array, Weights

_LEVELS = 127
_BLOCK = 1024
"""Values that share a scale: a large one spoils its own block only."""


class Codec(Protocol):
    """Makes updates smaller and whole again."""

    def encode(self, update: Weights) -> Weights:
        """Return what is sent instead of an update."""
        ...

    def decode(self, sent: Weights, like: Weights) -> Weights:
        """Return the update; names, shapes and dtypes as `like` has them.

        Raises
        ------
        SetAside
            The rule is ``compression``: it isn't what `encode` makes of such an update.
        """
        ...


@dataclass(frozen=True)
class Int8:
    """Eight bits a value, rounded up or down by chance, so that the mean is right.

    Parameters
    ----------
    rng : Generator
        Of the chances; they protect nobody and may be guessed.
    """

    rng: np.random.Generator = field(default_factory=np.random.default_rng)

    def encode(self, update: Weights) -> Weights:
        """Return levels (value) int8 and scales (block) float32 of each array."""
        sent: Weights = {}
        for name, values in update.items():
            if not _shrinks(values):
                sent[f"r:{name}"] = values
                continue
            sent[f"q:{name}"], sent[f"s:{name}"] = _quantised(values.ravel(), self.rng)
        return sent

    def decode(self, sent: Weights, like: Weights) -> Weights:
        """Return the update."""
        _require_names(sent, like, "qs")
        return {
            name: _restored(sent[f"q:{name}"], sent[f"s:{name}"], one.size)
            .reshape(one.shape)
            .astype(one.dtype)
            if _shrinks(one)
            else _raw(sent, name)
            for name, one in like.items()
        }


@dataclass(frozen=True)
class TopK:
    """The largest values alone, in eight bits each with where they stand.

    Parameters
    ----------
    share : float
        Of the values of each array that are sent; at least one is.
    rng : Generator
        As for `Int8`.
    """

    share: float = 0.05
    rng: np.random.Generator = field(default_factory=np.random.default_rng)

    def encode(self, update: Weights) -> Weights:
        """Return positions (value) uint32, ascending, levels (value) int8 and scales (block) float32."""
        sent: Weights = {}
        for name, values in update.items():
            if not _shrinks(values):
                sent[f"r:{name}"] = values
                continue
            flat = values.ravel()
            kept = np.sort(np.argpartition(np.abs(flat), -self._count(flat.size))[-self._count(flat.size) :])
            sent[f"i:{name}"] = kept.astype(np.uint32)
            sent[f"q:{name}"], sent[f"s:{name}"] = _quantised(flat[kept], self.rng)
        return sent

    def decode(self, sent: Weights, like: Weights) -> Weights:
        """Return the update, 0 where nothing was sent."""
        _require_names(sent, like, "iqs")
        return {
            name: self._whole(sent, name, one) if _shrinks(one) else _raw(sent, name)
            for name, one in like.items()
        }

    def _whole(self, sent: Weights, name: str, like: Array) -> Array:
        places = sent[f"i:{name}"]
        if places.dtype != np.uint32 or places.shape != (self._count(like.size),):
            raise _refused()
        if places[-1] >= like.size or not np.all(places[1:] > places[:-1]):
            raise _refused()
        flat = np.zeros(like.size, np.float32)
        flat[places] = _restored(sent[f"q:{name}"], sent[f"s:{name}"], len(places))
        return flat.reshape(like.shape).astype(like.dtype)

    def _count(self, size: int) -> int:
        return max(1, math.ceil(size * self.share))


class ErrorFeedback:
    """A codec that adds what the last updates lost to the next one, and stays within a norm.

    Parameters
    ----------
    codec : Codec
        What makes updates smaller.
    most : float
        Largest Euclidean norm of what is decoded at the other end.

    Notes
    -----
    One for each job and side. It is in memory alone: what a killed process had not sent is lost, which costs
    accuracy of one round and nothing else. Under differential privacy it works on what is noisy already.
    """

    def __init__(self, codec: Codec, most: float = math.inf) -> None:
        self._codec, self._most = codec, most
        self._lost: Weights = {}

    def encode(self, update: Weights) -> Weights:
        """Return what is sent instead of an update and of what was lost before."""
        wanted = {name: one + self._lost[name] if name in self._lost else one for name, one in update.items()}
        sent = self._codec.encode(_scaled(wanted, self._most))
        whole = self._codec.decode(sent, update)
        # Rounding by chance may add to the norm, a little.
        if (size := _norm(whole)) > self._most:
            sent = self._codec.encode(_scaled(wanted, self._most * 0.98 * self._most / size))
            whole = self._codec.decode(sent, update)
        self._lost = {name: wanted[name] - whole[name] for name, one in update.items() if _shrinks(one)}
        return sent

    def decode(self, sent: Weights, like: Weights) -> Weights:
        """Return an update."""
        return self._codec.decode(sent, like)


def codec_of(name: str) -> Codec | None:
    """Return the codec that a job names, or None for `none`.

    Raises
    ------
    SetAside
        The rule is ``compression``: there is none of this name.
    """
    if name == "none":
        return None
    if name not in ("int8", "top-k"):
        raise _refused()
    return Int8() if name == "int8" else TopK()


def _shrinks(values: Array) -> bool:
    return values.dtype.kind == "f" and values.size > 0


def _quantised(flat: Array, rng: np.random.Generator) -> tuple[Array, Array]:
    """Return levels (value) int8 and scales (block) float32."""
    blocks = np.zeros((-(-flat.size // _BLOCK), _BLOCK), np.float32)
    blocks.ravel()[: flat.size] = flat
    scales = (np.abs(blocks).max(axis=1) / _LEVELS).astype(np.float32)
    steps = blocks / np.where(scales > 0, scales, 1)[:, None]
    levels = np.floor(steps + rng.random(steps.shape, np.float32))
    return np.clip(levels, -_LEVELS, _LEVELS).astype(np.int8).ravel()[: flat.size], scales


def _restored(levels: Array, scales: Array, size: int) -> Array:
    fits = levels.dtype == np.int8 and levels.shape == (size,)
    fits = fits and scales.dtype == np.float32 and scales.shape == (-(-size // _BLOCK),)
    if not fits or not np.isfinite(scales).all():
        raise _refused()
    return np.asarray(levels.astype(np.float32) * np.repeat(scales, _BLOCK)[:size])


def _raw(sent: Weights, name: str) -> Array:
    return sent[f"r:{name}"]


def _require_names(sent: Mapping[str, Array], like: Mapping[str, Array], marks: str) -> None:
    wanted = {f"{mark}:{name}" for name, one in like.items() for mark in (marks if _shrinks(one) else "r")}
    if set(sent) != wanted:
        raise _refused()


def _norm(update: Mapping[str, Array]) -> float:
    return math.sqrt(sum(float(np.square(one, dtype=np.float64).sum()) for one in update.values()))


def _scaled(update: Weights, most: float) -> Weights:
    size = _norm(update)
    if size <= most:
        return update
    return {
        name: (one * (most / size)).astype(one.dtype) if _shrinks(one) else one
        for name, one in update.items()
    }


def _refused() -> SetAside:
    return SetAside("compression", "the update isn't compressed as the job asks")


__all__ = ["Codec", "ErrorFeedback", "Int8", "TopK", "codec_of"]
