"""What a selection offers for training, through public names: caches, parts, studies, plain iteration."""

from __future__ import annotations

import pickle
from typing import Any

import numpy as np
import pandas as pd
import pytest

import voxelvault as vv
from voxelvault.derived.recipe import recipe
from voxelvault.errors import MissingExtra, UsageError
from voxelvault.training import samples as room
from voxelvault.training.fitting import PaddedPatches

SPACING = (0.8, 0.8, 2.0)


@pytest.fixture(scope="module")
def heads(vault: vv.Vault) -> Any:
    return vault.select("Modality = 'CT'")


def test_patches_of_a_cache_are_boxes_of_its_volumes(heads: Any) -> None:
    cache = heads.cache(SPACING, "RAS", dtype="int16", chunks=8, masks=["lesion", "bleed"], progress=False)
    box = (7, 9, 4)
    with (
        heads.dataset(cache=cache) as volumes,
        heads.dataset("patches", cache=cache, patch_size=box) as small,
    ):
        volume, patch = volumes[2], small[2]
        values, affine = cache.load(volume["id"])
        assert volume["image"].dtype == np.float32
        assert (volume["image"][0] == values).all()
        assert np.allclose(volume["affine_ras"], affine)
        assert (volume["mask"][0] == cache.load(volume["id"], mask=True)[0]).all()
        assert volume["mask"].max() == 2
        at = np.rint((np.linalg.inv(affine) @ patch["affine_ras"])[:3, 3]).astype(int)
        a, b, c = (slice(first, first + size) for first, size in zip(at, box, strict=True))
        assert (patch["image"][0] == values[a, b, c]).all()
        assert patch["mask"].shape == (1, *box)
        # Pickled, opened from the loan: the bricks' keys came along, no pack's did.
        again = pickle.loads(pickle.dumps(small))
        assert (again[2]["image"] == patch["image"]).all()
        assert set(small._supply.loan().open()._grant.keys) == set(cache.deks())
    with heads.dataset(
        "patches", cache=cache, patch_size=(5, 5, 3), sampling="balanced", foreground=1
    ) as drawn:
        assert all(patch["mask"].any() for patch in drawn)


def test_some_masks_of_a_cache_in_the_order_asked_for(heads: Any) -> None:
    both = heads.cache(None, "RAS", dtype="int16", masks=["lesion", "bleed"], progress=False)
    for asked in ("bleed", ("bleed", "lesion"), ["Lesion"]):
        alone = heads.cache(None, "RAS", dtype="int16", masks=asked, progress=False)
        with heads.dataset(cache=both, masks=asked) as some, heads.dataset(cache=alone) as want:
            assert [sample["mask"].max() for sample in some] == [2 if len(asked) == 2 else 1] * 4
            for sample, other in zip(some, want, strict=True):
                assert (sample["mask"] == other["mask"]).all()
            again = pickle.loads(pickle.dumps(some))
            assert (again[1]["mask"] == want[1]["mask"]).all()
    drawn = heads.dataset(
        "patches", cache=both, masks="bleed", patch_size=(5, 5, 3), sampling="balanced", foreground=1
    )
    with drawn:
        assert all((patch["mask"] == 1).any() for patch in drawn)
    for asked, told in (("tumor", "'tumor'; it was built with 'lesion', 'bleed'"), (["bleed"] * 2, "once")):
        with pytest.raises(UsageError, match=told):
            heads.dataset(cache=both, masks=asked)


