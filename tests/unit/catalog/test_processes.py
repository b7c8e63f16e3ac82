"""Several processes on one vault with a real key ring: nothing lost, nothing twice, also when killed."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from catalog_support import TYPED, pack, patient
from voxelvault.catalog.ducklake import DuckLakeCatalog
from voxelvault.crypto.hybrid import PrivateKey
from voxelvault.crypto.keyring import KeyRing
from voxelvault.crypto.providers.env import EnvProvider
from voxelvault.model import new_id
from voxelvault.storage.objects import LocalObjects

TOML = b"format = 1\n"
VAULT = "0f" * 16

WRITER = """
import os, sys
from pathlib import Path
sys.path[:0] = sys.argv[3:]
from test_processes import open_catalog, write
write(open_catalog(Path(sys.argv[1])), int(sys.argv[2]))
"""


def open_catalog(root: Path) -> DuckLakeCatalog:
    keys = KeyRing.open(LocalObjects(root), VAULT, TOML, [EnvProvider(os.environ)])
    return DuckLakeCatalog.open(LocalObjects(root), keys, TYPED)


def write(catalog: DuckLakeCatalog, packs: int) -> None:
    """Commit packs of shared patients; say each one's id once it is acknowledged."""
    for n in range(packs):
        pack_id = new_id()
        catalog.commit([patient(f"{n % 5:032x}"), *pack(f"{n % 5:032x}", 25, pack_id)])
        print(pack_id, flush=True)


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("VOXELVAULT_KEY", PrivateKey.generate().text())
    objects = LocalObjects(tmp_path / "vault")
    keys = KeyRing.create(objects, VAULT, TOML, [EnvProvider(os.environ).slot()])
    DuckLakeCatalog.create(objects, keys, TYPED).close()
    return tmp_path / "vault"


def start(root: Path, packs: int) -> subprocess.Popen[str]:
    here = str(Path(__file__).parent)
    command = [sys.executable, "-c", WRITER, str(root), str(packs), here, str(Path(here).parents[1])]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def check(root: Path, acknowledged: set[str]) -> None:
    catalog = open_catalog(root)
    known = catalog.query("SELECT pack_id FROM packs")["pack_id"].to_pylist()
    assert len(known) == len(set(known))
    assert acknowledged <= set(known)
    patients = catalog.query("SELECT subject_id FROM patients")["subject_id"].to_pylist()
    assert len(patients) == len(set(patients)) <= 5
    for table in ("instances", "frames"):
        counts = catalog.query(f"SELECT pack_id, count(*) AS n, max(subject_id) AS s FROM {table} GROUP BY 1")
        assert dict(
            zip(counts["pack_id"].to_pylist(), counts["n"].to_pylist(), strict=True)
        ) == dict.fromkeys(known, 25)
    catalog.close()


def test_two_processes_lose_nothing(root: Path) -> None:
    writers = [start(root, 3) for _ in range(2)]
    written = [writer.communicate()[0].split() for writer in writers]
    assert [writer.returncode for writer in writers] == [0, 0]
    assert [len(ids) for ids in written] == [3, 3]
    check(root, {pack_id for ids in written for pack_id in ids})


@pytest.mark.long
def test_killed_writers_lose_nothing_acknowledged(root: Path) -> None:
    dice, acknowledged = random.Random(0), set[str]()
    for _ in range(25):
        with start(root, 1000) as writer:
            assert writer.stdout is not None
            acknowledged.add(writer.stdout.readline().strip())
            time.sleep(dice.random())
            writer.send_signal(signal.SIGKILL)
            acknowledged.update(line.strip() for line in writer.stdout if len(line) == 33)
        check(root, acknowledged)
    catalog = open_catalog(root)
    catalog.maintain(grace=0)
    catalog.close()
    check(root, acknowledged)
    assert len(acknowledged) > 25
