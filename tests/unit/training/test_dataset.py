"""Data sets: what samples hold, in the vault's process and in others, and what their pickle gives away."""

from __future__ import annotations

import multiprocessing
import os
import pickle
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from typing import Any

import cloudpickle
import numpy as np
import pytest
import training_support as support

import voxelvault as vv
from voxelvault.errors import NoPixels, PolicyDenied, StackChoiceNeeded, UsageError
from voxelvault.testing import synthetic
from voxelvault.training.dataset import Dataset, Draw, stacked
from voxelvault.training.fitting import PaddedPatches
from voxelvault.training.making import Request, make_dataset
from voxelvault.training.plan import Wish

Make = Callable[..., Dataset]


@pytest.fixture(scope="module")
def worker() -> Iterator[ProcessPoolExecutor]:
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as executor:
        yield executor


def test_a_volume_is_what_load_gives(dataset: Make, vault: vv.Vault, rows: list[dict[str, Any]]) -> None:
    samples = dataset()
    assert len(samples) == 4
    for sample, row in zip(samples, [row for row in rows if row["Modality"] == "CT"], strict=True):
        with vault.series(row["SeriesInstanceUID"]) as series:
            assert (sample["image"][0] == series.load()).all()
            # Index (slice, row, column) of the sample, (column, row, slice) of the series: the same mm.
            assert np.allclose(sample["affine_ras"] @ [1, 2, 3, 1], series.affine_ras @ [3, 2, 1, 1])
        assert sample["image"].dtype == np.float32
        assert (sample["id"], sample["subject"]) == (row["series_id"], row["subject_id"])
        assert "label" not in sample


def test_slices_lie_where_the_volume_has_them(dataset: Make) -> None:
    volumes, slices = dataset(), dataset(kind="slices")
    assert len(slices) == 4 * 6
    whole, single = volumes[1], slices[6 + 4]
    assert single["image"].shape == (1, 24, 20)
    assert (single["image"] == whole["image"][:, 4]).all()
    assert (single["slice"], single["id"]) == (4, whole["id"])
    assert np.allclose(single["affine_ras"] @ [5, 7, 0, 1], whole["affine_ras"] @ [4, 5, 7, 1])
    assert np.allclose(single["affine_ras"] @ [5, 7, 1, 1], whole["affine_ras"] @ [5, 5, 7, 1])


