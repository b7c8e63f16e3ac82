"""The data set of a cohort: samples by index, for PyTorch's loaders and for plain loops; torch isn't needed.

What pickles is ids, a loan and the transform; the plan of the samples travels inside the loan's seal.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np

from voxelvault.errors import ForkedProcess, MissingExtra, UsageError
from voxelvault.reading.lending import Loan
from voxelvault.training.carrying import Carried
from voxelvault.training.drawing import item_generator, seeded
from voxelvault.training.plan import ARRAYS
from voxelvault.training.samples import Room, SampleMaker

Transform = Callable[[Any], Any]


class Draw(NamedTuple):
    """An index that says which epoch it is drawn in."""

    epoch: int
    number: int


class Supply(Protocol):
    """Where samples come from: the vault's own process, or a loan in a worker. Pickles as a loan."""

    keys: tuple[str, ...]

    def __len__(self) -> int: ...

    def maker(self) -> SampleMaker[Any]:
        """Return what makes samples in this process; opened at the first call."""

    def loan(self) -> Loan:
        """Return what workers get; another one when half of its time is over."""

    def count(self, samples: int, size: int) -> None:
        """Count samples, and bytes that workers read for them, for the log."""

    def close(self) -> None:
        """Enter the counts in the log."""


class Dataset:
    """Samples of a cohort, by index; made by `cohort.dataset`.

    A sample is a dictionary: `image` float32 (channel, axis 0, axis 1[, axis 2]), where there are masks
    `mask` uint8 of that shape with one channel, `label`, `id` and `subject` (opaque), and `affine_ras`,
    float64 (4, 4): index along the image's own axes to mm, RAS. Axes are (slice, row, column), or those of
    the cache; of a slice (row, column), and its affine's third column points to the next slice. Samples
    of a study have each series under its own key, and `affine_ras` by key.

    What a sample draws (its patch, and what its transform draws) follows from seed, epoch and index.

    Parameters
    ----------
    supply : Supply
        Where samples come from.
    transform : callable, optional
        Gets the sample, and returns what comes out, never None. A lambda or a function of a notebook will do.
    arrays : {"numpy", "torch", "monai"}
        What images and masks are; `monai` stands for MetaTensor.
    seed : int
        What drawing starts from.
    note : str
        What `repr` says of the samples; nothing that identifies.
    """

    def __init__(
        self, supply: Supply, transform: Transform | None, arrays: str, seed: int, note: str
    ) -> None:
        if arrays not in ARRAYS:
            raise UsageError(f"no arrays {arrays!r}; choose one of {', '.join(ARRAYS)}")
        self.seed, self.epoch = seed, 0
        self._supply = supply
        self._transform = None if transform is None else Carried(transform)
        self.arrays, self._note, self._pid = arrays, note, os.getpid()

    def __reduce__(self) -> tuple[Any, ...]:
        self._check()
        return _restored, (self._supply, self._transform, self.arrays, self.seed, self._note, self.epoch)

    def __len__(self) -> int:
        return len(self._supply)

    def __repr__(self) -> str:
        return f"<Dataset: {len(self)} {self._note}>"

    def __getitem__(self, index: int | Draw) -> Any:
        """Return one sample; the number alone means the data set's own epoch."""
        return self._item(index)

    def _item(self, index: int | Draw, room: Room | None = None) -> Any:
        self._check()
        epoch, number = index if isinstance(index, Draw) else (self.epoch, int(index))
        if not -len(self) <= number < len(self):
            raise IndexError(f"there are {len(self)} samples")
        generator = item_generator(self.seed, epoch, number % len(self))
        sample = self._supply.maker().sample(number % len(self), generator, room)
        self._supply.count(1, 0)
        return self._turned(sample, generator)

    def __getitems__(self, indexes: Sequence[int | Draw]) -> list[Any]:
        """Return several samples, as torch's loader asks for a batch of them."""
        if self.arrays != "torch" or self._transform is not None:
            return [self[index] for index in indexes]
        from voxelvault.training.collating import Batch

        batch = Batch(len(indexes))
        for index in indexes:
            batch.append(self._item(index, batch.room))
        return batch

    def __iter__(self) -> Iterator[Any]:
        return (self[index] for index in range(len(self)))

    def __enter__(self) -> Dataset:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def set_epoch(self, epoch: int) -> None:
        """Say which epoch plain indexes are drawn in; a `Loader` counts epochs by itself.

        Workers of a loader of one's own that persist keep the epoch that they started with.
        """
        self.epoch = epoch

    def count(self, batch: Any) -> None:
        """Count a batch that workers read, for the entry that closes the handle."""
        images = [batch[key] for key in self._supply.keys if isinstance(batch, dict) and key in batch]
        self._supply.count(
            max((len(image) for image in images), default=0), sum(image.nbytes for image in images)
        )

    def grant_id(self) -> str:
        """Return the id of the loan that workers which start now get; an old loan is made anew."""
        return self._supply.loan().grant_id

    def close(self) -> None:
        """Close the handle; the log gets what was read."""
        self._supply.close()

    def _check(self) -> None:
        if os.getpid() != self._pid:
            raise ForkedProcess(
                "this data set was opened before a fork; use cohort.loader(...), or pass"
                " multiprocessing_context='forkserver' to your own DataLoader"
            )

    def _turned(self, sample: dict[str, Any], generator: np.random.Generator) -> Any:
        images = [key for key in (*self._supply.keys, "mask") if key in sample]
        turned = _AS[self.arrays](sample, images)
        if self._transform is None:
            return turned
        seed = int(generator.integers(1 << 32))
        with seeded(seed):
            if hasattr(self._transform.call, "set_random_state"):
                self._transform.call.set_random_state(seed=seed)
            made = self._transform(turned)
        if made is None:
            raise UsageError("the transform returned None: end it with `return sample`")
        return made


