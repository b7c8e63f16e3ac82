"""Copies that go, age or change while something is done with them."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from derived_support import cache, ingest, person

import voxelvault as vv
from voxelvault.derived import building, making
from voxelvault.derived.cache import find_cache
from voxelvault.derived.recipe import recipe
from voxelvault.derived.shelf import entries, touch
from voxelvault.errors import NoSpace, ObjectMissing, UsageError
from voxelvault.intake.directory import utc_now
from voxelvault.rows import changes
from voxelvault.testing import synthetic
from voxelvault.testing.synthetic_segmentation import segmentation_of
from voxelvault.testing.synthetic_series import slice_positions


def age(vault: vv.Vault, days: float = 3) -> None:
    """Make all copies last used so many days ago."""
    used = utc_now() - timedelta(days=days)
    rows = [{"derived_id": entry.derived_id, "used": used} for entry in entries(vault.resources)]
    vault.resources.catalog.commit(changes("derived", rows, "merge"))


@contextmanager
def held(vault: vv.Vault) -> Iterator[None]:
    """Somebody else writes to the catalog."""
    taken, done = threading.Event(), threading.Event()

    def hold() -> None:
        with vv.open(vault.path) as other, other.resources.catalog.lease():
            taken.set()
            done.wait(30)

    thread = threading.Thread(target=hold)
    thread.start()
    assert taken.wait(30)
    try:
        yield
    finally:
        done.set()
        thread.join()


def lesion(files: list[bytes], rows: slice, **how: Any) -> bytes:
    pixels = np.zeros((5, 20, 16), bool)
    pixels[1:3, rows, 4:9] = True
    where = {"orientation": (1, 0, 0, 0, 1, 0), "spacing": (0.8, 0.6), "on": files, "seed": 7}
    return segmentation_of(pixels, slice_positions(5), **where, **how)


def test_copies_that_were_evicted_meanwhile_stay_away(vault: vv.Vault) -> None:
    cache(vault)
    age(vault)
    found = entries(vault.resources)
    vault.evict(everything=True)
    touch(vault.resources, found)
    assert vault.resources.catalog.query("select * from derived").num_rows == 0
    assert vault.caches() == []


def test_a_row_without_an_object_is_passed_over_and_evicted(vault: vv.Vault) -> None:
    made = cache(vault)
    rows = [{"derived_id": "f" * 32, "used": utc_now()}]
    vault.resources.catalog.commit(changes("derived", rows, "merge"))
    assert [info.series for info in vault.caches()] == [4]
    assert vault.evict(everything=True).copies == len(made)
    assert vault.resources.catalog.query("select * from derived").num_rows == 0


def test_the_longest_unused_goes_first_within_a_day(vault: vv.Vault) -> None:
    first, second = cache(vault), cache(vault, dtype="int16")
    age(vault, days=0.01)
    find_cache(vault.resources, first.series_ids, first.recipe)
    assert vault.evict(limit_bytes=first.nbytes).copies == len(second)
    assert [info.recipe_sha256 for info in vault.caches()] == [first.recipe.sha256]


def test_use_is_noted_now_and_then_and_entered_in_the_log(vault: vv.Vault) -> None:
    made = cache(vault)
    before = vault.resources.catalog.head()
    find_cache(vault.resources, made.series_ids, made.recipe)
    assert vault.resources.catalog.head() == before
    age(vault)
    find_cache(vault.resources, made.series_ids, made.recipe)
    assert vault.caches()[0].used > utc_now() - timedelta(hours=1)
    digest = vault.resources.catalog.head().digest
    assert digest in str(list(vault.resources.audit.entries())[-1])


def test_looking_up_a_cache_waits_for_no_writer(vault: vv.Vault) -> None:
    made = cache(vault)
    age(vault)
    with held(vault):
        began = utc_now()
        assert len(find_cache(vault.resources, made.series_ids, made.recipe)) == 4
        assert utc_now() - began < timedelta(seconds=10)


def test_looking_up_a_cache_needs_no_room(vault: vv.Vault, monkeypatch: pytest.MonkeyPatch) -> None:
    made = cache(vault)
    age(vault)

    def full(*_: Any, **__: Any) -> Any:
        raise NoSpace("the vault's disk is full: free some space, then run again")

    for name in ("lease", "commit"):
        monkeypatch.setattr(type(vault.resources.catalog), name, full)
    assert len(find_cache(vault.resources, made.series_ids, made.recipe)) == 4


def test_a_corrected_segmentation_makes_masks_stale(vault: vv.Vault, tmp_path: Path) -> None:
    files = synthetic.ct_series(5, 20, 16, seed=7)
    ingest(vault, tmp_path / "seg", *files, lesion(files, slice(6, 12)))
    made = cache(vault, spacing=None, masks="lesion")
    assert [info.stale for info in vault.caches()] == [0]
    ingest(vault, tmp_path / "corrected", lesion(files, slice(2, 4)))
    assert [info.stale for info in vault.caches()] == [1]
    assert vault.evict(stale=True).copies == 2
    assert len(find_cache(vault.resources, made.series_ids, made.recipe)) == 4
    assert [info.stale for info in vault.caches()] == [0]


def test_whole_numbers_are_kept_for_what_has_them(vault: vv.Vault, tmp_path: Path) -> None:
    ingest(vault, tmp_path / "pet", *synthetic.pet_series(5, 16, 16, seed=8))
    pet = vault.select("Modality = 'PT'")
    for dtype in ("int16", "uint8"):
        with pytest.raises(UsageError, match="float32"):
            pet.cache(units="suvbw", dtype=dtype, progress=False)
    kept = pet.cache(units="suvbw", dtype="float16", spacing=None, orientation=None, progress=False)
    (series_id,) = kept.series_ids
    (series,) = pet
    assert np.allclose(kept.load(series_id)[0], series.load(units="suvbw"), rtol=1e-3)


def test_evicted_copies_say_so(vault: vv.Vault) -> None:
    made = cache(vault)
    vault.evict(everything=True)
    with pytest.raises(ObjectMissing, match=r"evicted; build the cache again"):
        made.load(made.series_ids[0])


def test_slices_fall_back_to_the_frames_themselves(vault: vv.Vault) -> None:
    selected = vault.select("Modality = 'CT'")
    with selected.dataset("slices") as plain:
        want = [plain[0]["image"], plain[5]["image"]]
    cache(vault, codec="fast")
    dataset = selected.dataset("slices")
    first = dataset[0]["image"]
    vault.evict(everything=True)
    assert np.array_equal(first, want[0])
    assert np.array_equal(dataset[1]["image"].shape, first.shape)
    assert np.array_equal(dataset[5]["image"], want[1])
    dataset.close()


def test_a_series_that_grows_during_a_build_is_named(
    vault: vv.Vault, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    more, grown = synthetic.ct_series(7, 20, 16, seed=1, attributes=person("P1"))[5:], []

    def grow(*arguments: Any) -> Any:
        if not grown:
            grown.append(1)
            ingest(vault, tmp_path / "more", *more)
        return making.attempt(*arguments)

    vault.options.threads = 1
    monkeypatch.setattr(building, "attempt", grow)
    made = cache(vault)
    assert (len(made), made.built, made.kept) == (3, 3, 0)
    assert list(made.refused.values()) == ["changed while it was built; run again"]
    assert cache(vault).built == 1


def test_a_build_opens_images_and_masks_under_one_handle(vault: vv.Vault, tmp_path: Path) -> None:
    files = synthetic.ct_series(5, 20, 16, seed=7)
    ingest(vault, tmp_path / "seg", *files, lesion(files, slice(6, 12)))
    cache(vault, masks="lesion")
    opened = vault.sql("select count(*) from audit where kind = 'handle.opened'").fetchall()
    assert opened == [(1,)]
    seg = vault.sql("select series_id from series where Modality = 'SEG'").fetchall()[0][0]
    assert seg in str([entry for entry in vault.resources.audit.entries() if "handle.opened" in str(entry)])


def test_recipes_refuse_what_can_not_be_kept() -> None:
    assert len(recipe(masks=[f"label {number}" for number in range(255)]).masks) == 255
    with pytest.raises(UsageError, match="255"):
        recipe(masks=[f"label {number}" for number in range(256)])
    for dtype, fill in (
        ("int16", 40000),
        ("uint8", -1024),
        ("int16", 0.5),
        ("float16", 1e5),
        ("float32", 1e39),
    ):
        with pytest.raises(UsageError, match="fill="):
            recipe(dtype=dtype, fill=fill)
    assert recipe(dtype="float16", fill=0.5).fill == 0.5
