"""What the tests of caches share: people, files, a build without a progress bar."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import voxelvault as vv
from voxelvault.derived import building
from voxelvault.derived.cache import Cache

MARKER_LPS = (-16.4, -9.4, 9.0)


def person(number: str) -> dict[str, object]:
    return {"PatientID": number, "PatientName": f"PLANTED^{number}", "PatientBirthDate": None}


def ingest(vault: vv.Vault, folder: Path, *files: bytes) -> None:
    folder.mkdir(parents=True)
    for number, data in enumerate(files):
        (folder / f"{number}.dcm").write_bytes(data)
    assert not vault.ingest(folder, progress=False).quarantined


def cache(vault: vv.Vault, **how: Any) -> Cache:
    return vault.select("Modality = 'CT'").cache(progress=False, **how)


def names(vault: vv.Vault) -> set[str]:
    return {info.name for info in vault.resources.objects.list("derived/")}


def build_together(place: Path, mine: Path, other: Path) -> tuple[int, int, int, int]:
    """Build in a process of its own, committing only once another has also sorted out what is to be made.

    Returns how many series the cache has, were built, were kept and were refused.
    """
    begin = building.Committer.begin

    def together(self: building.Committer, series: int) -> None:
        begin(self, series)
        mine.touch()
        until = time.monotonic() + 60
        while not other.exists() and time.monotonic() < until:
            time.sleep(0.01)

    building.Committer.begin = together  # type: ignore[method-assign]
    with vv.open(place) as vault:
        made = cache(vault)
        return len(made), made.built, made.kept, len(made.refused)
