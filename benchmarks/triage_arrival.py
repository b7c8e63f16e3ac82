"""From arrival to the place on the list: one study at a time comes to a vault that is watched.

The watcher is the command, with a worker a core; studies come in from another process. Time runs from
when the catalog says that the study came in, which is when its ingest began, to when the list has its
result. The quiet time that the watcher was told to wait is part of it.
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median, quantiles

import voxelvault as vv
from benchmarks.measure import Measured, Place
from benchmarks.triage_studies import make_studies, vault_with

GOAL = 10.0

QUIET = 1.0
"""Seconds without a new image after which a study counts as there."""
STUDIES = 20
LONGEST = 120.0


def measure(place: Place) -> list[Measured]:
    """Let studies come in one by one; the first one loads libraries."""
    first, *others = make_studies(place, 1 + STUDIES)
    with vault_with(place.folder, [first]) as vault, watched(Path(vault.path)):
        _listed(vault, 1)
        for number, folder in enumerate(others, 2):
            vault.ingest(folder, progress=False)
            _listed(vault, number)
        rows = vault.sql(
            "select epoch(ended) - epoch(arrived) as seconds, epoch(scheduled) - epoch(arrived) as waited"
            " from tasks where state = 'COMPLETED' order by ended"
        ).fetchall()[1:]
    taken, waited = ([row[part] for row in rows] for part in (0, 1))
    late = quantiles(taken, n=20)[-1]
    told = f"median {median(taken):.1f} s, of which {median(waited):.1f} s until it counted as there"
    claim = f"arrival to listed, one study, {QUIET:g} s quiet time: 95th percentile, seconds"
    return [Measured(claim, late, GOAL, f"{late:.1f} s", told, at_most=True)]


@contextmanager
def watched(path: Path) -> Iterator[None]:
    """Hold a watcher."""
    command = [str(Path(sys.executable).with_name("voxelvault")), "--vault", str(path), "triage", "watch"]
    watcher = subprocess.Popen(
        [*command, "--quiet", str(QUIET)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        yield
    finally:
        watcher.terminate()
        watcher.wait(60)


def _listed(vault: vv.Vault, count: int) -> None:
    """Wait until so many studies have their place."""
    until = time.monotonic() + LONGEST
    while time.monotonic() < until:
        found = vault.sql("select count(*) from tasks where state = 'COMPLETED'").fetchall()
        if found[0][0] >= count:
            return
        time.sleep(0.5)
    raise RuntimeError("the study did not get onto the list")
