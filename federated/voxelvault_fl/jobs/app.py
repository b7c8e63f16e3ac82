"""The digest of the code that a site runs: what its policy allows, and what a job asks for."""

from __future__ import annotations

import hashlib
from functools import cache
from importlib.util import find_spec
from pathlib import Path

_PACKAGES = ("voxelvault", "voxelvault_fl", "voxelvault_triage")


@cache
def app_digest() -> str:
    """Return the SHA-256 of this package's sources, hexadecimal: of every path and file.

    The code that trains comes with the platform and never over the wire, so the same version has the
    same digest everywhere.
    """
    digest = hashlib.sha256(b"voxelvault federated app v1\n")
    for package in _PACKAGES:
        spec = find_spec(package)
        for root in (spec.submodule_search_locations or ()) if spec else ():
            for path in sorted(Path(root).rglob("*.py")):
                name = f"{package}/{path.relative_to(root).as_posix()}"
                digest.update(f"{name}\n{hashlib.sha256(path.read_bytes()).hexdigest()}\n".encode())
    return digest.hexdigest()


__all__ = ["app_digest"]
