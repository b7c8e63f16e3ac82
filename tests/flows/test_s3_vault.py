"""A vault in object storage: the whole story, two writers at once, workers, and a network that fails."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

import voxelvault as vv
from s3_servers import Server, moto
from voxelvault.cluster.local import LocalWorkers
from voxelvault.crypto.ways import Ways
from voxelvault.errors import NoPermission, NotAVault, RollbackDetected, StorageError, UsageError, VaultExists
from voxelvault.interfaces.cli import main
from voxelvault.opening import close_vault, open_vault
from voxelvault.storage.places import place_of, store_at
from voxelvault.storage.remote_objects import ObstoreObjects
from voxelvault.testing.synthetic import ct_series
from voxelvault.upkeep.rebuilding import rebuild_catalog

SLICES = 6


@pytest.fixture(scope="module")
def server(s3_server: Server) -> Iterator[Server]:
    """Give the server, and the environment that points to it."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in s3_server.environment.items():
            patch.setenv(name, value)
        yield s3_server


@pytest.fixture
def place(server: Server) -> str:
    return f"{server.place()}/vault"


def write_series(folder: Path, series: int) -> dict[str, str]:
    """Write a CT of a person of its own; return digests by name."""
    folder.mkdir(parents=True)
    files = dict(enumerate(ct_series(SLICES, series=series, seed=series)))
    for number, data in files.items():
        (folder / f"{series}-{number}.dcm").write_bytes(data)
    return {f"{series}-{number}": hashlib.sha256(data).hexdigest() for number, data in files.items()}


def test_the_whole_story(place: str, tmp_path: Path) -> None:
    came_in = write_series(tmp_path / "in", 1)
    with vv.create(place, purpose="tests") as vault:
        assert vault.path == place
        assert vault.ingest(tmp_path / "in", progress=False).stored == SLICES
        found = vault.sql(
            "select Modality, count(*) as n from instances join series using (series_id) group by 1"
        )
        assert found.df()["n"].tolist() == [SLICES]
        (series,) = vault.select("Modality = 'CT'")
        assert series.load().shape[0] == SLICES
        report = vault.export(tmp_path / "out", progress=False)
        out = {hashlib.sha256(path.read_bytes()).hexdigest() for path in report.folder.rglob("*.dcm")}
        assert out == set(came_in.values())
        assert vault.verify(progress=False).ok
    with vv.open(place, purpose="tests") as vault:
        lost = next(vault.resources.objects.list("objects/")).name
        vault.resources.objects.delete(lost)
        report = vault.verify(progress=False)
        assert not report.ok
        assert lost.rpartition("/")[2] in str(report.failures)
    with pytest.raises(VaultExists):
        vv.create(place)
    with pytest.raises(UsageError, match="empty"):
        vv.create(place.rpartition("/")[0])
    with pytest.raises(NotAVault):
        vv.open(f"{place}/nothing")


_INGEST = """
import sys
import voxelvault as vv
if __name__ == "__main__":
    with vv.open(sys.argv[1], purpose="tests") as vault:
        for folder in sys.argv[2:]:
            report = vault.ingest(folder, progress=False)
            assert not report.quarantined, report
"""


def test_two_writers_at_once_lose_nothing_and_store_nothing_twice(place: str, tmp_path: Path) -> None:
    """Each its own series, and one that both bring."""
    for series in (11, 12, 13):
        write_series(tmp_path / str(series), series)
    vv.create(place, purpose="tests").close()
    writers = [
        subprocess.Popen([sys.executable, "-c", _INGEST, place, tmp_path / own, tmp_path / "13"])
        for own in ("11", "12")
    ]
    assert [writer.wait(120) for writer in writers] == [0, 0]
    with vv.open(place, purpose="tests") as vault:
        counted = vault.sql("select count(*) as n, count(distinct SOPInstanceUID) as d from instances").df()
        assert counted.iloc[0].tolist() == [3 * SLICES, 3 * SLICES]
        assert vault.verify(progress=False).ok


_DASK = """
import sys
import numpy as np
import voxelvault as vv
if __name__ == "__main__":
    with vv.open(sys.argv[1], purpose="tests") as vault:
        (series,) = vault.select("Modality = 'CT'")
        here = series.pixels.compute(scheduler="sync")
        assert np.array_equal(series.pixels.compute(scheduler="processes", num_workers=2), here)
"""

_LOADER = """
import sys
import numpy as np
import voxelvault as vv
if __name__ == "__main__":
    with vv.open(sys.argv[1], purpose="tests") as vault:
        cohort = vault.select("Modality = 'CT'").freeze("all")
        assert sum(np.asarray(b["image"]).any() for b in cohort.loader(batch_size=1, num_workers=2)) == 1
"""


@pytest.mark.parametrize("script", [_DASK, pytest.param(_LOADER, marks=pytest.mark.long)])
def test_workers_read_with_credentials_of_their_own(place: str, tmp_path: Path, script: str) -> None:
    write_series(tmp_path / "in", 21)
    with vv.create(place, purpose="tests") as vault:
        vault.ingest(tmp_path / "in", progress=False)
    subprocess.run([sys.executable, "-c", script, place], check=True, timeout=150)


@pytest.fixture
def workers(server: Server) -> Iterator[LocalWorkers]:
    with LocalWorkers(2, "1GiB", cloud=True) as made:
        yield made


