"""Where patches lie: inside, repeatable, centred on the mask as often as asked."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from voxelvault.training.drawing import item_generator, seeded, shuffled
from voxelvault.training.patches import (
    Array,
    balanced_start,
    centred_start,
    cut,
    foreground_of,
    moved_affine,
    random_start,
)

SIDES = st.tuples(*[st.integers(1, 40)] * 3)


@settings(deadline=None)
@given(SIDES, SIDES, st.integers(0, 1 << 30))
def test_a_patch_lies_inside_or_the_volume_lies_inside_it(
    shape: tuple[int, ...], size: tuple[int, ...], seed: int
) -> None:
    start = random_start(shape, size, np.random.default_rng(seed))
    for first, length, wanted in zip(start, shape, size, strict=True):
        if wanted <= length:
            assert 0 <= first <= length - wanted
        else:
            assert first <= 0
            assert first + wanted >= length


def test_every_place_is_drawn() -> None:
    generator = np.random.default_rng(0)
    drawn = {random_start((4, 3, 2), (2, 2, 2), generator) for _ in range(200)}
    assert drawn == {(a, b, 0) for a in range(3) for b in range(2)}


def test_the_draw_follows_from_seed_epoch_and_index_alone() -> None:
    def start(seed: int, epoch: int, index: int) -> tuple[int, ...]:
        return random_start((500, 500, 500), (9, 9, 9), item_generator(seed, epoch, index))

    assert start(1, 2, 3) == start(1, 2, 3)
    assert len({start(*given) for given in [(1, 2, 3), (2, 2, 3), (1, 3, 3), (1, 2, 4), (3, 2, 1)]}) == 5


def test_shuffled_is_a_permutation_of_its_epoch() -> None:
    first, second = shuffled(50, 7, 0), shuffled(50, 7, 1)
    assert sorted(first) == list(range(50)) == sorted(second)
    assert first.tolist() != second.tolist()
    assert first.tolist() == shuffled(50, 7, 0).tolist()


def test_balanced_patches_have_the_mask_in_their_middle_as_often_as_asked() -> None:
    mask = np.zeros((40, 40, 40), np.uint8)
    mask[20, 20, 20] = 1
    mask[8:12, 8:12, 8:12] = 2
    found = foreground_of(mask, np.random.default_rng(0))
    assert [len(points) for points in found.classes] == [1, 64]
    generator = np.random.default_rng(1)
    middles = [
        tuple(first + 4 for first in balanced_start(mask.shape, (9, 9, 9), found, 0.5, generator))
        for _ in range(2000)
    ]
    values = np.array([mask[middle] for middle in middles])
    # A quarter each, however few voxels a class has.
    assert 0.2 < np.mean(values == 1) < 0.3
    assert 0.2 < np.mean(values == 2) < 0.32


def test_few_points_are_kept_of_a_large_mask() -> None:
    found = foreground_of(np.ones((20, 20, 20), np.uint8), np.random.default_rng(0), points=100)
    again = foreground_of(np.ones((20, 20, 20), np.uint8), np.random.default_rng(0), points=100)
    assert found.classes[0].shape == (100, 3)
    assert len(np.unique(found.classes[0], axis=0)) == 100
    assert (found.classes[0] == again.classes[0]).all()
    assert found.nbytes == 1200


def test_an_empty_mask_gives_patches_from_anywhere() -> None:
    found = foreground_of(np.zeros((5, 5, 5), np.uint8), np.random.default_rng(0))
    assert found.classes == ()
    assert (
        len({balanced_start((9, 9, 9), (2, 2, 2), found, 1.0, np.random.default_rng(n)) for n in range(50)})
        > 5
    )


def test_a_patch_about_a_voxel_near_the_border_stays_inside() -> None:
    assert centred_start((0, 10, 19), (20, 20, 20), (6, 6, 6)) == (0, 8, 14)
    assert centred_start((1, 1, 1), (3, 3, 3), (7, 3, 1)) == (-2, 0, 1)


@settings(deadline=None)
@given(SIDES, SIDES, st.tuples(*[st.integers(-50, 50)] * 3))
def test_what_is_cut_is_what_padding_first_would_give(
    shape: tuple[int, ...], size: tuple[int, ...], start: tuple[int, ...]
) -> None:
    volume = np.arange(1, 1 + int(np.prod(shape)), dtype=np.float32).reshape(1, *shape)

    def read(low: Sequence[int], extent: Sequence[int], out: Array) -> Array:
        box = tuple(slice(a, a + n) for a, n in zip(low, extent, strict=True))
        out[...] = volume[(slice(None), *box)]
        return out

    padded = np.pad(volume[0], 100, constant_values=-7)
    expected = padded[tuple(slice(100 + a, 100 + a + n) for a, n in zip(start, size, strict=True))]
    found = cut(read, shape, start, np.empty((1, *size), np.float32), fill=-7)
    assert (found[0] == expected).all()


def test_the_affine_moves_with_the_patch() -> None:
    affine = np.array([[0, 0, 2.0, 5], [0, 3.0, 0, 6], [4.0, 0, 0, 7], [0, 0, 0, 1]])
    moved = moved_affine(affine, (1, 2, 3))
    assert np.allclose(moved @ [0, 0, 0, 1], affine @ [1, 2, 3, 1])
    assert np.allclose(moved[:3, :3], affine[:3, :3])


def test_global_generators_are_seeded_and_put_back() -> None:
    import random

    torch = pytest.importorskip("torch")

    def drawn() -> tuple[float, float, float]:
        return random.random(), float(np.random.rand()), float(torch.rand(1))

    random.seed(1), np.random.seed(1), torch.manual_seed(1)
    expected = drawn()
    random.seed(1), np.random.seed(1), torch.manual_seed(1)
    with seeded(5):
        inside = drawn()
    assert drawn() == expected
    with seeded(5):
        assert drawn() == inside
    assert inside != expected
