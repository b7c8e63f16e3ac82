"""Caches of a vault: built, kept, stale, resumed, bound, evicted, and gone with whom they are of."""

from __future__ import annotations

import multiprocessing
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from derived_support import build_together, cache, ingest, names, person

import voxelvault as vv
from voxelvault.crypto.streaming_aead import Kind
from voxelvault.derived import building, making
from voxelvault.derived.cache import find_cache
from voxelvault.derived.frames import CopiedPacks
from voxelvault.derived.recipe import frame_recipe, recipe
from voxelvault.derived.shelf import derived_objects, entries, sweep
from voxelvault.dicom.slices import LPS_TO_RAS
from voxelvault.errors import NoSpace, UsageError
from voxelvault.model import new_id
from voxelvault.reading.many import open_many
from voxelvault.testing import synthetic
from voxelvault.testing.synthetic_segmentation import segmentation_of
from voxelvault.testing.synthetic_series import slice_positions

OBLIQUE = (0.96, 0.28, 0.0, -0.28, 0.96, 0.0)


def marker_of(volume: np.ndarray, affine: np.ndarray) -> np.ndarray:
    """Return where a volume is brightest, mm, LPS."""
    brightest = np.unravel_index(np.argmax(volume), volume.shape)
    return np.asarray((LPS_TO_RAS @ affine @ [*brightest, 1])[:3])


def test_built_once_kept_and_found_again(vault: vv.Vault) -> None:
    made = cache(vault, dtype="int16")
    assert (len(made), made.built, made.kept, dict(made.refused)) == (4, 4, 0, {})
    before = names(vault)
    again = cache(vault, dtype="int16")
    assert (again.built, again.kept) == (0, 4)
    assert names(vault) == before
    found = find_cache(vault.resources, made.series_ids, recipe(dtype="int16"))
    assert set(found.series_ids) == set(made.series_ids)
    assert len(find_cache(vault.resources, made.series_ids, recipe(dtype="uint8"))) == 0
    assert vault.caches()[0].series == 4
    assert "RAS" in repr(vault.caches()[0])


@pytest.mark.parametrize("shape", [{}, {"orientation": OBLIQUE}, {"tilt": 15.0}, {"uneven": (2, 2, 3, 2)}])
def test_a_marker_stays_where_it_is(vault: vv.Vault, tmp_path: Path, shape: dict[str, Any]) -> None:
    known = set(vault.select("Modality = 'CT'").series_ids)
    row, column = np.array(shape.get("orientation", (1, 0, 0, 0, 1, 0)), float).reshape(2, 3)
    point = slice_positions(5, **shape)[2] + 7 * 0.8 * column + 5 * 0.6 * row
    files = synthetic.ct_series(5, 20, 16, seed=9, marker=tuple(point), **shape)
    ingest(vault, tmp_path / "more", *files)
    more = vault.select("Modality = 'CT'")
    made = cache(vault, spacing=0.5)
    (series_id,) = set(more.series_ids) - known
    volume, affine = made.load(series_id)
    assert np.isfinite(volume).all()
    assert np.allclose(np.linalg.norm(affine[:3, :3], axis=0), 0.5)
    # Half a new voxel; where slices are interpolated first, half an old one comes on top.
    resampled = {"tilt", "uneven"} & shape.keys()
    assert np.abs(marker_of(volume, affine) - point).max() < (0.26 if not resampled else 0.7)


def test_values_are_those_of_the_series(vault: vv.Vault) -> None:
    made = cache(vault, spacing=None, orientation=None, dtype="float32", chunks=8)
    for series in vault.select("Modality = 'CT'"):
        source = [found for found in made.series_ids if series.members()[0][0] in _instances(vault, found)]
        volume, affine = made.load(source[0])
        assert np.array_equal(volume, series.load())
        assert np.allclose(affine, series.affine_ras[:, [2, 1, 0, 3]])


def _instances(vault: vv.Vault, series_id: str) -> set[str]:
    found = vault.resources.catalog.query(
        "select instance_id from instances where series_id = $id", {"id": series_id}
    )
    return {row["instance_id"] for row in found.to_pylist()}


def test_a_series_that_grew_is_cached_anew_and_the_old_copy_goes(vault: vv.Vault, tmp_path: Path) -> None:
    made = cache(vault)
    old = {entry.ref.object_id for several in made.copies.values() for entry in several}
    ingest(vault, tmp_path / "more", *synthetic.ct_series(7, 20, 16, seed=1, attributes=person("P1"))[5:])
    assert vault.caches()[0].stale == 1
    assert len(find_cache(vault.resources, made.series_ids, made.recipe)) == 3
    again = cache(vault)
    assert (again.built, again.kept) == (1, 3)
    assert vault.caches()[0].stale == 0
    left = {entry.ref.object_id for entry in entries(vault.resources)}
    assert len(left & old) == 3
    assert {name[-32:] for name in names(vault)} == left


