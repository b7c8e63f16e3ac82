"""What is mistaken for blood is laid inside the skull, brightens it, and is no blood; kernels vary."""

from __future__ import annotations

from dataclasses import fields, replace

import numpy as np
import pytest
from small_heads import head, recipe, study

from voxelvault_triage.phantom.mimics import Mimics
from voxelvault_triage.phantom.scanner import KERNELS, draw_scan
from voxelvault_triage.phantom.study import WIDE, phantom

NONE = Mimics(**{one.name: 0.0 for one in fields(Mimics)})


@pytest.mark.parametrize("name", ["specks", "base", "hyperostosis"])
def test_calcium_and_bone_brighten_a_little_of_the_head(name: str) -> None:
    plain = phantom(21, head(), replace(recipe(), mimics=NONE), bleeding=False)
    often = replace(NONE, **{name: 1.0})
    made = phantom(21, head(), replace(recipe(), mimics=often), bleeding=False)
    brighter = made.hu - plain.hu > 25
    assert 0 < brighter.sum() < 0.02 * brighter.size
    assert (plain.hu[brighter] > -300).mean() > 0.95
    assert not made.labels.any()


def test_a_new_mimic_leaves_heads_that_do_not_have_it_as_they_were() -> None:
    usual = recipe()
    without = replace(usual.mimics, specks=0.0, base=0.0, hyperostosis=0.0)
    made = phantom(12, head(), replace(usual, mimics=without), bleeding=False)
    np.testing.assert_array_equal(made.hu, study(12).hu)


def test_kernels_of_other_makers_differ_in_every_value() -> None:
    rng = np.random.default_rng(0)
    made = [KERNELS[2].varied(rng, 0.3) for _ in range(50)]
    for name in ("blur", "sharpen", "cut", "grain"):
        values = [getattr(one, name) for one in made]
        assert min(values) < getattr(KERNELS[2], name) < max(values)
    assert WIDE.scanners.makers > 0


def test_slices_of_any_thickness_are_averaged_over_all_of_it() -> None:
    scans = [draw_scan(np.random.default_rng(k), WIDE.scanners) for k in range(40)]
    thin, thick = WIDE.scanners.thickness
    assert len({one.thickness for one in scans}) == 40
    for one in scans:
        assert thin <= one.thickness <= thick
        steps = np.diff([-one.thickness / 2, *one.offsets, one.thickness / 2])
        np.testing.assert_allclose(steps[1:-1], 2 * steps[0])
        assert steps[1:-1].max() <= WIDE.scanners.places_mm
    assert draw_scan(np.random.default_rng(0), recipe().scanners).offsets == (-1.75, 1.75)
