"""What the stories share: a vault to copy, files of people who do not exist, and what is on disk."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import voxelvault as vv
from voxelvault.testing.synthetic import image, uid
from voxelvault.vault import Vault

_VARIABLES = ("VOXELVAULT", "VOXELVAULT_KEY", "VOXELVAULT_CHECKPOINT")

FLOWS = Path(__file__).parent

FRAME = np.arange(64, dtype=np.uint16).reshape(8, 8)


def person_file(
    patient_id: str | None = "P1", *, study: int = 1, series: int = 1, instance: int = 1, **more: Any
) -> bytes:
    """Return a small CT image; keywords set attributes, None removes one, `pixel` changes the picture."""
    pixels = FRAME + np.uint16(more.pop("pixel", 0))
    attributes = {"PatientName": "Doe^Jo", "PatientBirthDate": "19500101", "PatientSex": "F"} | more
    return image(
        pixels,
        "CT",
        seed=study,
        series=series,
        instance=instance,
        attributes={"PatientID": patient_id, **attributes},
    )


def series_uid(study: int = 1, series: int = 1) -> str:
    return uid(study, series)


def write(folder: Path, files: Mapping[str, bytes] | list[bytes]) -> Path:
    """Write files into a folder; a list gets names in order."""
    named = files if isinstance(files, Mapping) else {f"{n:04}.dcm": data for n, data in enumerate(files)}
    folder.mkdir(parents=True, exist_ok=True)
    for name, data in named.items():
        (folder / name).write_bytes(data)
    return folder


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def exported(vault: Vault, out: Path) -> list[str]:
    """Export everything; return the SHA-256 of each file, sorted."""
    vault.export(out, progress=False)
    return sorted(digest(path.read_bytes()) for path in out.rglob("*.dcm"))


def snapshot(root: Path, area: str) -> dict[str, str]:
    """Return the digest of each file below one area of a vault."""
    return {
        str(path.relative_to(root)): digest(path.read_bytes())
        for path in sorted((root / area).rglob("*"))
        if path.is_file()
    }


def rows(vault: Vault, query: str) -> list[dict[str, Any]]:
    """Ask the catalog itself, without an entry in the log."""
    found: list[dict[str, Any]] = vault.resources.catalog.query(query).to_pylist()
    return found


def counts(vault: Vault, *tables: str) -> tuple[int, ...]:
    return tuple(rows(vault, f"select count(*) as n from {table}")[0]["n"] for table in tables)


def python(code: str, *arguments: object, under: Sequence[str] = (), **options: Any) -> subprocess.Popen[str]:
    """Start a child of its own session that runs `code`; `sys.argv[1:]` are the arguments.

    Another command may be given that runs it, such as one that sets its clock.
    """
    return subprocess.Popen(
        [*under, sys.executable, "-c", code, *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        # `dying` is for children.
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(FLOWS), os.environ.get("PYTHONPATH", "")])},
        **options,
    )


def copy_vault(source: Path, target: Path) -> Path:
    """Copy a vault as a file manager would."""
    return Path(shutil.copytree(source, target))


def settled(home: Path, place: Path, patch: pytest.MonkeyPatch) -> Path:
    """Copy a vault with the configuration that opens it, and use that; return where the vault is."""
    shutil.copytree(home / "vault", place / "vault")
    shutil.copytree(home / "config", place / "config")
    patch.setenv("VOXELVAULT_CONFIG_HOME", str(place / "config"))
    return place / "vault"


def open_again(path: Path, **options: Any) -> Vault:
    return vv.open(path, **options)


@pytest.fixture(scope="session")
def pattern(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with an empty vault and the configuration that opens it."""
    folder = tmp_path_factory.mktemp("pattern")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("VOXELVAULT_CONFIG_HOME", str(folder / "config"))
        for name in _VARIABLES:
            patch.delenv(name, raising=False)
        vv.create(folder / "vault").close()
    return folder


@pytest.fixture
def vault_path(pattern: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty vault of the test's own."""
    for name in _VARIABLES:
        monkeypatch.delenv(name, raising=False)
    return settled(pattern, tmp_path, monkeypatch)


@pytest.fixture
def vault(vault_path: Path) -> Iterator[Vault]:
    """An empty vault, open."""
    with vv.open(vault_path) as opened:
        yield opened
