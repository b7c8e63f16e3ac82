"""The zarr and fsspec faces of an open series give what `load` gives, count it, and end with the handle."""

from __future__ import annotations

import io
import multiprocessing
import pickle
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from typing import Any

import fsspec
import numpy as np
import pydicom
import pytest
import xarray
import zarr

import voxelvault as vv
from voxelvault.errors import PolicyDenied, StackChoiceNeeded, UsageError
from voxelvault.reading.zarr_face import VolumeEntries
from voxelvault.testing import synthetic


@pytest.fixture(scope="module")
def vault(tmp_path_factory: pytest.TempPathFactory) -> Iterator[vv.Vault]:
    root = tmp_path_factory.mktemp("zarr-face")
    halves = MADE["halves"]
    batches = {
        "first": [data for name, files in MADE.items() if name != "halves" for data in files]
        + [*halves[1::2]],
        "later": halves[::2],
    }
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("VOXELVAULT_CONFIG_HOME", str(root / "configuration"))
        with vv.create(root / "vault", codec="fast") as made:
            for name, files in batches.items():
                (root / name).mkdir()
                for number, data in enumerate(files):
                    (root / name / f"{number}.dcm").write_bytes(data)
                assert not made.ingest(root / name, progress=False).quarantined
            yield made


MADE: dict[str, Sequence[bytes]] = {
    "CT": synthetic.ct_series(6, 24, 20),
    "MR": synthetic.mr_series(3, 16, 16),
    "PT": synthetic.pet_series(3),
    "echoes": synthetic.mr_series(3, 16, 16, echoes=(20.0, 35.0), seed=5),
    "OT": [synthetic.colour()],
    "SR": [synthetic.structured_report()],
    "halves": synthetic.ct_series(8, 16, 16, seed=7, series=9),
}


@pytest.fixture(scope="module")
def uids() -> dict[str, str]:
    """SeriesInstanceUID by name."""
    return {
        name: str(pydicom.dcmread(io.BytesIO(files[0])).SeriesInstanceUID) for name, files in MADE.items()
    }


def by_store(series: Any) -> xarray.Dataset:
    return xarray.open_zarr(series.store)


def by_mapping(series: Any) -> xarray.Dataset:
    return xarray.open_zarr(series.filesystem.get_mapper())


@pytest.mark.parametrize("modality", ["CT", "MR", "PT"])
@pytest.mark.parametrize("opened", [by_store, by_mapping])
def test_xarray_sees_what_load_gives(
    vault: vv.Vault, uids: dict[str, str], modality: str, opened: Callable[[Any], xarray.Dataset]
) -> None:
    with vault.series(uids[modality]) as series:
        found = opened(series)
        assert found["volume"].dims == ("slice", "row", "column")
        np.testing.assert_array_equal(found["volume"].to_numpy(), series.load())
        np.testing.assert_array_equal(found["volume"].attrs["affine_ras"], series.affine_ras)
        assert found["volume"].attrs["units"] == series.unit()
        positions = np.stack([found[f"position_{axis}"] for axis in "xyz"], axis=1)
        np.testing.assert_array_equal(positions, series.geometry().positions)
        np.testing.assert_array_equal(found["volume"][2, 3:9].to_numpy(), series.load()[2, 3:9])


def test_an_array_has_a_slice_a_chunk_and_stored_values_on_request(
    vault: vv.Vault, uids: dict[str, str]
) -> None:
    with vault.series(uids["CT"]) as series:
        array = series.zarr()
        assert (array.shape, array.chunks, array.dtype) == ((6, 24, 20), (1, 24, 20), np.float32)
        np.testing.assert_array_equal(array[...], series.load())
        stored = series.zarr(units="stored")
        assert stored.dtype == np.uint16
        np.testing.assert_array_equal(stored[...], series.load(units="stored"))


def test_only_the_slices_asked_for_are_read_and_counted(vault: vv.Vault, uids: dict[str, str]) -> None:
    with vault.series(uids["CT"]) as series:
        array = series.zarr()
        assert series.handle.frames == 0
        array[2:4]
        assert (series.handle.frames, series.handle.bytes) == (2, 2 * 24 * 20 * 4)
        series.filesystem.cat_file("volume/c/5/0/0")
        assert series.handle.frames == 3
    entry = vault.audit.log()[-1]
    assert (entry.kind, entry.counts["frames"]) == ("handle.closed", 3)


def test_nothing_is_read_after_closing(vault: vv.Vault, uids: dict[str, str]) -> None:
    series = vault.series(uids["CT"])
    array, dataset, files = series.zarr(), xarray.open_zarr(series.store), series.filesystem
    series.close()
    for read in (
        lambda: array[0],
        lambda: dataset["volume"][0].to_numpy(),
        lambda: files.cat_file("volume/c/0/0/0"),
        lambda: files.cat_file("zarr.json"),
        series.zarr,
    ):
        with pytest.raises(PolicyDenied, match="closed"):
            read()