def test_a_build_that_is_stopped_is_taken_up(vault: vv.Vault, monkeypatch: pytest.MonkeyPatch) -> None:
    vault.options.threads = 1
    calls = []

    def stop(*arguments: Any) -> Any:
        calls.append(1)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return making.attempt(*arguments)

    monkeypatch.setattr(building, "attempt", stop)
    with pytest.raises(KeyboardInterrupt):
        cache(vault)
    kept = {entry.ref.object_id for entry in entries(vault.resources)}
    assert len(kept) >= 2
    monkeypatch.setattr(building, "attempt", making.attempt)
    again = cache(vault)
    assert (again.built, again.kept) == (4 - len(kept), len(kept))
    assert vault.verify(progress=False).ok


def test_a_full_disk_leaves_what_there_was(vault: vv.Vault, monkeypatch: pytest.MonkeyPatch) -> None:
    before = names(vault)

    def full(*_: Any) -> Any:
        raise NoSpace("the vault's disk is full: free some space, then run again")

    monkeypatch.setattr(building, "attempt", full)
    with pytest.raises(NoSpace):
        cache(vault)
    assert names(vault) == before
    assert entries(vault.resources) == []
    assert vault.verify(progress=False).ok


def test_what_can_not_be_cached_is_refused_and_the_rest_goes_on(vault: vv.Vault, tmp_path: Path) -> None:
    ingest(vault, tmp_path / "pet", *synthetic.pet_series(5, 16, 16, seed=8))
    made = vault.select().cache(units="suvbw", progress=False)
    assert (made.built, len(made.refused)) == (1, 4)
    assert "4 refused, such as: " in repr(made)
    with pytest.raises(UsageError, match="not in the cache"):
        made.load(next(iter(made.refused)))


def test_a_recipe_that_suits_no_series_says_so(vault: vv.Vault) -> None:
    with pytest.raises(UsageError, match=r"none of these 4 series .*: uint8 cannot hold .* \(4 series\)$"):
        cache(vault, dtype="uint8")
    assert names(vault) == set()
    before = len(list(vault.resources.audit.entries()))
    for units in ("HU", "suv"):
        with pytest.raises(UsageError, match=f"no units '{units}'; choose one of modality,"):
            cache(vault, units=units)
    assert len(list(vault.resources.audit.entries())) == before


def test_the_limit_makes_the_longest_unused_go(vault: vv.Vault) -> None:
    first = cache(vault, dtype="float32", codec="raw", chunks=8)
    limit = int(first.nbytes * 1.5)
    second = cache(vault, dtype="int16", codec="raw", chunks=(8, 8, 8), limit_bytes=limit)
    assert second.built == 4
    assert sum(info.bytes for info in vault.caches()) <= limit
    assert len(find_cache(vault.resources, first.series_ids, first.recipe)) < 4
    assert second.evicted == 4 - len(find_cache(vault.resources, first.series_ids, first.recipe)) > 0
    assert second.evicted_bytes == sum(
        entry.ref.length
        for series_id, several in first.copies.items()
        for entry in several
        if not find_cache(vault.resources, [series_id], first.recipe)
    )
    assert f"{second.evicted} copies of other caches evicted" in repr(second)
    before = names(vault)
    none = cache(vault, codec="zstd", limit_bytes=10)
    assert (none.built, none.evicted) == (0, 0)
    assert names(vault) == before
    assert "alone takes" in repr(none)
    assert all("limit_bytes" in reason for reason in none.refused.values())
    assert len(names(vault)) == len(entries(vault.resources))


