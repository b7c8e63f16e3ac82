"""A vault of people who never lived, scanned by three makers' scanners that differ, some with a bleed."""

from __future__ import annotations

from pathlib import Path

import voxelvault
from voxelvault.vault import Vault
from voxelvault_fl.simulation.practice import practice_hospitals

PURPOSE = "IRB-1"


def hospital_vault(folder: Path) -> tuple[Vault, Path]:
    """Return an open vault of such people, and the table of labels."""
    labels = practice_hospitals(folder / "files")
    vault = voxelvault.create(folder / "vault", purpose=PURPOSE, key_file=folder / "vault.key")
    vault.ingest(folder / "files")
    return vault, labels
