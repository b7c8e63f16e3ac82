"""A MONAI bundle as data: files by name, one digest over all of them. Nothing here runs or evaluates any.

The manifest is what ``sha256sum`` prints for the files in order of their names, and the bundle's digest
is the SHA-256 of it, so both can be made and signed with the tools that every system has.

References
----------
MONAI bundle specification (configs/metadata.json, configs/inference.json, models/, docs/).
"""

from __future__ import annotations

import hashlib
import io
import json
import re
import zipfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from voxelvault.errors import UsageError

METADATA = "configs/metadata.json"
INFERENCE = "configs/inference.json"
CALIBRATION = "configs/calibration.json"
NETWORKS = ("models/model.onnx", "models/model.pt")
"""Where a network may be; the first that is there is run, unless a runtime takes the other."""

MOST_FILES, MOST_BYTES, MOST_JSON = 2000, 2 << 30, 4 << 20

_PART = re.compile(r"[A-Za-z0-9_+-][A-Za-z0-9 ._+-]{0,120}")


@dataclass(frozen=True)
class Bundle:
    """Files of one bundle.

    Parameters
    ----------
    files : mapping of str to bytes
        By relative POSIX path.

    Raises
    ------
    UsageError
        A name can't be a file's everywhere, or there are too many, or too large ones.
    """

    files: Mapping[str, bytes] = field(repr=False)

    def __post_init__(self) -> None:
        check_names(self.files)
        if sum(map(len, self.files.values())) > MOST_BYTES:
            raise UsageError("the bundle is larger than 2 GiB; leave out what inference doesn't need")
        if METADATA not in self.files:
            raise UsageError(f"this is no MONAI bundle: it has no {METADATA}")

    @cached_property
    def manifest(self) -> bytes:
        """A line a file, as ``sha256sum`` prints it, in order of names: what is signed."""
        lines = (f"{hashlib.sha256(data).hexdigest()}  {name}\n" for name, data in sorted(self.files.items()))
        return "".join(lines).encode()

    @property
    def digest(self) -> str:
        """SHA-256 of the manifest, hexadecimal."""
        return hashlib.sha256(self.manifest).hexdigest()

    @cached_property
    def metadata(self) -> Mapping[str, Any]:
        """What configs/metadata.json says; `UsageError` if it is no JSON object."""
        return self.json(METADATA)

    def json(self, name: str) -> Mapping[str, Any]:
        """Return a JSON object of the bundle, as plain values.

        Raises
        ------
        UsageError
            It isn't there, or is no JSON object.
        """
        data = self.files.get(name, b"")
        try:
            found = json.loads(data) if len(data) <= MOST_JSON else None
        except (ValueError, RecursionError):
            found = None
        if not isinstance(found, dict):
            raise UsageError(f"the bundle's {name} is no JSON object; ask its maker for another copy")
        return found

    @property
    def network(self) -> str:
        """Name of the file that holds the network.

        Raises
        ------
        UsageError
            There is none that is run here.
        """
        for name in NETWORKS:
            if name in self.files:
                return name
        raise UsageError(f"the bundle has no {' or '.join(NETWORKS)}; export its network as ONNX")

    def with_file(self, name: str, data: bytes) -> Bundle:
        """Return a bundle with one file added or replaced: another digest."""
        return Bundle({**self.files, name: data})

    def packed(self) -> bytes:
        """Return one archive, the same bytes for the same files."""
        out = io.BytesIO()
        with zipfile.ZipFile(out, "w", zipfile.ZIP_STORED) as archive:
            for name, data in sorted(self.files.items()):
                archive.writestr(zipfile.ZipInfo(name), data)
        return out.getvalue()


def unpacked(data: bytes) -> Bundle:
    """Return what `Bundle.packed` made; the caller has checked that these are its bytes."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        return Bundle({info.filename: archive.read(info) for info in archive.infolist()})


def check_names(names: Iterable[str]) -> None:
    """Refuse names that lead out of the bundle, or that another system would take for one another.

    Raises
    ------
    UsageError
        The message doesn't repeat the name.
    """
    seen = list(names)
    if len(seen) > MOST_FILES:
        raise UsageError(f"the bundle has more than {MOST_FILES} files; leave out what isn't needed")
    if not all(_PART.fullmatch(part) for name in seen for part in name.split("/")):
        raise UsageError("a file of the bundle has a name that leads elsewhere or isn't plain; rename it")
    if len({name.lower() for name in seen}) != len(seen):
        raise UsageError("two files of the bundle differ by case alone; rename one")


__all__ = ["CALIBRATION", "INFERENCE", "METADATA", "NETWORKS", "Bundle", "check_names", "unpacked"]
