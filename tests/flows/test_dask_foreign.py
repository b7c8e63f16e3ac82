"""A cluster that somebody else runs: TLS, two workers, one of which is killed; and what is left of it.

One story is told once; the tests look at what it left. Its worker `doomed` writes a series' objects
and hangs before it can answer: there it is killed.
"""

from __future__ import annotations

import gzip
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from flow_support import digest, rows

import voxelvault as vv
from dask_servers import Cluster, dask_cluster, memory_of
from voxelvault.cluster.entering import crew_of
from voxelvault.cluster.reading import lend_to
from voxelvault.errors import KeyUnavailable, PolicyDenied
from voxelvault.intake.ingest import IngestOptions, IngestReport, ingest
from voxelvault.intake.quarantine import Reason, quarantine_export
from voxelvault.reading.packs import manifest_ref, open_manifest
from voxelvault.storage.pack import MANIFEST_LABEL
from voxelvault.testing.synthetic import PLANTED, ct_series, uid
from voxelvault.upkeep.verify import VerifyOptions, VerifyReport, verify

SERIES, SLICES = 6, 3
BAD = b"DICOM" * 99
WARD = "ward-of-Quincy"
"""Part of the paths of all files."""
WORDS = (*PLANTED, uid(0), WARD)

HANGS = """
import os, time
from pathlib import Path
from voxelvault.intake import elsewhere
from voxelvault.intake.packing import press

def hang(*words):
    done = press(*words)
    Path("hanging").write_text(str(os.getpid()))
    time.sleep(600)
    return done

elsewhere.press = hang
"""


@dataclass
class Story:
    folder: Path
    files: list[str]
    vault: vv.Vault
    cluster: Cluster
    client: Any
    report: IngestReport | None = None
    verified: VerifyReport | None = None
    repaired: VerifyReport | None = None
    out: list[str] = field(default_factory=list)
    reindexed: int = 0
    before: list[dict[str, Any]] = field(default_factory=list)
    after: list[dict[str, Any]] = field(default_factory=list)
    state: bytes = b""
    memory: bytes = b""
    names: set[str] = field(default_factory=set)
    left: dict[str, int] = field(default_factory=dict)
    read: dict[str, Any] = field(default_factory=dict)

    def said(self) -> bytes:
        """Return all that scheduler and workers wrote anywhere."""
        logs = b"".join(path.read_bytes() for path in self.cluster.folder.glob("*.log"))
        files = [path for path in self.cluster.local.rglob("*") if path.is_file()]
        return logs + b"".join(path.read_bytes() + str(path).encode() for path in files)


@pytest.fixture(scope="module")
def story(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Story]:
    folder = tmp_path_factory.mktemp("foreign")
    inbox = folder / WARD
    inbox.mkdir()
    for number in range(SERIES):
        for index, data in enumerate(ct_series(SLICES, 32, 32, series=700 + number)):
            (inbox / f"{WARD}-{number}-{index}.dcm").write_bytes(data)
    files = sorted(digest(path.read_bytes()) for path in inbox.iterdir())
    (inbox / f"{WARD}-bad.dcm").write_bytes(BAD)
    (folder / "cluster").mkdir()
    with (
        pytest.MonkeyPatch.context() as patch,
        dask_cluster(folder / "cluster") as cluster,
    ):
        patch.setenv("VOXELVAULT_CONFIG_HOME", str(folder / "configuration"))
        (cluster.folder / "hangs.py").write_text(HANGS)
        cluster.worker("doomed", "--preload", str(cluster.folder / "hangs.py"))
        cluster.worker("sound")
        with vv.create(folder / "vault") as vault, cluster.client(2) as client:
            made = Story(folder, files, vault, cluster, client)
            _tell(made, inbox)
            yield made


def _tell(story: Story, inbox: Path) -> None:
    killer = threading.Thread(target=_kill_when_it_hangs, args=(story.cluster,))
    killer.start()
    story.report = _ingest(story, inbox, lambda files, size: _look(story))
    killer.join()
    vault, client = story.vault, story.client
    story.verified = vault.verify(client=client, progress=False)
    story.repaired = verify(vault.resources, VerifyOptions(repair=True, grace=0.0))
    vault.export(story.folder / "out", client=client, progress=False)
    story.out = sorted(digest(path.read_bytes()) for path in (story.folder / "out").rglob("*.dcm"))
    asked = "select * exclude (received) from instances order by instance_id"
    story.before = rows(vault, asked)
    story.reindexed = vault.reindex(client=client)
    story.after = rows(vault, asked)
    _read(story)
    _look(story)
    story.left = client.run(lambda dask_worker: len(dask_worker.data))
    story.memory = memory_of(story.cluster.processes["scheduler"].pid)


def _read(story: Story) -> None:
    """Compute a graph over there: not before it was lent, nor afterwards."""
    series = story.vault.series(uid(0, 700))
    for turn in ("before", "while", "after"):
        held = lend_to(story.vault, story.client) if turn == "while" else nullcontext(story.client)
        with held as client:
            future = client.compute(series.volume() + 1)
            try:
                story.read[turn] = bool((future.result(timeout=100) == series.load() + 1).all())
            except KeyUnavailable as error:
                story.read[turn] = type(error).__name__
            del future


def _ingest(story: Story, inbox: Path, advance: Callable[[int, int], object]) -> IngestReport:
    with crew_of(story.vault.resources, story.client) as crew:
        return ingest(story.vault.resources, [inbox], IngestOptions(), advance, crew)


