"""Workers of our own on this machine: what threads do, they do, and nothing of theirs is left."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from flow_support import digest, rows, write

import voxelvault as vv
from voxelvault.cluster.entering import crew_of
from voxelvault.cluster.local import LocalWorkers
from voxelvault.errors import UsageError
from voxelvault.intake.ingest import IngestOptions, ingest
from voxelvault.interfaces.cli import app
from voxelvault.testing.synthetic import ct_series, every_kind, hostile, pet_series

KINDS = ("deflated", "big endian 16", "enhanced CT", "structured report", "RGB", "1.2.840.10008.1.2.5 frames")
"""Of `every_kind`, one of each way to be stored."""


@pytest.fixture(scope="module")
def inbox(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Files of every way in: plain, compressed, kept whole, a duplicate, bad ones."""
    files = {f"ct {number}": data for number, data in enumerate(ct_series(4, 24, 20, series=31))}
    files |= {f"pet {number}": data for number, data in enumerate(pet_series(series=32))}
    kinds = every_kind()
    files |= {f"kind {name}": kinds[name] for name in KINDS}
    small = [data for data in hostile().values() if len(data) < 1 << 16]
    files |= {f"bad {number}.dcm": data for number, data in enumerate(small[:8])}
    files |= {"again.dcm": files["ct 0"], "notes.txt": b"nothing of this is DICOM"}
    return write(tmp_path_factory.mktemp("inbox"), files)


@pytest.fixture(scope="module")
def workers() -> Iterator[LocalWorkers]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("VOXELVAULT_KEY", "a private key")
        with LocalWorkers(2, "1GiB") as made:
            patch.delenv("VOXELVAULT_KEY")
            yield made
    assert not made.folder.exists()


@pytest.fixture(scope="module")
def both(
    inbox: Path, workers: LocalWorkers, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Any, Any]]:
    """A vault filled by threads, another one by workers; each with its report."""
    place = tmp_path_factory.mktemp("both")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("VOXELVAULT_CONFIG_HOME", str(place / "configuration"))
        with vv.create(place / "threads") as one, vv.create(place / "workers") as other:
            filled = one.ingest(inbox, progress=False)
            yield (one, filled), (other, other.ingest(inbox, progress=False, client=workers))


FACTS = (
    "select sha256, length, version, superseded, stored, pixels, header, SOPInstanceUID, TransferSyntaxUID"
    " from instances order by sha256",
    "select stack, frame, frames.ImagePositionPatient, temporal, echo from frames"
    " join instances using (instance_id) order by sha256, stack, frame",
    "select frames, rows, columns, dtype, codec from stacks order by all",
    "select PatientID, PatientName, provisional from patients order by all",
    "select StudyInstanceUID, SeriesInstanceUID, Modality from series order by all",
    "select sha256, reason, size from quarantine order by all",
    "select kind, detail from conflicts order by all",
)


def test_workers_store_what_threads_store(both: tuple[Any, Any]) -> None:
    (one, filled), (other, there) = both
    assert str(there) == str(filled)
    assert there.quarantined
    assert there.duplicates
    assert there.not_dicom
    for query in FACTS:
        assert rows(other, query) == rows(one, query), query


def _faults() -> int:
    """Count the pages that are mapped anew while arrays of 4 MB come and go, the first ones left out."""
    import resource

    import numpy as np

    for turn in range(41):
        if turn == 1:
            before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        np.ones(500_000)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before


@pytest.mark.skipif(sys.platform != "linux", reason="what is set is glibc's")
def test_a_worker_keeps_memory_that_it_needs_again(workers: LocalWorkers) -> None:
    assert max(workers.client.run(_faults).values()) < 4_000, "given back and mapped anew it is 40,000"


def test_a_second_time_brings_nothing(both: tuple[Any, Any], inbox: Path, workers: LocalWorkers) -> None:
    _, (other, there) = both
    again = other.ingest(inbox, progress=False, client=workers)
    assert (again.stored, len(again.quarantined)) == (0, len(there.quarantined))
    assert again.duplicates == there.stored + there.duplicates


def test_verify_and_export_agree(both: tuple[Any, Any], workers: LocalWorkers, tmp_path: Path) -> None:
    (one, _), (other, _) = both
    here, there = one.verify(progress=False), other.verify(progress=False, client=workers)
    assert there.ok
    counted = ("packs", "objects", "frames", "instances", "quarantined", "orphans", "unfinished")
    assert [getattr(there, name) for name in counted] == [getattr(here, name) for name in counted]
    found = []
    for vault, client in ((one, None), (other, workers)):
        out = tmp_path / str(client is None)
        report = vault.export(out, progress=False, client=client)
        assert report.files == rows(vault, "select count(*) as n from instances")[0]["n"]
        lines = sorted((out / "MANIFEST.csv").read_text().splitlines())
        found.append((lines, {p.relative_to(out): digest(p.read_bytes()) for p in out.rglob("*.dcm")}))
        assert len(lines) == 1 + len(list(out.rglob("*.dcm"))), "and nothing else is left in the folder"
        assert len([path for path in out.rglob("*") if path.is_file()]) == len(lines)
    assert found[0] == found[1]
    with pytest.raises(UsageError, match="original files alone"):
        other.export(tmp_path / "nifti", format="nifti", client=workers, progress=False)