def _restored(
    supply: Supply, transform: Carried | None, arrays: str, seed: int, note: str, epoch: int
) -> Dataset:
    dataset = Dataset(supply, None, arrays, seed, note)
    dataset._transform, dataset.epoch = transform, epoch
    return dataset


def arrays_for(transform: Transform | None, otherwise: str) -> str:
    """Return which arrays a transform takes: MetaTensors if it is one of MONAI's."""
    kinds = [] if transform is None else type(transform).__mro__
    return "monai" if any(kind.__module__.split(".")[0] == "monai" for kind in kinds) else otherwise


def _as_numpy(sample: dict[str, Any], _: Sequence[str]) -> dict[str, Any]:
    return sample


def _as_torch(sample: dict[str, Any], keys: Sequence[str]) -> dict[str, Any]:
    try:
        from voxelvault.training.collating import tensors
    except ModuleNotFoundError as error:
        raise MissingExtra("tensors need torch: pip install 'voxelvault[train]'") from error

    return tensors(sample, keys)


def _as_monai(sample: dict[str, Any], keys: Sequence[str]) -> dict[str, Any]:
    try:
        from voxelvault.training.monai_bridge import metatensors
    except ModuleNotFoundError as error:
        raise MissingExtra("MetaTensors need MONAI: pip install 'voxelvault[train]'") from error

    return metatensors(sample, keys)


_AS: dict[str, Callable[[dict[str, Any], Sequence[str]], dict[str, Any]]] = {
    "numpy": _as_numpy,
    "torch": _as_torch,
    "monai": _as_monai,
}


def stacked(samples: Sequence[Any]) -> Any:
    """Make one batch of NumPy samples: arrays along a new first axis, numbers as an array, else lists."""
    first = samples[0]
    if isinstance(first, dict):
        return {key: stacked([sample[key] for sample in samples]) for key in first}
    if isinstance(first, np.ndarray | np.generic | int | float):
        shapes = {np.shape(sample) for sample in samples}
        if len(shapes) > 1:
            raise UsageError("samples of one batch differ in shape; use batch_size=None, or patches")
        return np.stack([np.asarray(sample) for sample in samples])
    return list(samples)


__all__ = ["Dataset", "Draw", "Supply", "arrays_for", "stacked"]
