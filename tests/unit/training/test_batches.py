"""Batches whose samples lie in one tensor from the start: the same values, and nobody's memory twice."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import voxelvault as vv
from voxelvault.errors import UsageError
from voxelvault.training.collating import Batch, collate


def batch_of(*shapes: tuple[int, ...]) -> Batch:
    batch = Batch(len(shapes))
    for number, shape in enumerate(shapes):
        room = batch.room("image", shape, np.float32)
        room[...] = number
        batch.append({"image": torch.from_numpy(room), "id": str(number), "label": 0.5})
    return batch


def test_nothing_is_copied_where_all_samples_have_their_places() -> None:
    batch = batch_of((1, 3), (1, 3))
    joined = collate(batch)
    assert joined["image"].data_ptr() == batch[0]["image"].data_ptr()
    assert joined["image"].tolist() == [[[0, 0, 0]], [[1, 1, 1]]]
    assert joined["id"] == ["0", "1"]
    assert joined["label"].dtype == torch.float32


@pytest.mark.parametrize("change", ["other", "shorter", "none"])
def test_samples_that_were_changed_are_stacked_as_they_are(change: str) -> None:
    batch = batch_of((1, 3), (1, 3))
    if change == "other":
        batch[1]["image"] = torch.full((1, 3), 7.0)
        assert collate(batch)["image"].tolist() == [[[0, 0, 0]], [[7, 7, 7]]]
    elif change == "shorter":
        batch.pop()
        assert collate(batch)["image"].tolist() == [[[0, 0, 0]]]
    else:
        batch.reverse()
        assert collate(batch)["image"].tolist() == [[[1, 1, 1]], [[0, 0, 0]]]


def test_shapes_that_differ_are_refused() -> None:
    with pytest.raises(UsageError, match="several shapes"):
        collate(batch_of((1, 3), (1, 4)))


def test_lists_of_texts_stay_with_their_samples() -> None:
    samples = [{"label": ["liver", "lesion"]}, {"label": ["liver"]}, {"label": []}]
    assert collate(samples) == {"label": [["liver", "lesion"], ["liver"], []]}
    assert collate([{"label": {"segments": []}}, {"label": {"segments": ["liver"]}}]) == {
        "label": {"segments": [[], ["liver"]]}
    }


@pytest.mark.parametrize("workers", [0, 2])
def test_batches_are_their_samples(vault: vv.Vault, workers: int) -> None:
    heads = vault.select("Modality = 'CT'")
    with heads.dataset("slices") as samples, heads.loader(3, workers, kind="slices") as loader:
        batches = list(loader)
        again = list(loader)
        # A second epoch doesn't write over the first one's memory.
        assert not {batch["image"].data_ptr() for batch in batches} & {
            one["image"].data_ptr() for one in again
        }
        for number, image in enumerate(torch.cat([batch["image"] for batch in batches])):
            assert (image.numpy() == samples[number]["image"]).all()