def _kill_when_it_hangs(cluster: Cluster) -> None:
    until = time.monotonic() + 200
    while time.monotonic() < until:
        if (cluster.folder / "hanging").exists():
            os.kill(cluster.processes["doomed"].pid, signal.SIGKILL)
            return
        time.sleep(0.05)


def _look(story: Story) -> None:
    """Keep what the scheduler knows while work is under way: tasks, graphs, events, logs."""
    place = story.folder / "state"
    story.client.dump_cluster_state(str(place))
    story.state += gzip.decompress((story.folder / "state.msgpack.gz").read_bytes())
    prefixes = story.client.run_on_scheduler(lambda dask_scheduler: list(dask_scheduler.task_prefixes))
    story.names |= set(prefixes)


def test_the_rest_goes_on_and_nothing_is_lost_or_double(story: Story) -> None:
    assert (story.cluster.folder / "hanging").exists(), "one was killed at work"
    assert story.cluster.processes["doomed"].poll() == -signal.SIGKILL
    assert story.report is not None
    assert (story.report.stored, story.report.series) == (SERIES * SLICES, SERIES)
    assert not story.report.refused
    counted = "select count(*) as n, count(distinct sha256) as files from instances"
    assert rows(story.vault, counted) == [{"n": SERIES * SLICES, "files": SERIES * SLICES}]
    assert story.out == story.files


def test_a_bad_file_is_kept_aside_as_it_came(story: Story) -> None:
    assert story.report is not None
    assert [item.reason for item in story.report.quarantined] == [Reason.UNRECOGNISED]
    assert len(story.report.quarantined[0].sha256) == 64
    (kept,) = quarantine_export(story.vault.resources, story.folder / "kept")
    assert kept.read_bytes() == BAD


def test_what_the_killed_one_wrote_is_swept(story: Story) -> None:
    assert story.verified is not None
    assert story.verified.ok
    assert story.verified.frames == SERIES * SLICES
    assert story.verified.orphans >= 2, "its shard and headers"
    assert story.repaired is not None
    assert story.repaired.ok
    assert (story.repaired.swept, story.repaired.orphans) == (story.verified.orphans, 0)


def test_columns_come_out_the_same(story: Story) -> None:
    assert story.reindexed == SERIES * SLICES
    assert story.before == story.after


def test_tasks_have_opaque_names_and_leave_nothing(story: Story) -> None:
    assert {"ingest-look", "ingest-series", "verify-pack", "export-series", "reindex-headers"} <= story.names
    assert set(story.left.values()) == {0}, "nothing stays in a worker's memory"


def test_graphs_are_computed_there_while_it_is_lent_to(story: Story) -> None:
    assert story.read == {"before": "KeyUnavailable", "while": True, "after": "KeyUnavailable"}


def planted(data: bytes) -> list[str]:
    return [word for word in WORDS if word.encode() in data or word.encode("utf-16-le") in data]


def keys_of(vault: vv.Vault) -> list[bytes]:
    """Return every key that was lent: of packs, and of their manifests."""
    found, ring = [], vault.resources.keys
    for row in rows(vault, "select * from packs"):
        manifest = open_manifest(vault.resources, manifest_ref(row))
        found.append(ring.unwrap_dek(manifest.study_key_id, manifest.pack_id, manifest.wrapped_dek))
        found.append(ring.sub_key(manifest.study_key_id, MANIFEST_LABEL))
    return found


def secrets_in(vault: vv.Vault, data: bytes) -> int:
    return sum(key in data or key.hex().encode() in data for key in keys_of(vault))


def test_logs_folders_and_state_hold_no_value_and_no_key(story: Story) -> None:
    said = story.said()
    assert b"ingest-series" in story.state, "the scheduler's tasks were there to be searched"
    assert len(said) > 1000
    for data in (said, story.state):
        assert planted(data) == []
        assert secrets_in(story.vault, data) == 0


def test_the_memory_of_the_scheduler_holds_no_value_and_no_key(story: Story) -> None:
    assert b"export-series" in story.memory, "the search reads what the scheduler remembers"
    assert planted(story.memory) == []
    assert secrets_in(story.vault, story.memory) == 0


def test_the_search_would_have_found_them(story: Story) -> None:
    """What a plain task does: its argument stands in the scheduler's memory, and in the worker's log."""
    key = keys_of(story.vault)[0]
    future = story.client.submit(_fails, PLANTED[0], key.hex(), key="plain-task", pure=False)
    with pytest.raises(ValueError, match="plain"):
        future.result(timeout=60)
    memory = memory_of(story.cluster.processes["scheduler"].pid)
    assert PLANTED[0] in planted(memory)
    assert secrets_in(story.vault, memory) >= 1
    said = story.said()
    assert PLANTED[0] in planted(said)
    assert secrets_in(story.vault, said) >= 1


def _fails(*_words: str) -> None:
    raise ValueError("plain")


def test_a_worker_that_may_spill_is_refused_and_the_override_is_logged(story: Story) -> None:
    story.cluster.worker("spills", safe=False)
    story.client.wait_for_workers(2, timeout=120)
    with pytest.raises(PolicyDenied, match=r"memory\.spill"):
        story.vault.verify(client=story.client, progress=False)
    assert story.vault.verify(client=story.client, unsafe_spill=True, progress=False).ok
    last = [entry for entry in story.vault.audit.log() if entry.kind == "option.changed"][-1]
    assert last.codes["option"] == ("unsafe_spill",)
    story.cluster.kill("spills")
