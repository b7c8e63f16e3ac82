"""A synthetic head looks like one, bleeds where it is told to, and comes out the same for the same seed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from small_heads import COARSE, head, recipe, study

from voxelvault.errors import UsageError
from voxelvault_triage.phantom.atlas import hounsfield, template
from voxelvault_triage.phantom.bleeds import KINDS, Kind
from voxelvault_triage.phantom.scanner import KERNELS, draw_scan
from voxelvault_triage.phantom.study import SMALLEST_ML, phantom


def test_same_seed_gives_the_same_study_and_another_seed_another() -> None:
    again = phantom(5, head(), recipe(Kind.EPIDURAL))
    np.testing.assert_array_equal(again.hu, study(5, Kind.EPIDURAL).hu)
    np.testing.assert_array_equal(again.labels, study(5, Kind.EPIDURAL).labels)
    assert again.hu.dtype == np.float32
    assert (
        study(6, Kind.EPIDURAL).hu.shape != again.hu.shape or (study(6, Kind.EPIDURAL).hu != again.hu).any()
    )


@pytest.mark.parametrize("kind", KINDS)
def test_each_type_is_brighter_than_what_lay_there(kind: Kind) -> None:
    made = study(15, kind)
    assert set(made.volumes) == {kind}
    assert made.volume_ml >= SMALLEST_ML
    label = made.labels == 1 + KINDS.index(kind)
    assert label.any()
    assert set(np.unique(made.labels)) <= {0, 1 + KINDS.index(kind)}
    brain = (made.hu > 10) & (made.hu < 45)
    assert np.median(made.hu[label]) > np.median(made.hu[brain]) + 8


def test_a_negative_study_has_no_blood() -> None:
    made = study(12)
    assert made.volumes == {}
    assert made.volume_ml == 0
    assert not made.labels.any()


def test_a_head_has_air_around_bone_and_a_brain() -> None:
    hu = study(12).hu
    assert (hu < -900).mean() > 0.2
    assert 0.02 < (hu > 300).mean() < 0.3
    assert 0.1 < ((hu > 10) & (hu < 60)).mean() < 0.5


def test_volumes_are_those_of_the_labels() -> None:
    made = study(11, Kind.INTRAPARENCHYMAL)
    marked = float((made.labels > 0).sum(axis=(1, 2)) @ made.planes.voxel_ml())
    assert marked == pytest.approx(made.volume_ml, rel=0.35)


def test_tilted_stacks_are_sheared_along_the_table() -> None:
    for seed in range(20):
        scan = draw_scan(np.random.default_rng(seed), COARSE)
        along = np.diff(scan.planes.positions, axis=0)
        assert np.allclose(along[:, :2], 0)
        if scan.tilt:
            assert scan.planes.normal[2] == pytest.approx(np.cos(np.deg2rad(12)))
            return
    pytest.fail("no scan was tilted")


def test_kernels_differ_in_the_grain_of_their_noise() -> None:
    cuts = [kernel.cut for kernel in KERNELS]
    assert cuts == sorted(cuts)


def test_the_templates_scale_widens_soft_tissue() -> None:
    np.testing.assert_allclose(
        hounsfield(np.array([0, 900, 2000, 3100, 4000])), [-1000, -100, 0, 100, 1000], atol=100
    )


def test_missing_templates_are_said_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="analytic head"):
        template(tmp_path)


@pytest.mark.shared
def test_the_averaged_anatomy_has_ventricles_inside_and_skin_outside(shared_dicom: Path) -> None:
    atlas = template(shared_dicom.parent / "templates")
    assert atlas.depth.max() > 45
    assert atlas.depth[atlas.ventricle > 0.5].min() > 15
    assert (atlas.skin - atlas.depth).min() > -6
