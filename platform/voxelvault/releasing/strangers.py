"""What lies in a release that is a vault and is not its own: images that somebody copied into it, say.

An object is the release's own where a manifest, the quarantine, the catalog, the vault record or the
log names it, or where it opens, at its very place, with a key of the release.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path

from voxelvault.audit.events import Kind
from voxelvault.audit.shelf import text_name
from voxelvault.catalog.catalog_file import NAME as CATALOG_FILE
from voxelvault.crypto import streaming_aead
from voxelvault.crypto.key_store import PAGES, RECORD
from voxelvault.crypto.key_tree import Role
from voxelvault.crypto.vault_record import parse
from voxelvault.deid.project_shelf import SealedShelf
from voxelvault.errors import VoxelVaultError
from voxelvault.reading.packs import manifest_ref, open_manifest
from voxelvault.releasing.targets import lying
from voxelvault.resources import Resources
from voxelvault.storage.layout import (
    CATALOG,
    DERIVED,
    DOCUMENTS,
    LOCKS,
    OBJECTS,
    PROJECTS,
    TAGS,
    VAULT_TOML,
    object_id_of,
    object_name,
)
from voxelvault.storage.sealed_documents import SealedDocuments
from voxelvault.storage.sealed_objects import SealedObjects

_WINDOW = 1 << 20
"""Plaintext opened at a time, in bytes."""

_LEFT = re.compile(
    r"(objects|derived|catalog|audit/text)(/[0-9a-f]{2})?|keys(/pages)?|locks|documents"
    r"|audit(/(edge|full|(tile|entries)(/x?[0-9]+)*))?|projects(/[0-9a-f]{32}(/[a-z]+)?)?"
)
"""Folders that stay behind when the last object in them goes."""

_LOCK = re.compile(rf"{LOCKS}/[a-z]{{1,16}}")
_TEMPORARY = re.compile(r"\.tmp-[0-9a-f]{16}")


def strangers(resources: Resources) -> Iterator[str]:
    """Yield the names of all that lies in an open release and is not its own.

    Parameters
    ----------
    resources : Resources
        The release. On a local disk, links and empty folders count, too.
    """
    root: Path | None = getattr(resources.objects, "root", None)
    own = _named(resources)
    if root is None:
        listed = (info.name for info in resources.objects.list(""))
        yield from (name for name in listed if name not in own and not _opens(resources, name))
        return
    for name, plain in lying(root):
        if plain:
            if name not in own and not _opens(resources, name) and not _is_left(root, name):
                yield name
        elif (root / name).is_symlink() or not (root / name).is_dir() or not _LEFT.fullmatch(name):
            yield name


def _named(resources: Resources) -> set[str]:
    """Return the names of the objects that the release's own parts name."""
    pages = parse(resources.objects.get(RECORD)).record.pages
    found = {VAULT_TOML, RECORD, CATALOG_FILE, *(PAGES + page.page_id for page in pages)}
    found |= resources.log.names()
    for entry in resources.log.entries():
        if entry.text is not None:
            found.add(text_name(entry.text))
        if entry.kind == Kind.CATALOG_CHANGED:
            found.add(TAGS)
    found |= _names(OBJECTS, _packed(resources))
    for area, table in ((OBJECTS, "quarantine"), (DERIVED, "derived")):
        query = f"select object_id from {table} where object_id is not null"  # noqa: S608 - names of ours
        found |= _names(area, resources.catalog.query(query)["object_id"].to_pylist())
    return found


def _names(area: str, object_ids: Iterable[str]) -> set[str]:
    return {object_name(area, object_id) for object_id in object_ids}


def _packed(resources: Resources) -> Iterator[str]:
    """Yield the ids of manifests and of what they name."""
    for row in resources.catalog.query("select * from packs").to_pylist():
        ref = manifest_ref(row)
        yield ref.object_id
        yield from (one.object_id for one in open_manifest(resources, ref).objects())


def _opens(resources: Resources, name: str) -> bool:
    """Tell whether a key of the release opens an object that nothing names, there and nowhere else."""
    area, *rest = name.split("/", 2)
    with suppress(VoxelVaultError):
        if area == CATALOG:
            return _opens_catalog(resources, object_id_of(name) or "")
        if area == PROJECTS and len(rest) == 2:
            SealedShelf(resources.objects, resources.keys, rest[0]).get(rest[1])
            return True
        if area == DOCUMENTS and len(rest) == 2:
            place, kind = f"{DOCUMENTS}/{rest[0]}", streaming_aead.Kind.DOCUMENT
            SealedDocuments(resources.objects, resources.keys, place, DOCUMENTS, kind).get(rest[1])
            return True
    return False


def _opens_catalog(resources: Resources, object_id: str) -> bool:
    """Tell so of a file of the catalog: former states stay for a day."""
    sealed = SealedObjects(resources.objects, resources.settings.vault_id, CATALOG)
    ref = sealed.describe(object_id)
    if ref.key_id not in resources.keys.keys_of(Role.PARQUET):
        return False
    reader = sealed.reader(ref, resources.keys.dek(ref.key_id))
    for start in range(0, reader.size, _WINDOW):
        reader.read(start, min(start + _WINDOW, reader.size))
    return True


def _is_left(root: Path, name: str) -> bool:
    """Tell whether it is an empty lock file, or the other name of an object whose writer was killed."""
    path = root / name
    if _LOCK.fullmatch(name):
        return path.stat().st_size == 0
    if not _TEMPORARY.fullmatch(path.name):
        return False
    data = path.read_bytes()
    return any(
        one.read_bytes() == data
        for one in path.parent.iterdir()
        if one.name != path.name and one.is_file() and one.stat().st_size == len(data)
    )


__all__ = ["strangers"]