def test_workers_of_a_cluster_take_in_prove_and_give_out(
    place: str, workers: LocalWorkers, tmp_path: Path
) -> None:
    """Each worker speaks to the object storage itself; what one of them writes, the vault commits."""
    came_in: dict[str, str] = {}
    for series in (51, 52, 53):
        came_in |= write_series(tmp_path / "in" / str(series), series)
    with vv.create(place, purpose="tests") as vault:
        report = vault.ingest(tmp_path / "in", progress=False, client=workers)
        assert (report.stored, report.series, report.refused) == (3 * SLICES, 3, [])
        again = vault.ingest(tmp_path / "in", progress=False, client=workers)
        assert (again.stored, again.duplicates) == (0, 3 * SLICES)
        found = vault.verify(progress=False, client=workers)
        assert found.ok, found.failures
        assert found.instances == 3 * SLICES
        out = vault.export(tmp_path / "out", progress=False, client=workers)
        digests = {hashlib.sha256(path.read_bytes()).hexdigest() for path in out.folder.rglob("*.dcm")}
        assert digests == set(came_in.values())
    with vv.open(place, purpose="tests") as vault:
        assert vault.verify(progress=False).ok


def test_yesterdays_log_put_back_is_noticed(place: str) -> None:
    with vv.create(place, purpose="tests"):
        pass
    store = store_at(place_of(place))
    before = {info.name: store.get(info.name) for info in store.list("audit/")}
    vv.open(place, purpose="tests").close()
    for info in list(store.list("audit/")):
        store.delete(info.name)
    for name, data in before.items():
        store.put(name, [data])
    with pytest.raises(RollbackDetected):
        vv.open(place, purpose="tests")
    vv.open(place, purpose="tests", accept_restore=True).close()


def test_who_may_not_write_reads_with_a_log_of_his_own(
    place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_series(tmp_path / "in", 31)
    with vv.create(place, purpose="tests") as vault:
        vault.ingest(tmp_path / "in", progress=False)

    def denied(*_: object, **__: object) -> None:
        raise NoPermission("object storage denied access: check the credentials")

    for write in ("_put", "replace", "delete"):
        monkeypatch.setattr(ObstoreObjects, write, denied)
    with vv.open(place, purpose="tests") as vault:
        (series,) = vault.select("Modality = 'CT'")
        assert series.load().shape[0] == SLICES
        assert vault.resources.read_only
        with pytest.raises(NoPermission):
            vault.ingest(tmp_path / "in", progress=False)


def test_the_command_line_takes_a_url(
    place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write_series(tmp_path / "in", 41)

    def run(*arguments: object) -> Any:
        assert main([*map(str, arguments), "--json"]) == 0
        return json.loads(capsys.readouterr().out)

    assert run("init", place)["vault"] == place
    run("--vault", place, "ingest", tmp_path / "in")
    monkeypatch.setenv("VOXELVAULT", place)
    info = run("info")
    assert info["vault"] == place
    assert info["instances"] == SLICES


def test_a_server_that_goes_in_the_middle_keeps_nobody_waiting(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One wait in all, whatever is left to tidy up: objects, leases, entries."""
    write_series(tmp_path / "in", 61)
    monkeypatch.setattr("voxelvault.storage.places._RETRIES", timedelta(seconds=0.5))
    monkeypatch.setattr("voxelvault.storage.remote_objects._AGAIN", 2.0)
    with moto() as own:
        for name, value in own.environment.items():
            monkeypatch.setenv(name, value)
        vault = vv.create(f"{own.place()}/vault", purpose="tests")
        put, ended = ObstoreObjects.put, list[float]()

        def cut(objects: ObstoreObjects, name: str, parts: Any) -> None:
            if name.startswith("objects/") and not ended:
                own.stop()
                ended.append(time.monotonic())
            put(objects, name, parts)

        monkeypatch.setattr(ObstoreObjects, "put", cut)
        with pytest.raises(StorageError, match=r"did not answer within \d+ s"):
            vault.ingest(tmp_path / "in", progress=False)
        with pytest.raises(StorageError, match="check the network"):
            vault.close()
        assert vault.resources.keys.closed
        assert time.monotonic() - ended[0] < 6


def test_a_server_that_is_gone_is_one_clear_line(place: str, monkeypatch: pytest.MonkeyPatch) -> None:
    vv.create(place, purpose="tests").close()
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    monkeypatch.setattr("voxelvault.storage.places._RETRIES", timedelta(seconds=0.2))
    with pytest.raises(StorageError, match=r"did not answer within \d+ s: check the network") as caught:
        vv.open(place, purpose="tests")
    assert "\n" not in str(caught.value)
    assert os.environ["AWS_SECRET_ACCESS_KEY"] not in str(caught.value)


@pytest.mark.parametrize("lost", [True, False])
def test_a_catalog_is_written_anew_from_packs_and_log(place: str, tmp_path: Path, lost: bool) -> None:
    write_series(tmp_path / "in", 71)
    with vv.create(place, purpose="tests") as vault:
        vault.ingest(tmp_path / "in", progress=False)
        query = "select * from instances order by all"
        before = vault.resources.catalog.query(query).to_pylist()
        if lost:
            vault.resources.objects.delete("catalog/lake.duckdb")
    resources = open_vault(place, Ways(), anew=True)
    assert rebuild_catalog(resources).complete
    close_vault(resources)
    with vv.open(place, purpose="tests") as vault:
        assert vault.resources.catalog.query(query).to_pylist() == before
        assert vault.ingest(tmp_path / "in", progress=False).stored == 0
        assert vault.verify(progress=False).ok
