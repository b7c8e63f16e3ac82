"""What the stories of real files share: the files, their hashes, and the vault that holds them."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import voxelvault as vv
from voxelvault.intake.ingest import IngestReport
from voxelvault.series import Series


@dataclass(frozen=True)
class Material:
    """What is ingested: folders, the SHA-256 of every file in them, and the manifest where there is one."""

    folders: tuple[Path, ...]
    files: dict[Path, str]
    manifest: dict[Path, dict[str, str]]


@dataclass(frozen=True)
class Filled:
    """A vault that holds the material, and what its ingest reported."""

    vault: vv.Vault
    material: Material
    report: IngestReport

    @cached_property
    def series(self) -> dict[str, Series]:
        """Every series of the vault, open, by opaque id."""
        rows = self.vault.sql(
            "select series_id, SeriesInstanceUID, StudyInstanceUID, subject_id from series order by 1"
        ).fetchall()
        return {row[0]: self.vault.series(row[1], study=row[2], subject=row[3]) for row in rows}

    def sources(self) -> dict[str, Path]:
        """Return the file that each instance came from, by opaque instance id."""
        by_digest = {digest: path for path, digest in self.material.files.items()}
        rows = self.vault.sql("select instance_id, sha256 from instances").fetchall()
        return {instance_id: by_digest[digest] for instance_id, digest in rows}


def write_all(folder: Path, files: dict[str, bytes]) -> Path:
    """Write named files into a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, data in files.items():
        (folder / f"{name.replace(' ', '_')}.dcm").write_bytes(data)
    return folder


def digests_of(*folders: Path) -> dict[Path, str]:
    """Return the SHA-256 of every file."""
    found = [path for folder in folders for path in sorted(folder.rglob("*")) if path.is_file()]
    return {path: hashlib.sha256(path.read_bytes()).hexdigest() for path in found}
