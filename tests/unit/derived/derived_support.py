"""What the tests of caches share: people, files, a build without a progress bar."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import voxelvault as vv
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
