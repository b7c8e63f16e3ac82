"""Chance that repeats: what an item draws follows from seed, epoch and index, never from the worker.

So the same patches come with no worker, two or eight, and an epoch can be run again.
"""

from __future__ import annotations

import random
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import numpy.typing as npt


def item_generator(seed: int, epoch: int, index: int) -> np.random.Generator:
    """Return the generator that one item of one epoch draws from."""
    return np.random.default_rng([seed, epoch, index])


def shuffled(count: int, seed: int, epoch: int) -> npt.NDArray[np.int64]:
    """Return the order of one epoch: a permutation of `range(count)`, int64."""
    return np.random.default_rng([seed, epoch]).permutation(count)


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Let transforms that draw from the process's own generators draw what the item says.

    Python's, NumPy's and (where it is loaded) torch's state are put back afterwards, so that a
    loader without workers doesn't meddle with the training around it.

    Parameters
    ----------
    seed : int
        0 to 2**32 - 1.
    """
    torch = sys.modules.get("torch")
    before: tuple[Any, Any] = random.getstate(), np.random.get_state()
    own = torch.random.get_rng_state() if torch else None
    try:
        random.seed(seed)
        np.random.seed(seed)
        if torch:
            # The default generator alone: `torch.manual_seed` would seed every accelerator as well.
            torch.default_generator.manual_seed(seed)
        yield
    finally:
        random.setstate(before[0])
        np.random.set_state(before[1])
        if torch:
            torch.random.set_rng_state(own)


__all__ = ["item_generator", "seeded", "shuffled"]
