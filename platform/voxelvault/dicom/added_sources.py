"""Ingest sources that other packages add: `ingest("name:where")`.

A source finds files by an address of its own and reads each by its name, in whatever process it is
asked to. What it raises is that file's trouble, never the batch's.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Protocol

from voxelvault import plugins
from voxelvault.dicom.sources import Found, Refusal, Source, find_files
from voxelvault.errors import StorageError, UsageError, VoxelVaultError
from voxelvault.model import Buffer

OWN = frozenset(["azure", "file", "ftp", "gs", "http", "https", "memory", "s3", "sftp"])
"""Names that no package can take: they mean something already, or may."""

_ADDRESS = re.compile(r"([a-z][a-z0-9-]{1,31}):(.*)", re.DOTALL)


class IngestSource(Protocol):
    """What a package adds: an object, or a module with these two functions."""

    def find(self, where: str) -> Iterable[tuple[str, int]]:
        """Yield name and size in bytes of each file at an address; about right will do."""

    def read(self, name: str) -> bytes:
        """Return one file."""


@dataclass(frozen=True, slots=True)
class Address:
    """Something to ingest that is no path: the source's name, and what it understands."""

    source: str
    where: str

    def __repr__(self) -> str:
        return f"<Address of {self.source}>"


def address(given: object) -> Address | None:
    """Return the address that a text is; None for a path, also one with a colon that is there.

    Raises
    ------
    UsageError
        No package adds that source.
    """
    matched = _ADDRESS.fullmatch(given) if isinstance(given, str) else None
    if matched is None or Path(matched[0]).exists():
        return None
    names = [plugin.name for plugin in plugins.listed(plugins.INGEST_SOURCES, OWN)]
    if matched[1] not in names:
        raise UsageError(
            f"there is no path of that name, and no ingest source {matched[1]!r}; there are: "
            + (", ".join(names) or "none, install a package that adds one")
        )
    return Address(matched[1], matched[2])


def source_named(name: str) -> IngestSource:
    """Return the ingest source of that name.

    Raises
    ------
    UsageError
        No package adds it, or the name is not to be used.
    PluginFailed
        The package can't be loaded.
    """
    found: IngestSource | None = plugins.load(plugins.INGEST_SOURCES, name, OWN)
    if found is None:
        raise UsageError(f"no package here adds the ingest source {name!r}; install it, also on workers")
    return found


@dataclass(frozen=True, slots=True)
class AddedSource(Source):
    """A file of an added source, read by its name; never removed."""

    source: str = ""
    name: str = ""

    @property
    def display(self) -> str:
        """The source's own name for it: identifying, for the interactive report only."""
        return f"{self.source}:{self.name}"

    @contextmanager
    def open(self) -> Iterator[Buffer]:
        """Give the bytes."""
        yield self.read()

    def read(self) -> Buffer:
        """Return the bytes; `StorageError` for whatever the source raises."""
        source = source_named(self.source)
        try:
            data = source.read(self.name)
        except Exception as error:
            failed = type(error).__name__
        else:
            if isinstance(data, bytes):
                return data
            failed = f"it gave {type(data).__name__}, not bytes"
        raise StorageError(f"the ingest source {self.source} can't read a file ({failed}); ask its makers")

    def remove(self) -> None:
        """Leave it: a source's files are not ours to delete."""


def offered(found: Address) -> Iterator[Source | Refusal]:
    """Find the files at an address.

    Raises
    ------
    UsageError, PluginFailed
        As `source_named`.
    """
    source = source_named(found.source)
    try:
        for name, size in source.find(found.where):
            path = Path(f"{found.source}:{name}")
            yield AddedSource(path, int(size), None, found.source, str(name))
    except VoxelVaultError:
        raise
    except Exception as error:
        reason = f"the ingest source failed here ({type(error).__name__}); ask its makers"
        yield Refusal(f"{found.source}:{found.where}", reason)


def find_everything(given: Iterable[str | os.PathLike[str]], *, absolute: bool = False) -> Iterator[Found]:
    """Find everything to ingest: paths, as `find_files` does, and addresses of added sources.

    Parameters
    ----------
    given : iterable of path or str
        Folders, files, archives, DICOMDIRs, and ``name:where``.
    absolute : bool
        Make paths absolute, for processes that may stand elsewhere.

    Raises
    ------
    UsageError
        A path or a source doesn't exist; raised before anything is yielded.
    PluginFailed
        A source's package can't be loaded.
    """
    paths: list[Path] = []
    addresses: list[Address] = []
    for one in given:
        if (found := address(one)) is not None:
            source_named(found.source)
            addresses.append(found)
        else:
            path = Path(one).expanduser()
            paths.append(path.absolute() if absolute else path)
    return chain(find_files(paths), chain.from_iterable(map(offered, addresses)))


__all__ = [
    "AddedSource",
    "Address",
    "IngestSource",
    "OWN",
    "address",
    "find_everything",
    "offered",
    "source_named",
]