def test_evicting(vault: vv.Vault) -> None:
    made, frames = cache(vault), cache(vault, codec="fast")
    with pytest.raises(UsageError, match="say what"):
        vault.evict()
    with pytest.raises(UsageError, match="six or more"):
        vault.evict("abc")
    plan = vault.evict(made.recipe.sha256[:8], dry_run=True)
    assert (plan.copies, plan.bytes) == (4, made.nbytes)
    assert len(names(vault)) == 8
    assert vault.evict(made.recipe.sha256[:8]).copies == 4
    assert [info.recipe for info in vault.caches()] == [str(frames.recipe)]
    assert vault.evict(limit_bytes=frames.nbytes // 2).copies >= 2
    assert vault.evict(stale=True).copies == 0
    vault.evict(everything=True)
    assert names(vault) == set()
    log = vault.sql("select kind, outcome from audit where kind like 'derived%'").fetchall()
    assert {(str(kind), str(outcome)) for kind, outcome in log} >= {
        ("derived.built", "ok"),
        ("derived.removed", "intent"),
        ("derived.removed", "ok"),
    }


def test_evicting_what_was_listed_or_built(vault: vv.Vault) -> None:
    made, some = cache(vault), vault.select("Modality = 'CT'").series_ids[:1]
    part = vault.select(some).cache(progress=False)
    assert vault.evict(part).copies == 1
    assert len(find_cache(vault.resources, made.series_ids, made.recipe)) == 3
    (listed,) = vault.caches()
    left = [found for found in made.series_ids if found not in some]
    with vault.select(left).dataset("volumes", cache=listed) as dataset:
        assert len(dataset) == 3
    assert vault.evict(listed).copies == 3
    assert vault.evict(listed).copies == 0
    with pytest.raises(UsageError, match="build it again"):
        vault.select(left).dataset("volumes", cache=listed)
    with pytest.raises(UsageError, match="evict one of"):
        vault.evict(3)  # type: ignore[arg-type]


def test_what_a_killed_build_left_is_swept_when_it_is_old(vault: vv.Vault) -> None:
    sealed = derived_objects(vault.resources)
    made = cache(vault)
    left = sealed.put(Kind.DERIVED, bytes(32), new_id(), [b"left behind"])
    assert sweep(vault.resources) == 0
    time.sleep(0.01)
    assert sweep(vault.resources, grace=0.0) == 1
    assert sealed.name(left.object_id) not in names(vault)
    assert len(cache(vault)) == len(made)


def test_the_key_lies_below_the_studys(vault: vv.Vault) -> None:
    made = cache(vault)
    series_id = made.series_ids[0]
    entry = made.image(series_id)
    rows = vault.resources.catalog.query(
        "select t.key_id, s.study_id, s.subject_id from series s join studies t using (study_id)"
        " where series_id = $id",
        {"id": series_id},
    ).to_pylist()
    assert entry.key_id == rows[0]["key_id"]
    other = next(
        row["subject_id"]
        for row in vault.resources.catalog.query("select subject_id from patients").to_pylist()
        if row["subject_id"] != rows[0]["subject_id"]
    )
    vault.merge_subjects(rows[0]["subject_id"], other)
    again = cache(vault)
    assert (again.built, again.kept) == (0, 4)
    assert again.load(series_id)[0].shape == entry.layout.shape


def test_masks_lie_on_the_images_and_are_made_anew_with_them(vault: vv.Vault, tmp_path: Path) -> None:
    files = synthetic.ct_series(5, 20, 16, seed=7)
    pixels = np.zeros((5, 20, 16), bool)
    pixels[1:3, 6:12, 4:9] = True
    seg = segmentation_of(
        pixels,
        slice_positions(5),
        orientation=(1, 0, 0, 0, 1, 0),
        spacing=(0.8, 0.6),
        on=files,
        seed=7,
    )
    ingest(vault, tmp_path / "seg", *files, seg)
    made = cache(vault, spacing=None, orientation="RAS", masks=["lesion"])
    assert len(made.without_mask) == 4
    (series_id,) = set(made.series_ids) - set(made.without_mask)
    mask, affine = made.load(series_id, mask=True)
    assert mask.dtype == np.uint8
    assert set(np.unique(mask)) == {0, 1}
    assert int((mask == 1).sum()) == int(pixels.sum())
    assert np.allclose(affine, made.load(series_id)[1])
    laid = np.transpose(pixels, (2, 1, 0))[::-1, ::-1]
    assert np.array_equal(mask == 1, laid)
    with pytest.raises(UsageError, match="no mask"):
        made.load(made.without_mask[0], mask=True)
    assert cache(vault, spacing=None, orientation="RAS", masks=["lesion"]).kept == 5


def _outlined(seed: int, **boxes: tuple[slice, slice]) -> list[bytes]:
    """Return a CT and a segmentation of boxes in each of its slices, by label."""
    files = synthetic.ct_series(5, 20, 16, seed=seed)
    drawn = np.zeros((len(boxes), 5, 20, 16), bool)
    for pixels, box in zip(drawn, boxes.values(), strict=True):
        pixels[:, *box] = True
    seg = segmentation_of(
        drawn.reshape(-1, 20, 16),
        np.tile(slice_positions(5), (len(boxes), 1)),
        np.repeat(np.arange(1, len(boxes) + 1), 5).tolist(),
        orientation=(1, 0, 0, 0, 1, 0),
        spacing=(0.8, 0.6),
        labels=dict(enumerate(boxes, 1)),
        on=files,
        seed=seed,
    )
    return [*files, seg]


def test_a_label_that_another_covers_is_not_given_with_holes(vault: vv.Vault, tmp_path: Path) -> None:
    organ, lesion, other = np.s_[4:12, 4:12], np.s_[6:8, 6:8], np.s_[14:18, 2:6]
    ingest(vault, tmp_path / "a", *_outlined(11, organ=organ, lesion=lesion, other=other))
    ingest(vault, tmp_path / "b", *_outlined(12, other=other))
    made = cache(vault, spacing=None, orientation=None, masks=["organ", "lesion", "other"])
    ids = [found for found in made.series_ids if made.mask(found) is not None]
    masked = vault.select(ids)
    painted = {entry.layout.painted for found in ids if (entry := made.mask(found))}
    assert painted == {((1, (2,)), (2, ()), (3, ())), ((3, ()),)}
    for asked in ("organ", ("lesion", "organ"), ("organ", "other")):
        with pytest.raises(UsageError, match=r"in 1 of 2 masks .* \('lesion' covers 'organ'\)"):
            masked.dataset(cache=made, masks=asked)
    for asked in (("organ", "lesion"), "lesion", ("other", "lesion"), ("other", "organ", "lesion")):
        with (
            masked.dataset(cache=made, masks=asked, unmasked="background") as some,
            masked.dataset(masks=asked, unmasked="background") as plain,
        ):
            for found, want in zip(some, plain, strict=True):
                assert np.array_equal(found["mask"], want["mask"])
    with pytest.raises(UsageError, match="1 of 2 series have none of these labels"):
        masked.dataset(cache=made, masks="lesion")


def test_frames_from_copies_are_the_frames(vault: vv.Vault) -> None:
    made = cache(vault, codec="fast")
    assert made.recipe == frame_recipe()
    resources = vault.resources
    opened = open_many(resources, made.series_ids, kind_code="loader")
    sealed = derived_objects(resources)
    for series_id in made.series_ids:
        source = opened.series(series_id)
        readers = [entry.open(sealed, entry.dek(resources)) for entry in made.copies[series_id]]
        packs = CopiedPacks(opened.packs, readers)
        plain = source.reader(opened.packs, opened.handle)
        copied = source.reader(packs, opened.handle)
        for units in (None, "stored"):
            expected = plain.load(source.stacks[0], units=units)
            found = copied.load(source.stacks[0], units=units)
            assert np.array_equal(found, expected, equal_nan=True)
        pack_id = source.stacks[0].refs[0].pack_id
        assert type(packs.reader(pack_id)) is not type(opened.packs.reader(pack_id))
        with pytest.raises(UsageError, match="no such frame"):
            packs.reader(pack_id).read(0, [99], np.empty((1, 20, 16), np.uint16))
    opened.close()


def test_other_processes_build_on_loans(vault: vv.Vault) -> None:
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        made = vault.select("Modality = 'CT'").cache(dtype="int16", executor=pool, progress=False)
    assert made.built == 4
    assert [info.stale for info in vault.caches()] == [0]
    series_id = made.series_ids[0]
    elsewhere, affine = made.load(series_id)
    vault.evict(everything=True)
    here, same = cache(vault, dtype="int16").load(series_id)
    assert np.array_equal(elsewhere, here)
    assert np.array_equal(affine, same)


def test_two_builds_at_once_make_one_set_of_copies(vault: vv.Vault, tmp_path: Path) -> None:
    old = {entry.ref.object_id for several in cache(vault).copies.values() for entry in several}
    for seed in range(2):
        more = synthetic.ct_series(7, 20, 16, seed=seed, attributes=person(f"P{seed}"))[5:]
        ingest(vault, tmp_path / f"more-{seed}", *more)
    a, b = tmp_path / "a", tmp_path / "b"
    with ProcessPoolExecutor(2, mp_context=multiprocessing.get_context("spawn")) as pool:
        builds = [pool.submit(build_together, vault.path, *files) for files in ((a, b), (b, a))]
        told = [build.result() for build in builds]
    assert [(size, refused) for size, _, _, refused in told] == [(4, 0)] * 2
    assert sum(built for _, built, _, _ in told) == 2
    assert all(built + kept == 4 for _, built, kept, _ in told)
    left = entries(vault.resources)
    assert sorted(entry.series_id for entry in left) == sorted(vault.select("Modality = 'CT'").series_ids)
    assert {name[-32:] for name in names(vault)} == {entry.ref.object_id for entry in left}
    assert len({entry.ref.object_id for entry in left} & old) == 2
    assert cache(vault).kept == 4
    assert vault.verify(progress=False).ok


def test_a_label_that_nobody_has_is_refused(vault: vv.Vault) -> None:
    with pytest.raises(UsageError, match="none of these series has a segment 'Tumor'"):
        cache(vault, masks="Tumor")
    assert not vault.caches()
