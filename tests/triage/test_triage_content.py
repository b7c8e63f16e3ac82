"""What a gate looks at is made coarse first: the mean of blocks, whatever their size."""

from __future__ import annotations

import numpy as np
import pytest

from voxelvault_triage.content import coarse


@pytest.mark.parametrize("spacing", [(0.43, 0.43), (0.9, 0.45), (2.5, 2.5)])
@pytest.mark.parametrize("dtype", [np.int16, np.float32, np.float64])
def test_a_slice_is_averaged_over_blocks(spacing: tuple[float, float], dtype: type) -> None:
    plane = np.random.default_rng(3).integers(-1100, 3000, (103, 98)).astype(dtype)
    if dtype is not np.int16:
        plane[20:30, 5] = np.nan
    rows, columns = (max(1, round(2 / step)) for step in spacing)
    small, step = coarse(plane, spacing)
    assert small.dtype == np.float32
    assert small.shape == (103 // rows, 98 // columns)
    assert step == (rows * spacing[0], columns * spacing[1])
    whole = np.where(np.isnan(plane), -1000, plane).astype(float)
    places = np.ndindex(small.shape)
    blocks = [whole[r * rows :, c * columns :][:rows, :columns].mean() for r, c in places]
    np.testing.assert_allclose(small.ravel(), blocks, rtol=1e-5, atol=1e-3)
