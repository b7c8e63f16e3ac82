"""Samples into a batch: what stacks is stacked, ids stay a list, affines stay with their images.

Needs torch (extra `train`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch.utils.data import default_collate

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
        as float32 as networks want their targets; strings as a list; dictionaries likewise.
        MetaTensors stay MetaTensors, with all their affines.

    Raises
    ------
    UsageError
        Arrays of one key differ in shape.
    """
    flat = [sample for item in samples for sample in (item if isinstance(item, list) else [item])]
    return _joined(flat, "sample")


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
    if first is None or isinstance(first, str | bytes):
        return list(values)
    return default_collate(list(values))


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


__all__ = ["collate", "tensors"]
