"""Blood is laid into a scanned head within its skull; all else stays as it was."""

from __future__ import annotations

import numpy as np
import pytest
from small_heads import study

from voxelvault.errors import UsageError
from voxelvault_triage.phantom.bleeds import Kind
from voxelvault_triage.phantom.implant import host, implant
from voxelvault_triage.phantom.planning import Lesions


def test_blood_is_laid_inside_the_skull_and_the_skull_stays() -> None:
    made = study(12)
    found = host(made.hu, made.planes)
    laid = implant(found, 3, Lesions(shares={Kind.INTRAPARENCHYMAL: 1.0}, second=0))
    assert laid.volumes[Kind.INTRAPARENCHYMAL] > 0.3
    where = laid.labels > 0
    assert (found.space.depth[where] > -1).all()
    assert laid.hu[where].mean() > found.hu[where].mean() + 10
    np.testing.assert_array_equal(laid.hu[found.space.depth < -3], found.hu[found.space.depth < -3])
    np.testing.assert_array_equal(
        implant(found, 3, Lesions(shares={Kind.INTRAPARENCHYMAL: 1.0}, second=0)).hu, laid.hu
    )


def test_what_has_no_skull_is_refused() -> None:
    made = study(12)
    with pytest.raises(UsageError, match="cavity"):
        host(np.zeros_like(made.hu), made.planes)
