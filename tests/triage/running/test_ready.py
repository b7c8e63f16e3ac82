"""When a study is there, without a clock or a vault."""

from __future__ import annotations

from datetime import datetime, timedelta

import numpy as np
import pytest

from voxelvault_triage.ready import Patience, gaps, is_ready

NOON = datetime(2026, 3, 1, 12)


@pytest.mark.parametrize(
    ("places", "missing"),
    [
        ([0, 2, 4, 6, 8], 0),
        ([8, 2, 6, 0, 4], 0),
        ([0, 2, 4, 8, 10], 1),
        ([0, 2, 6, 8, 10, 16], 2),
        ([0, 4, 6, 8], 1),
        ([0, 2.5, 5, 7.5, 12.5, 17.5, 22.5], 0),  # thin below, thick above: no gap
        ([0, 0, 2, 2, 4, 4, 6, 6], 0),  # two time points
        ([0, 50, 51], 0),  # scouts
        ([], 0),
    ],
)
def test_a_gap_is_a_step_wider_than_its_neighbours(places: list[float], missing: int) -> None:
    assert gaps([np.asarray(places)]) == missing


def test_quiet_is_enough_unless_a_slice_is_missing() -> None:
    patience = Patience(timedelta(seconds=60), timedelta(seconds=600))
    for seconds, missing, ready in ((59, 0, False), (60, 0, True), (60, 1, False), (600, 1, True)):
        assert is_ready(NOON + timedelta(seconds=seconds), NOON, missing, patience) is ready
