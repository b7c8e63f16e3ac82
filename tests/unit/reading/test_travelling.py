"""Series and dask graphs in other processes: they read there what they read here."""

from __future__ import annotations

import multiprocessing
import os
import pickle
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from lending_support import returned, suv, use_series

import voxelvault as vv
from voxelvault.errors import ForkedProcess, PolicyDenied, UsageError
from voxelvault.reading.volumes import VolumeReader
from voxelvault.testing.synthetic import PLANTED


@pytest.fixture(scope="module")
def workers() -> Iterator[ProcessPoolExecutor]:
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as executor:
        yield executor


def test_a_series_reads_alike_in_a_spawned_process(
    vault: vv.Vault, uids: dict[str, str], workers: ProcessPoolExecutor
) -> None:
    series = vault.series(uids["CT"])
    there, here = workers.submit(use_series, series).result(), use_series(series)
    assert there["pid"] != os.getpid()
    for name in ("load", "frame", "volume", "affine"):
        np.testing.assert_array_equal(there[name], here[name])
    for name in ("members", "repr", "header", "unit", "uid"):
        assert there[name] == here[name], name
    assert len(set(there["header"])) == 6
    assert there["catalog"].startswith("UsageError: this series was lent")
    assert there["heavy"] == []


def test_headers_come_out_of_the_packs_in_a_worker(
    vault: vv.Vault, uids: dict[str, str], workers: ProcessPoolExecutor
) -> None:
    series = vault.series(uids["PT"])
    np.testing.assert_array_equal(workers.submit(suv, series).result(), series.load(units="suvbw"))


def test_a_worker_hands_on_what_it_got(
    vault: vv.Vault, uids: dict[str, str], workers: ProcessPoolExecutor
) -> None:
    series = vault.series(uids["CT"])
    back = workers.submit(returned, series).result()
    np.testing.assert_array_equal(back.load(), series.load())
    assert series.handle.frames == 12, "reads of what came back count for the handle here"
    back.close()
    assert series.load().shape == back.load().shape


def test_the_pickle_of_a_series_or_graph_gives_nothing_away(vault: vv.Vault, uids: dict[str, str]) -> None:
    import cloudpickle

    series = vault.series(uids["CT"])
    reader = series._reader._packs.reader(series._source.packs[0]["pack_id"])
    for data in (
        pickle.dumps(series),
        cloudpickle.dumps(series.volume()),
        cloudpickle.dumps(dict(series.pixels.dask)),
        cloudpickle.dumps(series.to_xarray()),
    ):
        for word in (*PLANTED, *uids.values(), str(vault.path), reader._dek):
            raw = word if isinstance(word, bytes) else str(word).encode()
            assert raw not in data
            assert raw.hex().encode() not in data
        assert series.members()[0][0].encode() not in data


def test_one_loan_serves_every_pickle_of_a_series(vault: vv.Vault, uids: dict[str, str]) -> None:
    series = vault.series(uids["CT"])
    for _ in range(3):
        pickle.dumps(series.volume())
        pickle.dumps(series)
    assert len(series.handle._grants) == 1  # type: ignore[union-attr]


def test_dask_graphs_run_in_spawned_processes(
    vault: vv.Vault, uids: dict[str, str], workers: ProcessPoolExecutor
) -> None:
    import dask

    series = vault.series(uids["MR"])
    assert len(series.stacks) >= 1
    want = series.load(0)
    with dask.config.set(scheduler="processes", pool=workers):
        np.testing.assert_array_equal(series.volume(0).compute(), want)
        np.testing.assert_array_equal((series.volume(0) + 1)[1:3, ::2].compute(), want[1:3, ::2] + 1)
        np.testing.assert_array_equal(series.frames(0).compute(), series.load(0, units="stored"))


def test_dask_graphs_run_on_a_local_cluster(vault: vv.Vault, uids: dict[str, str], tmp_path: Path) -> None:
    from distributed import Client, LocalCluster

    series = vault.series(uids["CT"])
    with (
        LocalCluster(  # type: ignore[no-untyped-call]
            n_workers=1,
            threads_per_worker=2,
            processes=True,
            dashboard_address="127.0.0.1:0",
            local_directory=str(tmp_path / "dask"),
        ) as cluster,
        Client(cluster) as client,  # type: ignore[no-untyped-call]
    ):
        np.testing.assert_array_equal(client.compute(series.volume()).result(), series.load())
        assert client.submit(use_series, series).result()["pid"] != os.getpid()


def test_a_closed_series_does_not_travel(vault: vv.Vault, uids: dict[str, str]) -> None:
    series = vault.series(uids["CT"])
    lazy = series.volume()
    copy = pickle.loads(pickle.dumps(series))
    series.close()
    for thing in (series, lazy):
        with pytest.raises(PolicyDenied, match="closed"):
            pickle.dumps(thing)
    with pytest.raises(PolicyDenied, match="closed"):
        copy.load()


def test_vaults_stay_where_they_are(vault: vv.Vault, uids: dict[str, str]) -> None:
    reader = vault.series(uids["CT"])._reader
    alone = VolumeReader(reader._packs, reader._headers, reader._guard)
    for thing in (vault, vault.resources, vault.resources.keys, vault.resources.catalog):
        with pytest.raises((TypeError, UsageError)):
            pickle.dumps(thing)
    with pytest.raises(UsageError, match="stays in its process"):
        pickle.dumps(alone)


@pytest.mark.parametrize("use", ["load", "frame", "volume", "pickle", "lent", "header"])
def test_a_forked_child_is_told_at_once(vault: vv.Vault, uids: dict[str, str], use: str) -> None:
    series = vault.series(uids["CT"])
    series.load()
    lazy, lent = series.volume(), pickle.loads(pickle.dumps(series))
    uses: dict[str, Any] = {
        "load": series.load,
        "frame": lambda: series.frame(0),
        "volume": lambda: lazy.compute(scheduler="synchronous"),
        "pickle": lambda: pickle.dumps(series),
        "lent": lent.load,
        "header": series.header,
    }
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            uses[use]()
        except ForkedProcess:
            os.write(write, b"told")
        finally:
            os._exit(0)
    os.close(write)
    os.waitpid(child, 0)
    with open(read, "rb") as pipe:
        assert pipe.read() == b"told"


def test_a_fork_does_not_close_the_handle_of_its_parent(vault: vv.Vault, uids: dict[str, str]) -> None:
    series = vault.series(uids["CT"])
    size = len(list(vault.resources.audit.entries()))
    child = os.fork()
    if child == 0:
        try:
            series.close()
        finally:
            os._exit(0)
    os.waitpid(child, 0)
    assert len(list(vault.resources.audit.entries())) == size
