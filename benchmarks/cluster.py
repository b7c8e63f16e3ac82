"""Two Dask workers against one, for ingest and for verify: what comes of another worker."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from shutil import rmtree
from statistics import median
from tempfile import mkdtemp

import voxelvault as vv
from benchmarks.heads import Heads, make_heads
from benchmarks.measure import Measured, Place, rate, seconds
from voxelvault.cluster.local import LocalWorkers

GOAL = 1.7

SERIES, SLICES = 8, 40


def measure(place: Place) -> list[Measured]:
    """Start one worker and two, of one thread each, and have both do the same in turn."""
    heads = make_heads(place.folder / "series", SLICES, SERIES)
    size = heads.size
    taken: dict[tuple[str, int], list[float]] = {}
    with ExitStack() as held:
        held.callback(rmtree, heads.folder)
        crews = {count: held.enter_context(LocalWorkers(count)) for count in (1, 2)}
        for turn in range(1 + place.repeats):
            for count in sorted(crews, reverse=bool(turn % 2)):
                found = _day(place.folder, heads, crews[count])
                if turn:  # the first one loads libraries in every worker
                    for verb, spent in found.items():
                        taken.setdefault((verb, count), []).append(spent)
    return [_measured(verb, taken[verb, 1], taken[verb, 2], size) for verb in ("ingest", "verify")]


def _day(folder: Path, heads: Heads, workers: LocalWorkers) -> dict[str, float]:
    """Fill a vault and verify it; return the seconds of both."""
    with _vault(folder) as vault:
        ingest = seconds(lambda: vault.ingest(heads.folder, progress=False, client=workers))
        if vault.summary()["instances"] != SERIES * SLICES:
            raise RuntimeError("the files did not all come in")
        return {
            "ingest": ingest,
            "verify": seconds(lambda: vault.verify(progress=False, client=workers)),
        }


@contextmanager
def _vault(folder: Path) -> Iterator[vv.Vault]:
    place = Path(mkdtemp(dir=folder))
    try:
        with vv.create(place / "vault") as vault:
            yield vault
    finally:
        rmtree(place)


def _measured(verb: str, one: list[float], two: list[float], size: int) -> Measured:
    ratio = median(alone / both for alone, both in zip(one, two, strict=True))
    return Measured(
        f"{verb}, 2 Dask workers / 1", ratio, GOAL, rate(size, median(two)), rate(size, median(one))
    )
