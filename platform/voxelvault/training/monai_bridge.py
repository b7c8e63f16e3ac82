"""MONAI's side of a sample: images and masks as `MetaTensor` with the affine that they carry.

Imported only where a MONAI transform is used; needs the extra `train`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from monai.data.meta_tensor import MetaTensor
from monai.data.utils import collate_meta_tensor_fn
from monai.utils.enums import SpaceKeys


def metatensors(item: Mapping[str, Any], keys: Sequence[str]) -> dict[str, Any]:
    """Return a sample whose arrays are MetaTensors.

    Parameters
    ----------
    item : mapping
        A sample with NumPy arrays, `id` and `affine_ras`: (4, 4), or a mapping of key to it.
    keys : sequence of str
        Entries that are images or masks, (channel, axis 0, axis 1[, axis 2]).

    Returns
    -------
    dict
        `meta` has what MONAI's readers give: affine float64 (axis index to mm, RAS), space, shape,
        and the opaque id where they have a file name.
    """
    affine = item["affine_ras"]
    found = dict(item)
    for key in keys:
        # A mask lies on the first image.
        own = affine.get(key, next(iter(affine.values()))) if isinstance(affine, Mapping) else affine
        found[key] = _metatensor(item[key], own, str(item["id"]))
    return found


def joined(values: Sequence[Any]) -> Any:
    """Return one MetaTensor of a batch of them, with all their affines.

    Parameters
    ----------
    values : sequence of MetaTensor
        Alike in shape.
    """
    return collate_meta_tensor_fn(values)  # type: ignore[no-untyped-call]


def _metatensor(values: np.ndarray[Any, Any], affine: Any, name: str) -> MetaTensor:
    placed = torch.from_numpy(np.array(affine, np.float64))
    meta = {
        "original_affine": placed.clone(),
        "space": SpaceKeys.RAS,
        "spatial_shape": np.asarray(values.shape[1:]),
        "original_channel_dim": 0,
        "filename_or_obj": name,
    }
    return MetaTensor(torch.from_numpy(values), affine=placed, meta=meta)


__all__ = ["joined", "metatensors"]
