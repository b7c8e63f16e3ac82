"""Samples read ahead by threads, in order: decoding and decryption run outside of Python's lock."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

from voxelvault.training.dataset import Dataset, stacked
from voxelvault.training.drawing import shuffled


def read_ahead(dataset: Dataset, batch_size: int | None, shuffle: bool, threads: int) -> Iterator[Any]:
    """Yield the samples of a data set's epoch, or batches of them.

    Parameters
    ----------
    dataset : Dataset
        Open.
    batch_size : int, optional
        None for single samples.
    shuffle : bool
        In the epoch's own order.
    threads : int
        That read; twice as many samples are in memory at most.
    """
    order = shuffled(len(dataset), dataset.seed, dataset.epoch) if shuffle else range(len(dataset))
    size = batch_size or 1
    batches = [[int(index) for index in order[first : first + size]] for first in range(0, len(order), size)]
    waiting: deque[Future[list[Any]]] = deque()
    with ThreadPoolExecutor(threads, "samples") as pool:
        try:
            for indexes in batches:
                waiting.append(pool.submit(dataset.__getitems__, indexes))
                if len(waiting) > threads:
                    yield _out(waiting.popleft().result(), batch_size)
            while waiting:
                yield _out(waiting.popleft().result(), batch_size)
        finally:
            for future in waiting:
                future.cancel()


def _out(samples: list[Any], batch_size: int | None) -> Any:
    return samples[0] if batch_size is None else stacked(samples)


__all__ = ["read_ahead"]
