"""Samples into a batch: what stacks is stacked, ids stay a list, affines stay with their images.

Needs torch (extra `train`).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch.utils.data import default_collate, get_worker_info

from voxelvault.errors import UsageError


def tensors(item: Mapping[str, Any], keys: Sequence[str]) -> dict[str, Any]:
    """Return a sample whose images and masks are tensors of the same memory.

    Parameters
    ----------
    item : mapping
        A sample with NumPy arrays.
    keys : sequence of str
        Entries that are images or masks.
    """
    return {**item, **{key: torch.from_numpy(item[key]) for key in keys}}


class Batch(list[dict[str, Any]]):
    """Samples whose arrays lie in one tensor a key from the start, so that none is copied to stack them.

    Parameters
    ----------
    length : int
        Samples that will come.
    """

    def __init__(self, length: int) -> None:
        super().__init__()
        self._length = length
        self._joint: dict[str, torch.Tensor] = {}

    def room(self, key: str, shape: tuple[int, ...], dtype: npt.DTypeLike) -> npt.NDArray[Any]:
        """Return the next sample's memory for a key: of the joint tensor, if it has this shape."""
        joint = self._joint.get(key)
        if joint is None:
            joint = self._joint[key] = _empty((self._length, *shape), dtype)
        fits = joint.shape[1:] == shape
        own: npt.NDArray[Any] = joint[len(self)].numpy() if fits else np.empty(shape, dtype)
        return own

    def joined(self, key: str) -> torch.Tensor | None:
        """Return the joint tensor of a key, if all samples still have their parts of it."""
        joint = self._joint.get(key)
        if joint is None or len(self) != self._length:
            return None
        whole = all(
            isinstance(sample.get(key), torch.Tensor)
            and sample[key].data_ptr() == joint[number].data_ptr()
            and sample[key].shape == joint.shape[1:]
            for number, sample in enumerate(self)
        )
        return joint if whole else None


def _empty(shape: tuple[int, ...], dtype: npt.DTypeLike) -> torch.Tensor:
    """Return memory for a batch: a worker's is shared with the trainer at once."""
    if get_worker_info() is None:
        # NumPy asks the system for large pages, which torch doesn't: a third of the time it takes.
        return torch.from_numpy(np.empty(shape, dtype))
    kind = torch.from_numpy(np.empty(0, dtype)).dtype
    storage = torch.UntypedStorage._new_shared(math.prod(shape) * kind.itemsize)  # type: ignore[no-untyped-call]
    return torch.empty(0, dtype=kind).set_(storage).view(shape)


def collate(samples: Sequence[Any]) -> Any:
    """Make one batch of samples.

    Parameters
    ----------
    samples : sequence
        Dictionaries; or lists of them, as MONAI's transforms give that cut several crops of one image.

    Returns
    -------
    dict
        By key: arrays and tensors stacked along a new first axis (batch); numbers as a tensor, floats
        as float32 as networks want their targets; strings, and lists of strings, as a list with an
        entry a sample; dictionaries likewise.
        MetaTensors stay MetaTensors, with all their affines.

    Raises
    ------
    UsageError
        Arrays of one key differ in shape.
    """
    if isinstance(samples, Batch):
        return _of_batch(samples)
    flat = [sample for item in samples for sample in (item if isinstance(item, list) else [item])]
    return _joined(flat, "sample")


def _of_batch(batch: Batch) -> dict[str, Any]:
    found = {}
    for key in batch[0]:
        joint = batch.joined(key)
        found[key] = _joined([sample[key] for sample in batch], key) if joint is None else joint
    return found


def _joined(values: Sequence[Any], name: str) -> Any:
    first = values[0]
    if isinstance(first, Mapping):
        return {key: _joined([value[key] for value in values], str(key)) for key in first}
    if isinstance(first, np.ndarray):
        return _stacked([torch.as_tensor(value) for value in values], name)
    if isinstance(first, torch.Tensor):
        return _stacked(values, name)
    if isinstance(first, float | np.floating):
        return torch.tensor(values, dtype=torch.float32)
    if first is None or isinstance(first, str | bytes) or _is_texts(first):
        return list(values)
    return default_collate(list(values))


def _is_texts(value: Any) -> bool:
    """Tell whether this is a list of texts, as long as a sample has them: the segments of a series."""
    return isinstance(value, list | tuple) and all(isinstance(one, str) for one in value)


def _stacked(values: Sequence[torch.Tensor], name: str) -> Any:
    shapes = sorted({tuple(value.shape) for value in values})
    if len(shapes) > 1:
        raise UsageError(
            f"'{name}' has several shapes in one batch ({shapes[0]}, {shapes[-1]}): use batch_size=1,"
            " patches, or a transform that crops or pads to one size"
        )
    if type(values[0]).__name__ == "MetaTensor":
        from voxelvault.training.monai_bridge import joined

        return joined(values)
    return default_collate(list(values))


__all__ = ["Batch", "collate", "tensors"]
