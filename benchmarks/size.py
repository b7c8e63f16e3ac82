"""Bytes at rest, catalog and log included, against the uncompressed files."""

from __future__ import annotations

from pathlib import Path

from benchmarks.measure import Measured, Place
from benchmarks.vaults import vault_of

GOAL = 1 / 3


def measure(place: Place) -> list[Measured]:
    """Everything under the vault's folder."""
    with vault_of(place.folder, place.heads.folder, "htj2k", place.cores) as vault:
        folder = Path(vault.path)
        whole = size_of(folder)
        beside = whole - size_of(folder / "objects")
    size = place.heads.size
    return [
        Measured(
            "bytes at rest / CT files",
            whole / size,
            GOAL,
            f"{whole / 1e6:.1f} MB ({beside / 1e6:.1f} of it keys, catalog, log)",
            f"{size / 1e6:.1f} MB",
            at_most=True,
        )
    ]


def size_of(folder: Path) -> int:
    """Return the bytes of all files in a folder."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
