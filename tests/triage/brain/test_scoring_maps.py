"""Maps become one score, a volume and a mask; the brightness rule needs no network."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage
from small_heads import study

from voxelvault_triage.hemorrhage.brightness import brightness
from voxelvault_triage.hemorrhage.preprocess import COLUMNS, ROWS, Prepared, prepare_volume, restore
from voxelvault_triage.hemorrhage.scoring import INPUT, OUTPUT, evidence, infer_volume, logits, sigmoid
from voxelvault_triage.phantom.bleeds import KINDS, Kind
from voxelvault_triage.pipeline import Arrays


def flat(value: float = -6.0, planes: int = 6) -> np.ndarray:
    return np.full((planes, 6, ROWS, COLUMNS), value, np.float32)


def test_more_suspicion_gives_a_higher_score_and_names_its_type() -> None:
    quiet = evidence(flat(), np.ones(6))
    maps = flat()
    maps[2:4, 0, 50:60, 50:60] = maps[2:4, 2, 50:60, 50:60] = 5
    loud = evidence(maps, np.full(6, 0.005))
    assert quiet.study == pytest.approx(-6)
    assert loud.study == pytest.approx(5)
    assert KINDS[int(loud.types.argmax())] is Kind.SUBDURAL
    assert loud.planes.argmax() in (2, 3)
    assert loud.volume_ml == pytest.approx(200 * 0.005)


def test_a_plane_alone_counts_for_three_quarters() -> None:
    maps = flat(-4)
    maps[2, 0, 50:60, 50:60] = 4
    assert evidence(maps, np.ones(6)).study == pytest.approx(2)


def test_evidence_of_more_pixels_takes_more_than_a_thin_rim() -> None:
    maps = flat()
    maps[2:4, 0, 50:60, 50:60] = 5
    few, many = (evidence(maps, np.ones(6), pixels).study for pixels in (100, 200))
    assert (few, many) == (pytest.approx(5), pytest.approx(-0.5))


@pytest.mark.parametrize("pixels", [1, 40, 160, 6000, 20000])
def test_evidence_is_the_mean_of_the_largest_of_all(pixels: int) -> None:
    draw = np.random.default_rng(pixels)
    maps = ndimage.gaussian_filter(draw.normal(0, 9, (4, 6, ROWS, COLUMNS)), (0, 0, 3, 3)).astype(np.float32)
    maps[1, 2] = -3
    every = np.sort(maps.reshape(4, 6, -1), axis=-1)[..., -pixels:].mean(axis=-1, dtype=float)
    plane = 0.75 * every[1] + 0.25 * np.maximum(every[0], every[2])
    found = evidence(maps, np.ones(4), pixels)
    assert found.planes[1] == pytest.approx(plane[0], abs=1e-12)
    assert (found.types >= plane[1:] - 1e-12).all()


def test_a_network_is_run_in_small_batches() -> None:
    sizes = []

    def run(inputs: Arrays) -> Arrays:
        sizes.append(len(inputs[INPUT]))
        return {OUTPUT: np.zeros((len(inputs[INPUT]), 6, ROWS, COLUMNS), np.float32)}

    assert logits(np.zeros((19, ROWS, COLUMNS), np.float32), run).shape[0] == 19
    assert sizes == [8, 8, 3]


def _seer(prepared: Prepared) -> np.ndarray:
    """Return maps of a network that marks what is as bright as blood in the middle."""
    maps = np.full((len(prepared.hu), 6, ROWS, COLUMNS), -8, np.float32)
    maps[:, 0] = np.where((prepared.hu > 48) & (prepared.hu < 90), 8, -8)
    return maps


def test_a_finding_lies_on_the_source_grid() -> None:
    made = study(11, Kind.INTRAPARENCHYMAL)
    prepared = prepare_volume(made.hu, made.planes)
    maps, at = _seer(prepared), [0]

    def run(inputs: Arrays) -> Arrays:
        first = at[0]
        at[0] += len(inputs[INPUT])
        return {OUTPUT: maps[first : at[0]]}

    found = infer_volume(prepared, run, calibrate=lambda raw: raw / 2, threshold=0.3)
    assert found.mask.shape == made.hu.shape
    assert found.mask.dtype == bool
    assert 0.45 < found.score <= 0.5
    assert found.flagged
    assert found.volume_ml == pytest.approx(float(found.mask.sum(axis=(1, 2)) @ made.planes.voxel_ml()))
    assert set(found.types) == {str(kind) for kind in KINDS}
    assert found.key_frame == int(found.mask.sum(axis=(1, 2)).argmax())


def test_what_is_marked_is_what_all_of_the_map_would_mark() -> None:
    made = study(11, Kind.INTRAPARENCHYMAL)
    prepared = prepare_volume(made.hu, made.planes)
    logit = ndimage.gaussian_filter(np.random.default_rng(1).normal(0, 9, prepared.hu.shape), (0, 3, 3))
    logit[2:] -= np.hypot(*np.mgrid[-90:102, -70:90]) / 20
    maps = np.repeat(logit[:, None].astype(np.float32), 6, axis=1)
    whole = restore(sigmoid(logit).astype(np.float32), prepared)
    places = np.argwhere(np.ones(whole.shape[1:], bool))
    for index, number in enumerate(prepared.plane_of):
        at = np.linalg.solve(prepared.matrices[index], (places - prepared.offsets[index]).T)
        other = ndimage.map_coordinates(sigmoid(logit[number]).astype(np.float32), at, order=1)
        assert np.abs(whole[index].ravel() - other).max() < 1e-5
    parts = iter(np.array_split(maps, range(8, len(maps), 8)))
    mask = infer_volume(prepared, lambda inputs: {OUTPUT: next(parts)}).mask
    assert mask.any()
    assert not np.logical_xor(mask, whole > 0.5)[np.abs(whole - 0.5) > 1e-6].any()


def test_the_brightness_rule_sees_a_clot() -> None:
    bleeding, clear = study(11, Kind.INTRAPARENCHYMAL), study(12)
    values = []
    for made in (bleeding, clear):
        prepared = prepare_volume(made.hu, made.planes)
        values.append(brightness(prepared.hu, prepared.plane_ml))
    assert values[0] > values[1]
