"""Updates made smaller with loss: int8, or the largest values alone. What is lost goes into the next update.

What changed of a model is an update too: a server sends that. A compressed update is arrays by name again:
``q:``, ``s:`` and ``i:`` with the name of the array that they stand for; arrays that aren't floats travel as
they are, under ``r:``.

References
----------
Seide et al. 2014, Karimireddy et al. 2019 (error feedback).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from voxelvault_fl.errors import SetAside
from voxelvault_fl.jobs.task import Array, Weights
from voxelvault_fl.rounds.bounds import clipped, norm

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


class Int8:
    """Eight bits a value, rounded to the nearest level: the same update is the same bytes each time."""

    def encode(self, update: Weights) -> Weights:
        """Return levels (value) int8 and scales (block) float32 of each array."""
        return _each(update, _quantised)

    def decode(self, sent: Weights, like: Weights) -> Weights:
        """Return the update."""
        return _whole(sent, like, "qs", lambda parts, size: _restored(parts["q"], parts["s"], size))


@dataclass(frozen=True)
class TopK:
    """The largest values alone, in eight bits each with where they stand.

    Parameters
    ----------
    share : float
        Of the values of each array that are sent; at least one is.
    """

    share: float = 0.05

    def encode(self, update: Weights) -> Weights:
        """Return positions (value) uint32, ascending, levels (value) int8 and scales (block) float32."""
        return _each(update, self._largest)

    def decode(self, sent: Weights, like: Weights) -> Weights:
        """Return the update, 0 where nothing was sent."""
        return _whole(sent, like, "iqs", self._spread)

    def _largest(self, flat: Array) -> Weights:
        count = self._count(flat.size)
        kept = np.sort(np.argpartition(np.abs(flat), -count)[-count:])
        return {"i": kept.astype(np.uint32), **_quantised(flat[kept])}

    def _spread(self, parts: Weights, size: int) -> Array:
        places = parts["i"]
        if places.dtype != np.uint32 or places.shape != (self._count(size),):
            raise _refused()
        if places[-1] >= size or not np.all(places[1:] > places[:-1]):
            raise _refused()
        flat = np.zeros(size, np.float32)
        flat[places] = _restored(parts["q"], parts["s"], len(places))
        return flat

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
    One for each job and side. A site has it in memory alone: what a killed process had not sent is lost,
    which costs accuracy of one round and nothing else. Under differential privacy it works on what is noisy
    already.
    """

    lossy = True

    def __init__(self, codec: Codec, most: float = math.inf) -> None:
        self._codec, self._most = codec, most
        self.lost: Weights = {}

    def encode(self, update: Weights) -> Weights:
        """Return what is sent instead of an update and of what was lost before."""
        wanted = {name: one + self.lost[name] if name in self.lost else one for name, one in update.items()}
        sent = self._codec.encode(clipped(wanted, self._most))
        whole = self._codec.decode(sent, update)
        # Rounding may add to the norm, a little.
        if (size := norm(whole)) > self._most:
            sent = self._codec.encode(clipped(wanted, self._most * 0.98 * self._most / size))
            whole = self._codec.decode(sent, update)
        self.lost = {name: wanted[name] - whole[name] for name, one in update.items() if _shrinks(one)}
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


def _each(update: Weights, small: Callable[[Array], Weights]) -> Weights:
    """Return the parts of each array, by mark and name."""
    sent: Weights = {}
    for name, values in update.items():
        parts = small(values.ravel()) if _shrinks(values) else {"r": values}
        sent |= {f"{mark}:{name}": part for mark, part in parts.items()}
    return sent


def _whole(sent: Weights, like: Weights, marks: str, flat: Callable[[Weights, int], Array]) -> Weights:
    """Return the arrays that such parts stand for."""
    named = {name: marks if _shrinks(one) else "r" for name, one in like.items()}
    if set(sent) != {f"{mark}:{name}" for name, mine in named.items() for mark in mine}:
        raise _refused()
    found: Weights = {}
    for name, one in like.items():
        parts = {mark: sent[f"{mark}:{name}"] for mark in named[name]}
        if "r" in parts:
            found[name] = parts["r"]
        else:
            found[name] = flat(parts, one.size).reshape(one.shape).astype(one.dtype)
    return found


def _quantised(flat: Array) -> Weights:
    """Return levels (value) int8 and scales (block) float32."""
    blocks = np.zeros((-(-flat.size // _BLOCK), _BLOCK), np.float32)
    blocks.ravel()[: flat.size] = flat
    scales = (np.abs(blocks).max(axis=1) / _LEVELS).astype(np.float32)
    levels = np.rint(blocks / np.where(scales > 0, scales, 1)[:, None])
    return {
        "q": np.clip(levels, -_LEVELS, _LEVELS).astype(np.int8).ravel()[: flat.size],
        "s": scales,
    }


def _restored(levels: Array, scales: Array, size: int) -> Array:
    fits = levels.dtype == np.int8 and levels.shape == (size,)
    fits = fits and scales.dtype == np.float32 and scales.shape == (-(-size // _BLOCK),)
    if not fits or not np.isfinite(scales).all():
        raise _refused()
    return np.asarray(levels.astype(np.float32) * np.repeat(scales, _BLOCK)[:size])


def _refused() -> SetAside:
    return SetAside("compression", "the update isn't compressed as the job asks")


__all__ = ["Codec", "ErrorFeedback", "Int8", "TopK", "codec_of"]
