"""Peak memory of an ingest, of few instances and of many: it must not grow with what comes in."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from shutil import rmtree
from tempfile import mkdtemp

from benchmarks.measure import Measured, Place
from voxelvault.testing.synthetic_series import ct_series

FEW, BATCHES, MANY = 100, 1_000, 10_000
"""A hundred don't fill one batch; a thousand fill some, and more of them should cost no more."""
A_SERIES = 50
SIZE = 64
GOAL = 1.15
"""Of many over few; a fifth more at 1.2 would be growth."""

_INGEST = """
import resource, sys
import voxelvault as vv
with vv.create(sys.argv[1] + "/vault") as vault:
    report = vault.ingest(sys.argv[1] + "/in", progress=False)
    assert len(report.quarantined) == 0 and report.stored == int(sys.argv[2]), report
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


def measure(place: Place, many: int = MANY) -> list[Measured]:
    """Small slices, a series of fifty each, so that what is held an instance or a series would show."""
    peaks = {count: _peak(place, count) for count in (FEW, BATCHES, many)}
    return [_row(peaks, many, count, GOAL if count == FEW else None) for count in (FEW, BATCHES)]


def _row(peaks: dict[int, int], many: int, few: int, goal: float | None) -> Measured:
    own, other = (f"{peaks[count] / 1024:.0f} MiB" for count in (many, few))
    claim = f"peak memory of ingest, {many:,} instances / {few:,}"
    return Measured(claim, peaks[many] / peaks[few], goal, own, other, at_most=True)


def _peak(place: Place, count: int) -> int:
    folder = Path(mkdtemp(dir=place.folder))
    try:
        for number in range(count // A_SERIES):
            inbox = folder / "in" / str(number)
            inbox.mkdir(parents=True)
            for index, data in enumerate(ct_series(A_SERIES, SIZE, SIZE, seed=number)):
                (inbox / f"{index}.dcm").write_bytes(data)
        line = [sys.executable, "-c", _INGEST, str(folder), str(count)]
        return int(subprocess.run(line, check=True, stdout=subprocess.PIPE, text=True).stdout)
    finally:
        rmtree(folder)
