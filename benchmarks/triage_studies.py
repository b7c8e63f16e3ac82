"""Head CTs of nobody to triage: 512 x 512, 4 and 5 mm, every second with a bleed, as plain files."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from shutil import rmtree
from tempfile import mkdtemp

import voxelvault as vv
from benchmarks.measure import Place
from voxelvault_triage.analysing import analyse
from voxelvault_triage.phantom.atlas import analytic
from voxelvault_triage.phantom.scanner import Scanners
from voxelvault_triage.phantom.studies import files_of
from voxelvault_triage.phantom.study import Phantom, Recipe, phantom
from voxelvault_triage.running.session import Hands
from voxelvault_triage.worklist.states import Priority

DRAWN = 4
"""Heads that are drawn; each stands in several times, under other names."""

RECIPE = Recipe(scanners=Scanners(thickness=(4.0, 5.0), pixel=(0.4297, 0.4298), field=(220.1, 220.2)))


MOST = 24
"""Studies that are written, once for all claims."""


def make_studies(place: Place, count: int) -> list[Path]:
    """Return so many studies, a folder each; the first claim writes them for all."""
    folder = place.folder.parent / "triage"
    if not folder.is_dir():
        atlas = analytic()
        drawn = [phantom(seed, atlas, RECIPE, bleeding=seed % 2 == 1) for seed in range(DRAWN)]
        for person in range(MOST):
            _write(folder / f"study-{person:03}", drawn[person % DRAWN], 1 + person)
    return sorted(folder.iterdir())[:count]


def _write(folder: Path, drawn: Phantom, person: int) -> None:
    folder.mkdir(parents=True)
    for name, data in files_of(drawn, person):
        (folder / name).write_bytes(data)


@contextmanager
def vault_with(folder: Path, studies: list[Path]) -> Iterator[vv.Vault]:
    """Make a vault, take studies in, and remove it afterwards."""
    place = Path(mkdtemp(dir=folder))
    try:
        with vv.create(place / "vault") as vault:
            vault.ingest(studies, progress=False)
            yield vault
    finally:
        rmtree(place)


def analyse_all(vault: vv.Vault, hands: Hands, count: int) -> None:
    """Analyse what is there, from the gate to the place on the list; all of it must have been analysed."""
    ranked = analyse(vault, hands=hands).report.ranked
    if ranked.get(Priority.HIGH, 0) + ranked.get(Priority.LOW, 0) != count:
        raise RuntimeError(f"not all studies were analysed: {ranked}")


__all__ = ["analyse_all", "make_studies", "vault_with"]