def test_a_recipe_finds_what_was_built(heads: Any, vault: vv.Vault) -> None:
    heads.cache(SPACING, "RAS", dtype="int16", chunks=8, progress=False)
    with heads.dataset(cache=recipe(SPACING, "RAS", "int16", 8)) as found:
        assert len(found) == 4
        assert "mask" not in found[0]
    with pytest.raises(UsageError, match="4 of 8 series are not in this cache"):
        vault.select("Modality in ('CT', 'PT')").dataset(cache=recipe(SPACING, "RAS", "int16", 8))
    with pytest.raises(UsageError, match="slices are read from frames"):
        heads.dataset("slices", cache=recipe(SPACING, "RAS", "int16", 8))
    with pytest.raises(UsageError, match="the cache has no mask 'lesion'; it was built with none"):
        heads.dataset(cache=recipe(SPACING, "RAS", "int16", 8), masks="lesion")
    with pytest.raises(UsageError, match="cache= takes"):
        heads.dataset(cache="fast")


def test_fast_copies_of_frames_are_read_where_there_are_any(vault: vv.Vault) -> None:
    pets = vault.select("Modality = 'PT'")
    with pets.dataset("slices") as plain:
        expected = [sample["image"] for sample in plain]
        assert not plain._supply._place.keys
    pets.cache_frames("zstd", progress=False)
    with pets.dataset("slices") as copied:
        assert len(copied._supply._place.keys) == 4
        for sample, want in zip(copied, expected, strict=True):
            assert (sample["image"] == want).all()
        again = pickle.loads(pickle.dumps(copied))
        assert (again[5]["image"] == expected[5]).all()


def test_labels_of_a_frozen_cohort_and_its_parts(heads: Any, rows: list[dict[str, Any]]) -> None:
    own = [row for row in rows if row["Modality"] == "CT"]
    table = pd.DataFrame(
        {"SeriesInstanceUID": [row["SeriesInstanceUID"] for row in own], "grade": [0, 1, 0, 1]}
    )
    cohort = heads.with_labels(table).freeze("graded")
    want = {row["series_id"]: grade for row, grade in zip(own, [0, 1, 0, 1], strict=True)}
    train, test = cohort.split(train=0.5, test=0.5, stratify="grade")
    with train.dataset() as first, test.dataset("slices") as second:
        assert {sample["id"]: sample["label"] for sample in first}.items() <= want.items()
        assert {sample["label"] for sample in second} == {0, 1}
        assert not {sample["subject"] for sample in first} & {sample["subject"] for sample in second}


def test_series_of_a_study_by_modality_or_condition(vault: vv.Vault) -> None:
    both = vault.select("Modality in ('CT', 'PT')")
    with both.dataset(group="study") as studies:
        assert len(studies) == 4
        assert {"ct", "pt"} <= set(studies[0])
    roles = {"anatomy": "Modality = 'CT'", "uptake": "Modality = 'PT'"}
    with both.dataset(roles=roles, masks="lesion") as studies:
        sample = studies[3]
        assert sample["anatomy"].shape == sample["mask"].shape == (1, 6, 24, 20)
        assert set(sample["affine_ras"]) == {"anatomy", "uptake"}
    with pytest.raises(UsageError, match="4 of 4 studies have several series for 'any'"):
        both.dataset(roles={"any": "true"})
    with pytest.raises(UsageError, match="4 of 4 studies have no series for 'mr'"):
        both.dataset(roles={"mr": "Modality = 'MR'"})
    with pytest.raises(UsageError, match="own key"):
        both.dataset(roles={"label": "true"})


def test_the_mask_of_a_study_has_the_affine_of_its_first_series(vault: vv.Vault) -> None:
    pytest.importorskip("monai")
    both = vault.select("Modality in ('CT', 'PT')")
    with both.dataset(group="study", masks="lesion", arrays="monai") as studies:
        sample = studies[0]
    assert (sample["mask"].affine == sample["ct"].affine).all()
    assert (sample["mask"].affine != sample["pt"].affine).any()


def test_slices_of_several_series_are_refused(vault: vv.Vault) -> None:
    with pytest.raises(UsageError, match="slices are of one series"):
        vault.select("Modality in ('CT', 'PT')").dataset("slices", group="study")
    with vault.select("Modality = 'CT'").dataset("slices", group="study") as slices:
        assert slices[0]["ct"].shape == (1, 24, 20)


