"""Where things lie in a vault, and which names are allowed there.

::

    vault.toml     format version, vault id, places: public
    keys/          the vault record and pages of wrapped keys
    objects/ab/    sealed objects under random ids, fanned out by the first two digits
    derived/ab/    caches: sealed and rebuildable
    projects/      projects of de-identification: sealed documents, named by random ids
    documents/     what pipelines keep: sealed documents, by area and name
    catalog/       the catalog file and sealed Parquet
    audit/         Merkle tiles, sealed entries, checkpoints
    locks/         lock files of a local vault, leases of one in object storage: never objects
"""

from __future__ import annotations

import re

from voxelvault.errors import StorageError

VAULT_TOML = "vault.toml"
TAGS = "tags.toml"
KEYS = "keys"
OBJECTS = "objects"
DERIVED = "derived"
PROJECTS = "projects"
PICTURES = "pictures"
"""Folder of a project: what was blanked, by release."""
DOCUMENTS = "documents"
CATALOG = "catalog"
AUDIT = "audit"
LOCKS = "locks"

# A leading dot is the store's own: temporary files start with one, and `..` can't be written.
_PART = re.compile(r"[a-z0-9_-][a-z0-9._-]{0,200}")
_ID = re.compile(r"[0-9a-f]{32}")


def object_name(area: str, object_id: str) -> str:
    """Return the name of an object: `objects/ab/ab…`.

    Parameters
    ----------
    area : str
        `objects`, `derived` or `catalog`.
    object_id : str
        32 lower-case hexadecimal digits.

    Raises
    ------
    StorageError
        The id is not an id, or the area is not a name.
    """
    if not _ID.fullmatch(object_id):
        raise StorageError("an object id has 32 lower-case hexadecimal digits: pass the id as it was listed")
    return f"{check_name(area)}/{object_id[:2]}/{object_id}"


def object_id_of(name: str) -> str | None:
    """Return the id within a name that `object_name` made, or None for any other name."""
    *folders, last = name.split("/")
    well_placed = len(folders) >= 2 and folders[-1] == last[:2]
    return last if well_placed and _ID.fullmatch(last) else None


def check_name(name: str) -> str:
    """Return the name if it is relative, of allowed letters and free of escapes.

    Raises
    ------
    StorageError
        A part is empty, starts with a dot, or holds anything but `[a-z0-9._-]`.
    """
    if not all(map(_PART.fullmatch, name.split("/"))):
        raise StorageError("an object name is made of [a-z0-9._-] parts joined by /: rename the object")
    return name


def check_object(name: str) -> str:
    """Return the name if it may be an object's: `check_name`, and not among the lock files."""
    if check_name(name).partition("/")[0] == LOCKS:
        raise StorageError("objects can't lie among the lock files: give the object another folder")
    return name


def check_prefix(prefix: str) -> tuple[str, str]:
    """Split a listing prefix into its folder (no trailing slash) and the start of a name."""
    folder, slash, start = prefix.rpartition("/")
    if slash:
        check_name(folder)
    if start:
        check_name(start)
    return folder, start


__all__ = [
    "AUDIT",
    "CATALOG",
    "DERIVED",
    "DOCUMENTS",
    "KEYS",
    "LOCKS",
    "OBJECTS",
    "PICTURES",
    "PROJECTS",
    "TAGS",
    "VAULT_TOML",
    "check_name",
    "check_object",
    "check_prefix",
    "object_id_of",
    "object_name",
]