@pytest.mark.parametrize("memory", [0, 1 << 20])
def test_patches_are_boxes_of_the_volume(dataset: Make, memory: int) -> None:
    volumes = dataset()
    patches = dataset(kind="patches", patch_size=(3, 8, 9), patches_per_volume=5, seed=3, memory=memory)
    assert len(patches) == 20
    for number, patch in enumerate(patches):
        volume = volumes[number // 5]
        moved = np.linalg.inv(volume["affine_ras"]) @ patch["affine_ras"]
        at = np.rint(moved[:3, 3]).astype(int)
        a, b, c = (slice(first, first + size) for first, size in zip(at, (3, 8, 9), strict=True))
        assert (patch["image"] == volume["image"][:, a, b, c]).all()


def test_patches_larger_than_the_volume_are_filled_with_air(dataset: Make) -> None:
    with pytest.warns(PaddedPatches, match="4 of 4 volumes are smaller"):
        patch = dataset(kind="patches", patch_size=(8, 24, 20))[0]
    assert patch["image"].shape == (1, 8, 24, 20)
    assert (patch["image"][0, [0, 7]] == -1024).all()
    with pytest.warns(PaddedPatches):
        pet = dataset("PT", kind="patches", patch_size=(6, 10, 12))[0]
    assert (pet["image"][0, [0, 5]] == 0).all()


def test_masks_come_along_and_balanced_patches_find_them(dataset: Make) -> None:
    sample = dataset(masks=["lesion", "bleed"])[0]
    assert (sample["mask"].dtype, sample["mask"].shape) == (np.uint8, (1, 6, 24, 20))
    assert (sample["mask"][0, 2, 5, 7], sample["mask"][0, 4, 21, 4]) == (1, 2)
    assert np.count_nonzero(sample["mask"]) == 5
    single = dataset(kind="slices", masks="bleed")[4]
    assert np.count_nonzero(single["mask"]) == 4
    wish = {
        "kind": "patches",
        "patch_size": (3, 5, 5),
        "patches_per_volume": 10,
        "masks": ["lesion", "bleed"],
    }
    balanced = dataset(**wish, sampling="balanced", foreground=1.0)
    assert all(patch["mask"].any() for patch in balanced)
    assert {1, 2} <= {int(patch["mask"].max()) for patch in balanced}
    assert not all(patch["mask"].any() for patch in dataset(**wish))
    with pytest.raises(UsageError, match="masks="):
        dataset(kind="patches", sampling="balanced", patch_size=(3, 5, 5))


def test_series_without_the_label_are_refused_or_background(
    dataset: Make, rows: list[dict[str, Any]]
) -> None:
    with pytest.raises(UsageError, match="none of these series has a segment 'liver'"):
        dataset(masks="liver")
    groups = [(row["series_id"], {"image": row["series_id"]}) for row in rows if row["Modality"] != "SEG"]
    with pytest.raises(UsageError, match="4 of 8 series have none of these labels"):
        dataset(groups=groups, masks="lesion")
    samples = list(dataset(groups=groups, masks="lesion", unmasked="background"))
    assert [int(sample["mask"].sum()) for sample in samples] == [1, 0] * 4
    assert all(sample["mask"].shape == sample["image"].shape for sample in samples)


def test_labels_by_series_and_by_slice(dataset: Make, rows: list[dict[str, Any]]) -> None:
    grades = {row["series_id"]: number for number, row in enumerate(rows)}
    samples = dataset(labels=lambda series_id, _: {"grade": grades[series_id]})
    assert [sample["label"] for sample in samples] == [grades[sample["id"]] for sample in samples]
    both = dataset(labels=lambda series_id, _: {"grade": grades[series_id], "age": 1.5})
    assert both[0]["label"] == {"grade": grades[both[0]["id"]], "age": 1.5}
    assert dataset(labels=lambda *_: {"grade": 3, "age": 1.5}, label="age")[0]["label"] == 1.5
    seen: list[str | None] = []

    def by_slice(_: str, instance_id: str | None) -> dict[str, Any]:
        seen.append(instance_id)
        return {"bleeding": len(seen) % 2 == 0}

    slices = dataset(kind="slices", labels=by_slice)
    assert len(set(seen)) == 24
    assert [sample["label"] for sample in slices] == [False, True] * 12


def test_missing_labels_are_counted(dataset: Make, rows: list[dict[str, Any]]) -> None:
    first = next(row["series_id"] for row in rows if row["Modality"] == "CT")
    with pytest.raises(UsageError, match="3 of 4 series have no label"):
        dataset(labels=lambda series_id, _: {"grade": 1} if series_id == first else {})
    advice = r"with_labels\(..., columns=\['grade'\], missing='drop'\)"
    with pytest.raises(UsageError, match=advice):
        dataset(labels=lambda key, _: {"age": 3} | ({"grade": 1} if key == first else {}), label="grade")
    without = dataset(labels=lambda key, _: {"grade": 1} if key == first else {}, label=[])
    assert all("label" not in sample for sample in without)
    with pytest.raises(UsageError, match="no label column 'grad'"):
        dataset(labels=lambda *_: {"grade": 1}, label="grad")


def test_series_of_a_study_make_one_sample(dataset: Make, rows: list[dict[str, Any]]) -> None:
    groups = []
    for study in dict.fromkeys(row["study_id"] for row in rows):
        own = {row["Modality"]: row["series_id"] for row in rows if row["study_id"] == study}
        groups.append((study, {"ct": own["CT"], "pet": own["PT"]}))
    sample = dataset(groups=groups)[0]
    assert (sample["ct"].shape, sample["pet"].shape) == ((1, 6, 24, 20), (1, 4, 10, 12))
    assert set(sample["affine_ras"]) == {"ct", "pet"}
    assert sample["id"] == groups[0][0]


def test_uneven_series_come_on_an_even_grid(vault: vv.Vault, tmp_path: Any, monkeypatch: Any) -> None:
    monkeypatch.setenv("VOXELVAULT_CONFIG_HOME", str(tmp_path / "configuration"))
    with vv.create(tmp_path / "vault", codec="fast") as other:
        point = (-8.0, -7.0, 14.0)
        files = synthetic.ct_series(6, 24, 30, uneven=[3, 6, 3, 3, 6], marker=point)
        for number, data in enumerate(files):
            (tmp_path / f"{number}.dcm").write_bytes(data)
        other.ingest(*tmp_path.glob("*.dcm"), progress=False)
        series_id = other.resources.catalog.query("select series_id from series").to_pylist()[0]["series_id"]
        request = Request([(series_id, {"image": series_id})], lambda *_: {})
        with make_dataset(other.resources, Wish(), request) as samples:
            sample = samples[0]
        assert sample["image"].shape == (1, 8, 24, 30)
        at = np.unravel_index(int(sample["image"].argmax()), sample["image"].shape)[1:]
        place = sample["affine_ras"] @ [*at, 1]
        assert np.abs(place[:3] - [8, 7, 14]).max() < 0.5
        with make_dataset(other.resources, Wish(kind="slices"), request) as slices:
            assert len(slices) == 6
            last = slices[5]
        assert np.allclose((last["affine_ras"] @ [0, 0, 0, 1])[:3], [20, 15, 26])


def test_several_stacks_ask_for_one(vault: vv.Vault, tmp_path: Any, monkeypatch: Any) -> None:
    monkeypatch.setenv("VOXELVAULT_CONFIG_HOME", str(tmp_path / "configuration"))
    with vv.create(tmp_path / "vault", codec="fast") as other:
        files = synthetic.ct_series(3, 8, 8) + synthetic.ct_series(9, 16, 8)[5:]
        for number, data in enumerate(files):
            (tmp_path / f"{number}.dcm").write_bytes(data)
        other.ingest(*tmp_path.glob("*.dcm"), progress=False)
        series_id = other.resources.catalog.query("select series_id from series").to_pylist()[0]["series_id"]
        request = Request([(series_id, {"image": series_id})], lambda *_: {})
        named = pytest.raises(StackChoiceNeeded, match=f"^series {series_id} has several stacks; pass stack=")
        with make_dataset(other.resources, Wish(), request) as samples, named:
            samples[0]
        with named:
            make_dataset(other.resources, Wish(kind="slices"), request)
        with named:
            other.select().to_dask()
        with make_dataset(other.resources, Wish(stack=1), request) as samples:
            assert samples[0]["image"].shape == (1, 3, 8, 8)


def test_series_without_pixels_are_told_before_anything_is_read(tmp_path: Any, monkeypatch: Any) -> None:
    monkeypatch.setenv("VOXELVAULT_CONFIG_HOME", str(tmp_path / "configuration"))
    with vv.create(tmp_path / "vault", codec="fast") as other:
        for number, data in enumerate([*synthetic.ct_series(3, 8, 8), synthetic.structured_report()]):
            (tmp_path / f"{number}.dcm").write_bytes(data)
        other.ingest(*tmp_path.glob("*.dcm"), progress=False)
        every = other.select()
        for kind in ("volumes", "patches", "slices"):
            with pytest.raises(NoPixels, match="1 of 2 series have no pixels that can be decoded"):
                every.dataset(kind, patch_size=2)
        assert len(every.where("frame_count > 0").dataset("slices")) == 3


def test_epochs_differ_and_repeat(dataset: Make) -> None:
    def images(patches: Dataset) -> bytes:
        return b"".join(patch["affine_ras"].tobytes() for patch in patches)

    wish = {"kind": "patches", "patch_size": (2, 3, 3), "patches_per_volume": 3}
    patches = dataset(**wish)
    first = images(patches)
    patches.set_epoch(1)
    assert images(patches) != first
    assert patches[Draw(0, 2)]["affine_ras"].tobytes() == dataset(**wish)[2]["affine_ras"].tobytes()
    assert images(dataset(**wish)) == first
    assert images(dataset(**wish, seed=1)) != first


def test_another_process_gives_the_same_samples(dataset: Make, worker: ProcessPoolExecutor) -> None:
    wish = {"kind": "patches", "patch_size": (2, 3, 3), "masks": ["lesion", "bleed"], "sampling": "balanced"}
    patches = dataset(**wish, transform=lambda sample: sample | {"noise": np.random.rand()})
    there = worker.submit(support.samples, cloudpickle.dumps(patches), range(4)).result()
    for sample, own in zip(there, patches, strict=True):
        assert (sample["image"] == own["image"]).all()
        assert (sample["mask"] == own["mask"]).all()
        assert sample["noise"] == own["noise"]


def test_a_worker_stays_light(dataset: Make, worker: ProcessPoolExecutor) -> None:
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as fresh:
        assert fresh.submit(support.modules, pickle.dumps(dataset())).result() == []


def test_the_pickle_gives_nothing_away(dataset: Make, vault: vv.Vault, rows: list[dict[str, Any]]) -> None:
    samples = dataset(masks="lesion", labels=lambda *_: {"secretgrade": "secretvalue"})
    packed = pickle.dumps(samples)
    assert len(packed) < 200_000
    uids = [row[name] for row in rows for name in ("SeriesInstanceUID", "StudyInstanceUID")]
    for word in [*synthetic.PLANTED, *uids, "PERSON-1", "secretgrade", "secretvalue", "lesion"]:
        assert str(word).encode() not in packed
    loan = samples._supply.loan().open()
    keys = loan._grant.keys.values()
    assert keys
    assert not [key for key in keys if key in packed or key.hex().encode() in packed]
    assert repr(samples) == "<Dataset: 4 volumes of 4 series>"


def test_one_entry_opens_a_data_set_and_one_closes_it(vault: vv.Vault, dataset: Make) -> None:
    def entries() -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = vault.sql("select * from audit").arrow().to_pylist()
        return [entry for entry in found if entry["kind"].startswith("handle.")]

    before = len(entries())
    samples = dataset(kind="slices")
    pickle.dumps(samples)
    assert len(entries()) == before + 1
    list(samples)
    samples.close()
    assert len(entries()) == before + 2
    with pytest.raises(PolicyDenied):
        samples[0]


def test_a_forked_child_is_refused(dataset: Make) -> None:
    samples = dataset()
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            samples[0]
        except BaseException as error:
            os.write(write, f"{type(error).__name__}: {error}".encode())
        os._exit(0)
    os.waitpid(child, 0)
    said = os.read(read, 1000).decode()
    assert said.startswith("ForkedProcess")
    assert "cohort.loader" in said


def test_wrong_wishes_are_refused(dataset: Make) -> None:
    for wish in (
        {"kind": "volume"},
        {"sampling": "even"},
        {"patch_size": (3, 3)},
        {"patches_per_volume": 0},
        {"arrays": "jax"},
        {"groups": []},
    ):
        with pytest.raises(UsageError):
            dataset(**wish)
    with pytest.raises(IndexError):
        dataset()[4]
    assert dataset()[-1]["id"] == dataset()[3]["id"]


def test_a_transform_that_cannot_travel_says_so(dataset: Make) -> None:
    lock = __import__("threading").Lock()
    samples = dataset(transform=lambda sample: (lock, sample)[1])
    assert samples[0]["image"].any()
    with pytest.raises(UsageError, match="num_workers=0"):
        pickle.dumps(samples)


def test_numpy_batches(dataset: Make) -> None:
    batch = stacked([dataset()[0], dataset()[1]])
    assert batch["image"].shape == (2, 1, 6, 24, 20)
    assert len(batch["id"]) == 2


@pytest.mark.parametrize("size", [(32.0, 32, 32), (32, 32), 0])
def test_a_patch_is_three_whole_numbers(size: object) -> None:
    with pytest.raises(UsageError, match="three whole numbers"):
        Wish(kind="patches", patch_size=(size,) * 3 if isinstance(size, int) else size)  # type: ignore[arg-type]