def test_several_volumes_are_groups(vault: vv.Vault, uids: dict[str, str]) -> None:
    several = vault.series(uids["echoes"])
    with pytest.raises(StackChoiceNeeded):
        several.zarr()
    tree = xarray.open_datatree(several.store, engine="zarr")
    for number, label in enumerate(several.stacks):
        expected = several.load(number)
        np.testing.assert_array_equal(several.zarr(label)[...], expected)
        np.testing.assert_array_equal(tree[f"{number}/volume"].to_numpy(), expected)
        dataset = xarray.open_zarr(several.store, group=str(number))
        np.testing.assert_array_equal(dataset["volume"].to_numpy(), expected)
        assert dataset["volume"].attrs["stack"] == label


def test_halves_that_came_apart_are_one_array_in_order_of_space(
    vault: vv.Vault, uids: dict[str, str]
) -> None:
    packs = vault.resources.catalog.query(
        "select SeriesInstanceUID as uid, count(*) as n from packs join series using (series_id) group by 1"
    ).to_pylist()
    assert {row["uid"]: row["n"] for row in packs}[uids["halves"]] == 2
    with vault.series(uids["halves"]) as series:
        found = by_store(series)
        np.testing.assert_array_equal(found["volume"].to_numpy(), series.load())
        assert np.diff(found["position_z"]).min() > 0


def test_colour_has_samples(vault: vv.Vault, uids: dict[str, str]) -> None:
    with vault.series(uids["OT"]) as series:
        found = by_store(series)["volume"]
        assert found.dims == ("slice", "row", "column", "sample")
        np.testing.assert_array_equal(found.to_numpy(), series.load())


def test_a_series_without_images_is_an_empty_group(vault: vv.Vault, uids: dict[str, str]) -> None:
    with vault.series(uids["SR"]) as series:
        assert list(zarr.open_group(series.store, mode="r").members()) == []


def test_every_key_that_is_listed_is_there_and_no_other(vault: vv.Vault, uids: dict[str, str]) -> None:
    with vault.series(uids["CT"]) as series:
        entries = VolumeEntries(series._reader, series._stacks)
        keys = list(entries)
        assert len(keys) == len(set(keys)) == len(entries) == 5 + 6 + 3
        assert all(key in entries for key in keys)
        for key in ("", "volume", "volume/c/6/0/0", "volume/c/00/0/0", "volume/c/0/0", "volume/c/0/0/1"):
            assert key not in entries
        for key in ("volume/c/-1/0/0", "position_x/c/1", "0/volume/c/0/0/0", "volume/c/٣/0/0", "x/zarr.json"):
            assert key not in entries
            with pytest.raises(KeyError):
                entries[key]


def test_nothing_can_be_written(vault: vv.Vault, uids: dict[str, str]) -> None:
    with vault.series(uids["CT"]) as series:
        files = series.filesystem
        with pytest.raises(ValueError, match="read"):
            series.zarr()[0] = 0
        with pytest.raises(UsageError, match="never changed"):
            files.pipe_file("volume/c/0/0/0", b"")
        with pytest.raises(UsageError, match="never changed"):
            files.rm("volume/c/0/0/0")
        with pytest.raises(vv.errors.NoPermission):
            files.open("zarr.json", "wb")


def test_files_list_as_a_file_system_does(vault: vv.Vault, uids: dict[str, str]) -> None:
    with vault.series(uids["CT"]) as series:
        files = series.filesystem
        assert set(files.ls("", detail=False)) == {
            "volume",
            "position_x",
            "position_y",
            "position_z",
            "zarr.json",
        }
        assert files.isdir("volume/c")
        assert files.info("volume/c/0/0/0")["size"] == 24 * 20 * 4
        assert len(files.find("volume")) == 7
        assert files.open("zarr.json").read()[:1] == b"{"
        assert files.cat_file("volume/c/0/0/0", 4, 8) == files.cat_file("volume/c/0/0/0")[4:8]
        with pytest.raises(FileNotFoundError):
            files.cat_file("volume/c/99/0/0")


def test_a_url_leads_to_the_open_series_and_nowhere_later(vault: vv.Vault, uids: dict[str, str]) -> None:
    with vault.series(uids["CT"]) as series:
        files = series.filesystem
        url = files.url
        assert url.startswith("voxelvault://")
        assert not any(uid in url for uid in uids.values())
        found = xarray.open_zarr(fsspec.get_mapper(url))
        np.testing.assert_array_equal(found["volume"].to_numpy(), series.load())
        with fsspec.open(f"{url}/zarr.json") as file:
            assert b"consolidated" in file.read()
    with pytest.raises(PolicyDenied, match="closed"):
        fsspec.get_mapper(url)["zarr.json"]
    del files, found
    with pytest.raises(PolicyDenied, match="no open series"):
        fsspec.get_mapper("voxelvault://0123456789abcdef0123456789abcdef")


def total(store: Any) -> float:
    return float(xarray.open_zarr(store)["volume"].sum())


def test_the_store_travels_to_a_worker_as_a_loan(vault: vv.Vault, uids: dict[str, str]) -> None:
    with vault.series(uids["CT"]) as series:
        pickled = pickle.dumps(series.store)
        assert not any(uid.encode() in pickled for uid in uids.values())
        assert not any(value.encode() in pickled for value in synthetic.PLANTED)
        with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
            assert pool.submit(total, series.store).result() == pytest.approx(series.load().sum(), rel=1e-6)