def test_damage_is_found_by_workers_too(both: tuple[Any, Any], workers: LocalWorkers) -> None:
    _, (other, _) = both
    row = rows(other, "select * from packs order by manifest_length desc limit 1")[0]
    manifest = row["manifest_object_id"]
    own = [path for path in (other.path / "objects").rglob("*") if path.is_file() and path.name != manifest]
    largest = max(own, key=lambda path: path.stat().st_size)
    before = largest.read_bytes()
    largest.chmod(0o600)
    largest.write_bytes(before[:-1] + bytes([before[-1] ^ 1]))
    try:
        found = other.verify(progress=False, client=workers)
        here = other.verify(progress=False)
    finally:
        largest.write_bytes(before)
    assert not found.ok
    assert found.failures == here.failures
    assert other.verify(progress=False, client=workers).ok


def test_packs_are_joined_and_columns_read_by_workers(
    workers: LocalWorkers, vault: vv.Vault, tmp_path: Path
) -> None:
    files = ct_series(4, 16, 16, series=77)
    for number, data in enumerate(files):
        vault.ingest(write(tmp_path / str(number), [data]), progress=False)
    report = vault.compact(client=workers, progress=False)
    assert (report.packs, report.into, report.skipped) == (4, 1, 0)
    assert vault.verify(progress=False).ok
    assert vault.reindex(client=workers) == 4
    vault.export(tmp_path / "out", progress=False)
    assert sorted(map(digest, files)) == sorted(
        digest(path.read_bytes()) for path in (tmp_path / "out").rglob("*.dcm")
    )


def test_a_killed_worker_is_started_again_and_all_is_done(
    workers: LocalWorkers, vault: vv.Vault, tmp_path: Path
) -> None:
    files = [data for n in range(8) for data in ct_series(2, 32, 32, series=500 + n)]
    pids = sorted(workers.client.run(os.getpid).values())

    def kill(_files: int, _size: int) -> None:
        if pids:
            os.kill(pids.pop(), signal.SIGKILL)
            pids.clear()

    with crew_of(vault.resources, workers) as crew:
        report = ingest(vault.resources, [write(tmp_path / "in", files)], IngestOptions(), kill, crew)
    assert not pids
    assert (report.stored, report.series, report.refused) == (16, 8, [])
    assert vault.verify(progress=False).ok
    until = time.monotonic() + 60
    while len(workers.client.nthreads()) < 2 and time.monotonic() < until:
        time.sleep(0.2)
    assert vault.verify(progress=False, client=workers).ok


def test_the_processes_are_shut_off(workers: LocalWorkers) -> None:
    """No secret in their environment, every port on the loopback address, a folder of one's own."""
    process = workers._process
    assert process is not None
    told = [Path(f"/proc/{pid}/environ").read_bytes() for pid in family(process.pid)]
    assert len(told) >= 3
    assert not [text for text in told if b"VOXELVAULT" in text]
    assert any(b"PYTHONPATH" in text for text in told), "the search reads environments"
    assert workers.folder.stat().st_mode & 0o77 == 0
    assert workers.dashboard.startswith("http://127.0.0.1:")
    assert workers.client.scheduler.address.startswith("tls://127.0.0.1:")
    assert {address[:16] for address in workers.client.nthreads()} == {"tls://127.0.0.1:"}
    listening = {address for pid in family(process.pid) for address in listeners(pid)}
    assert listening == {"0100007F"}


def family(pid: int) -> list[int]:
    """Return a process and all below it."""
    found = [pid]
    for task in Path(f"/proc/{pid}/task").iterdir():
        for child in (task / "children").read_text().split():
            found += family(int(child))
    return found


def listeners(pid: int) -> list[str]:
    """Return the addresses, as the kernel writes them, on which a process waits for connections."""
    inodes = set()
    for link in Path(f"/proc/{pid}/fd").iterdir():
        try:
            inodes.add(os.readlink(link).removeprefix("socket:[").rstrip("]"))
        except FileNotFoundError:
            continue
    found = []
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]:
            words = line.split()
            if words[3] == "0A" and words[9] in inodes:
                found.append(words[1].rsplit(":", 1)[0])
    return found


def test_the_command_line_names_a_scheduler(
    vault_path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write(tmp_path / "in", ct_series(1, 8, 8))
    line = ["--vault", str(vault_path), "ingest", str(tmp_path / "in"), "--scheduler"]
    assert app.main([*line, "tcp://127.0.0.1:8786"]) == 2
    assert "tls://host:port" in capsys.readouterr().err


@pytest.mark.long
def test_workers_end_with_a_killed_parent(tmp_path: Path) -> None:
    code = (
        "import sys, time; from voxelvault.cluster.local import LocalWorkers\n"
        "workers = LocalWorkers(1)\nprint(workers._process.pid, flush=True)\ntime.sleep(600)"
    )
    parent = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    host = int(parent.stdout.readline())
    below = family(host)
    parent.kill()
    parent.wait()
    parent.stdout.close()
    until = time.monotonic() + 60
    while any(Path(f"/proc/{pid}").exists() for pid in below) and time.monotonic() < until:
        time.sleep(0.2)
    assert not [pid for pid in below if Path(f"/proc/{pid}").exists()]


@pytest.mark.long
def test_the_memory_of_workers_is_bounded(workers: LocalWorkers, vault: vv.Vault, tmp_path: Path) -> None:
    """Ten times the series, 300 MB of them, and not more memory than a pack's worth."""
    resident = []
    for start, count in ((1000, 6), (2000, 60)):
        for number in range(start, start + count):
            write(tmp_path / f"{start}" / f"{number}", ct_series(10, 512, 512, series=number))
        vault.ingest(tmp_path / f"{start}", progress=False, client=workers)
        resident.append(max(workers.client.run(resident_bytes).values()))
    assert resident[1] - resident[0] < 100 << 20


def resident_bytes() -> int:
    """Return what this process holds in memory."""
    import psutil

    held: int = psutil.Process().memory_info().rss
    return held