def test_plain_iteration_reads_ahead_in_order(heads: Any) -> None:
    with heads.dataset("slices") as slices:
        expected = list(slices)
    found = list(heads.iterate(kind="slices"))
    assert [sample["id"] for sample in found] == [sample["id"] for sample in expected]
    assert all((a["image"] == b["image"]).all() for a, b in zip(found, expected, strict=True))
    batches = list(heads.iterate(5, kind="slices", shuffle=True, epoch=1))
    assert [len(batch["id"]) for batch in batches] == [5, 5, 5, 5, 4]
    assert sorted(name for batch in batches for name in batch["id"]) == [s["id"] for s in expected]
    stopped = heads.iterate(kind="slices")
    next(stopped)
    stopped.close()


def test_a_loader_of_a_selection(heads: Any) -> None:
    pytest.importorskip("torch")
    with heads.loader(2, transform=lambda sample: sample["image"].mean(), shuffle=True, seed=4) as batches:
        assert [batch.shape[0] for batch in batches] == [2, 2]
    with pytest.raises(ValueError, match="prefetch_factor"):
        heads.loader(prefetch_factor=2)


def test_without_torch_the_extra_is_named(heads: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.delitem(sys.modules, "voxelvault.training.loader", raising=False)
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(MissingExtra, match=r"voxelvault\[train\]"):
        heads.loader()


def test_foreground_is_looked_for_once(heads: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[int] = []
    real = room.foreground_of
    monkeypatch.setattr(room, "foreground_of", lambda *given: (calls.append(1), real(*given))[1])
    options = {"patch_size": (2, 4, 4), "patches_per_volume": 3, "sampling": "balanced", "masks": "bleed"}
    with heads.dataset("patches", **options) as patches:
        list(patches)
    assert len(calls) == 4


def test_an_option_that_nobody_takes_is_refused_with_what_was_meant(heads: Any) -> None:
    for make in (heads.dataset, heads.loader, lambda **wrong: next(heads.iterate(**wrong))):
        with pytest.raises(UsageError, match=r"no option patchsize=; did you mean patch_size=\?") as caught:
            make(patchsize=(8, 8, 8))
        assert "unmasked" in str(caught.value)
        assert "\n" not in str(caught.value)
    with pytest.raises(UsageError, match="did you mean pin_memory=") as caught:
        heads.loader(pin_memry=True)
    assert "DataLoader" in str(caught.value)
    with pytest.raises(UsageError, match=r"no option colour=\. Options: kind"):
        heads.dataset(colour=1)
    with heads.loader(pin_memory=False) as loader:
        assert len(loader) == 4


def test_patches_that_volumes_are_smaller_than_are_told_or_refused(vault: vv.Vault, heads: Any) -> None:
    everyone = vault.select("Modality in ('CT', 'PT')")
    with pytest.warns(
        PaddedPatches, match=r"4 of 8 volumes are smaller .*; the longest are \(6, 24, 20\)"
    ) as told:
        everyone.dataset("patches", patch_size=(5, 8, 8)).close()
    assert [warning.filename for warning in told] == [__file__]
    with pytest.raises(UsageError, match=r"twice as long as every volume.*the longest are \(6, 24, 20\)"):
        everyone.dataset("patches", patch_size=(13, 8, 8))
    cache = heads.cache(SPACING, "RAS", dtype="int16", chunks=8, progress=False)
    long = [2 * length for length in next(iter(cache.copies.values()))[0].layout.shape]
    with (
        pytest.warns(PaddedPatches, match="4 of 4"),
        heads.loader(kind="patches", cache=cache, patch_size=long) as loader,
    ):
        assert next(iter(loader))["image"].shape == (1, 1, *long)
    with pytest.raises(UsageError, match="twice as long"):
        heads.loader(kind="patches", cache=cache, patch_size=[*long[:2], long[2] + 1])
    everyone.dataset("patches", patch_size=(4, 10, 12)).close()
