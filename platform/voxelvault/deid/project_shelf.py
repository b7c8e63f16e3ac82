"""Where a project lies: a folder of its own, or sealed inside a vault.

::

    project                 the project's document
    batches/<id>            the ledger
    requests/<id>           what was asked for
    approvals/<id>.<who>    who said yes
    opened/<id>             a request that was carried out; it opens nothing a second time
    receipts/<release>      receipts of a release
    pictures/<release>/<id> what was blanked in it, before and after; inside a vault alone

Only the project's document is replaced, and that from the version that was read; and the receipts of
a release that was killed as it was being signed for.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Protocol

from voxelvault.crypto.streaming_aead import Kind
from voxelvault.errors import ObjectMissing, UsageError
from voxelvault.model import ObjectStore
from voxelvault.storage.layout import PROJECTS
from voxelvault.storage.sealed_documents import PathKeys, SealedDocuments

DOCUMENT = "project"
"""Name of a project's own document."""

_LABEL = "projects"


class Shelf(Protocol):
    """Named documents of one project."""

    def put(self, name: str, data: bytes) -> None:
        """Store a document; `ObjectExists` if the name is taken."""

    def swap(self, name: str, data: bytes, expected: str | None) -> None:
        """Replace a document that still is the version that was read; else `ObjectChanged`."""

    def write(self, name: str, parts: Iterable[bytes]) -> None:
        """Store a document, however large, in the place of one that is there."""

    def get(self, name: str) -> tuple[bytes, str]:
        """Return a document and its version; `ObjectMissing` if there is none."""

    def names(self, folder: str) -> Iterator[str]:
        """Yield the names of the documents below a folder, in order."""


@dataclass(frozen=True)
class FolderShelf:
    """A project in a folder of its own; its documents hold nothing in clear that identifies.

    Parameters
    ----------
    objects : ObjectStore
        Of that folder, such as `LocalObjects(path)`.
    prefix : str
        Empty, or the folder within it, with a slash at its end.
    """

    objects: ObjectStore
    prefix: str = ""

    def put(self, name: str, data: bytes) -> None:
        """Store a document; see `Shelf`."""
        self.objects.put(self.prefix + name, [data])

    def swap(self, name: str, data: bytes, expected: str | None) -> None:
        """Replace a document; see `Shelf`."""
        self.objects.swap(self.prefix + name, data, expected)

    def write(self, name: str, parts: Iterable[bytes]) -> None:
        """Store a document, however large; see `Shelf`."""
        self.objects.delete(self.prefix + name)
        self.objects.put(self.prefix + name, parts)

    def get(self, name: str) -> tuple[bytes, str]:
        """Return a document and its version; see `Shelf`."""
        return self.objects.versioned(self.prefix + name)

    def names(self, folder: str) -> Iterator[str]:
        """Yield names below a folder; see `Shelf`."""
        start = len(self.prefix)
        listed = self.objects.list(f"{self.prefix}{folder}/")
        yield from sorted(info.name[start:] for info in listed)


class SealedShelf(SealedDocuments):
    """A project inside a vault: every document is sealed under a key of the vault.

    Parameters
    ----------
    objects : ObjectStore
        The vault's.
    keys : PathKeys
        The vault's key ring.
    project_id : str
        Names the project's folder.
    """

    def __init__(self, objects: ObjectStore, keys: PathKeys, project_id: str) -> None:
        super().__init__(objects, keys, f"{PROJECTS}/{project_id}", _LABEL, Kind.PROJECT)


def projects_in(objects: ObjectStore) -> list[str]:
    """Return the ids of the projects inside a vault, in order; what a release tells of itself is none."""
    names = (info.name.split("/") for info in objects.list(f"{PROJECTS}/"))
    return sorted({name[1] for name in names if name[2:] == [DOCUMENT]})


def shelves_in(objects: ObjectStore) -> list[str]:
    """Return the ids of all that lies where projects lie: projects, and a release's own documents."""
    return sorted({info.name.split("/")[1] for info in objects.list(f"{PROJECTS}/")})


def only_project(objects: ObjectStore) -> str:
    """Return the id of the one project inside a vault.

    Raises
    ------
    ObjectMissing
        There is none.
    UsageError
        There are several.
    """
    ids = projects_in(objects)
    if not ids:
        raise ObjectMissing("the vault holds no project; make one first")
    if len(ids) > 1:
        raise UsageError(f"the vault holds {len(ids)} projects; name one by its id")
    return ids[0]


__all__ = [
    "DOCUMENT",
    "FolderShelf",
    "PathKeys",
    "SealedShelf",
    "Shelf",
    "only_project",
    "projects_in",
    "shelves_in",
]
