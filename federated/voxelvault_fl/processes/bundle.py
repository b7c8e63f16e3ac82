"""The Flower app of a run: a name and no code, for both ends run what is installed with the platform.

Flower wants an app bundle (FAB) for each run and sends it to every SuperNode. Ours has a pyproject.toml, no
dependencies and one module that raises; it has the same bytes everywhere, and a site refuses a run with any
other. It is packed here and not by Flower, whose deflated bytes depend on the zlib at hand.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from io import BytesIO
from zipfile import ZIP_STORED, ZipFile, ZipInfo

_PROJECT = b"""\
[project]
name = "voxelvault-federated"
version = "1.0.0"
description = "Runs what is installed with voxelvault; brings no code."
license = "Apache-2.0"
dependencies = []

[tool.flwr.app]
publisher = "voxelvault"
fab-format-version = 0

[tool.flwr.app.components]
serverapp = "nothing_here:app"
clientapp = "nothing_here:app"
"""
_MODULE = b'raise ImportError("the code of this app is installed with voxelvault and never sent")\n'


@dataclass(frozen=True)
class Bundle:
    """A bundle's bytes and their SHA-256, hexadecimal."""

    content: bytes
    digest: str


@cache
def bundle() -> Bundle:
    """Return the bundle."""
    content = packed({"pyproject.toml": _PROJECT, "nothing_here.py": _MODULE})
    return Bundle(content, hashlib.sha256(content).hexdigest())


def packed(files: Mapping[str, bytes]) -> bytes:
    """Pack files as Flower does, stored and not deflated: the same files are the same bytes everywhere."""
    listed = [f"{name},{hashlib.sha256(said).hexdigest()},{8 * len(said)}" for name, said in files.items()]
    made = BytesIO()
    with ZipFile(made, "w", ZIP_STORED) as archive:
        for name, said in {**files, ".info/CONTENT": "\n".join(listed).encode()}.items():
            entry = ZipInfo(name)
            entry.create_system = 3
            archive.writestr(entry, said)
    return made.getvalue()


__all__ = ["Bundle", "bundle", "packed"]
