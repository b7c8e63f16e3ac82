"""Commits a second of four writing processes, none lost and none double.

The embedded catalog always; one on a PostgreSQL server where `VOXELVAULT_BENCH_POSTGRES` is the address
of an empty database (``postgresql://…``, without a password).
"""

from __future__ import annotations

import os
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path
from shutil import rmtree
from tempfile import mkdtemp

import voxelvault as vv
from benchmarks.measure import Measured, Place, seconds

WRITERS = 4
GOALS = {"embedded": 8.0, "PostgreSQL": 40.0}
EACH = {"embedded": 25, "PostgreSQL": 100}

_WRITER = """
import sys
from datetime import datetime
import pyarrow as pa
import voxelvault as vv
from voxelvault.catalog.catalog import Change
from voxelvault.model import new_id
with vv.open(sys.argv[1]) as vault:
    print("ready", flush=True)
    sys.stdin.readline()
    for _ in range(int(sys.argv[2])):
        row = {"conflict_id": new_id(), "kind": "bench", "found": datetime(2026, 1, 1), "resolved": False}
        vault.resources.catalog.commit([Change("conflicts", pa.Table.from_pylist([row]), "insert")])
"""


def measure(place: Place) -> list[Measured]:
    """One row a commit, each waited for."""
    catalogs = {"embedded": "embedded"}
    url = os.environ.get("VOXELVAULT_BENCH_POSTGRES")
    if url is None:
        print("VOXELVAULT_BENCH_POSTGRES is not set: its commits are left out", file=sys.stderr)
    else:
        catalogs["PostgreSQL"] = url
    return [_measured(place, name, catalog) for name, catalog in catalogs.items()]


def _measured(place: Place, name: str, catalog: str) -> Measured:
    folder = Path(mkdtemp(dir=place.folder))
    try:
        vv.create(folder / "vault", catalog=catalog).close()
        line = [sys.executable, "-c", _WRITER, str(folder / "vault"), str(EACH[name])]
        with ExitStack() as running:
            writers = [
                running.enter_context(
                    subprocess.Popen(line, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
                )
                for _ in range(WRITERS)
            ]
            for writer in writers:
                assert writer.stdout is not None
                writer.stdout.readline()
            taken = seconds(lambda: _finish(writers))
        with vv.open(folder / "vault") as vault:
            rows = vault.resources.catalog.query(
                "select count(*) n, count(distinct conflict_id) d from conflicts"
            )
    finally:
        rmtree(folder)
    wanted = WRITERS * EACH[name]
    if rows.to_pylist() != [{"n": wanted, "d": wanted}]:
        raise RuntimeError(f"commits were lost or doubled: {rows.to_pylist()} instead of {wanted}")
    found = wanted / taken
    return Measured(f"commits a second, {WRITERS} writers, {name}", found, GOALS[name], f"{found:.1f}/s", "")


def _finish(writers: list[subprocess.Popen[str]]) -> None:
    for writer in writers:
        assert writer.stdin is not None
        writer.stdin.write("\n")
        writer.stdin.flush()
    if any(writer.wait() for writer in writers):
        raise RuntimeError("a writer failed, see above")
