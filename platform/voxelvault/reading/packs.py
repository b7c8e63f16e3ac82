"""Open packs of a vault: manifests checked against the catalog, readers kept for the next read."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Protocol

from voxelvault.errors import IntegrityError, UnknownUID
from voxelvault.model import SealedRef
from voxelvault.resources import Resources
from voxelvault.storage.pack import MANIFEST_LABEL, Manifest, manifest_from_bytes
from voxelvault.storage.pack_reader import PackReader
from voxelvault.storage.sealed_objects import SealedObjects

KEPT = 64
"""Pack readers that stay open; those of many series need more, see `keep`."""


class PackSource(Protocol):
    """Whatever opens packs: the vault's own process by its keys, a worker by a loan."""

    def reader(self, pack_id: str) -> PackReader:
        """Return the reader of one pack."""


def checked_manifest(sealed: SealedObjects, ref: SealedRef, key: bytes) -> Manifest:
    """Return the manifest that a reference names, opened with the study's sub-key for manifests.

    Raises
    ------
    IntegrityError
        Its bytes are not those that were committed, or it is another vault's.
    """
    manifest = manifest_from_bytes(sealed.open_whole(ref, key))
    if manifest.vault_id != sealed.vault_id:
        raise IntegrityError(f"pack {manifest.pack_id} belongs to another vault; run `voxelvault verify`")
    return manifest


def open_manifest(resources: Resources, ref: SealedRef) -> Manifest:
    """Return the manifest that a catalog row names.

    Raises
    ------
    IntegrityError
        Its bytes are not those that were committed.
    """
    return checked_manifest(resources.sealed, ref, resources.keys.sub_key(ref.key_id, MANIFEST_LABEL))


def open_reader(resources: Resources, manifest: Manifest, threads: int | None = None) -> PackReader:
    """Return the reader of a pack whose manifest was checked."""
    dek = resources.keys.unwrap_dek(manifest.study_key_id, manifest.pack_id, manifest.wrapped_dek)
    options = resources.options
    return PackReader(
        manifest, dek, resources.sealed, resources.pool, threads or options.threads, options.verify_reads
    )


class KeptReaders:
    """Pack readers by pack id; the last few stay open. Safe to share between threads.

    Parameters
    ----------
    open_pack : callable
        Opens the reader of a pack id.
    keep : int
        How many stay open.
    """

    def __init__(self, open_pack: Callable[[str], PackReader], keep: int = KEPT) -> None:
        self._open_pack = open_pack
        self._keep = keep
        self._readers: OrderedDict[str, PackReader] = OrderedDict()
        self._lock = threading.Lock()

    def reader(self, pack_id: str) -> PackReader:
        """Return the reader of one pack.

        Raises
        ------
        IntegrityError
            There is no such pack, or its manifest is not what was committed.
        """
        with self._lock:
            reader = self._readers.get(pack_id)
            if reader is not None:
                self._readers.move_to_end(pack_id)
                return reader
        reader = self._open_pack(pack_id)
        with self._lock:
            # Another thread may have opened it meanwhile: one of the two has shards open already.
            reader = self._readers.setdefault(pack_id, reader)
            if len(self._readers) > self._keep:
                self._readers.popitem(last=False)
        return reader


class PackCache(KeptReaders):
    """Packs of an open vault, by the keys of its ring.

    Parameters
    ----------
    resources : Resources
        The open vault.
    threads : int, optional
        Decoding threads of each reader.
    rows : iterable of mapping
        Rows of the catalog's `packs` that are at hand already.
    keep : int
        Readers that stay open.
    """

    def __init__(
        self,
        resources: Resources,
        threads: int | None = None,
        rows: Iterable[Mapping[str, Any]] = (),
        keep: int = KEPT,
    ) -> None:
        super().__init__(self._open, keep)
        self._resources = resources
        self._threads = threads or resources.options.threads
        self._rows = {row["pack_id"]: row for row in rows}

    def _open(self, pack_id: str) -> PackReader:
        row = self._rows.get(pack_id) or self._row(pack_id)
        manifest = open_manifest(self._resources, manifest_ref(row))
        return open_reader(self._resources, manifest, self._threads)

    def _row(self, pack_id: str) -> Mapping[str, Any]:
        rows = self._resources.catalog.query("select * from packs where pack_id = $id", {"id": pack_id})
        if not rows.num_rows:
            raise IntegrityError(f"the catalog lacks pack {pack_id}; run `voxelvault verify`")
        found: Mapping[str, Any] = rows.to_pylist()[0]
        return found


def manifest_ref(row: Mapping[str, Any]) -> SealedRef:
    """Return where the manifest of a row of `packs` is."""
    return SealedRef(
        str(row["manifest_object_id"]),
        str(row["key_id"]),
        int(str(row["manifest_kind"])),
        int(str(row["manifest_length"])),
        str(row["manifest_sha256"]),
    )


def issuers_of_studies(resources: Resources, study_ids: Sequence[str]) -> dict[str, str]:
    """Return the issuer of the patient id that each study came in with, empty where there was none.

    A study may belong to another subject by now: its packs remember.

    Raises
    ------
    UnknownUID
        There is no such study.
    """
    rows = resources.catalog.query(
        "select distinct on (study_id) * from packs where study_id in (select unnest($ids))"
        " order by study_id, created, pack_id",
        {"ids": list(study_ids)},
    ).to_pylist()
    if {row["study_id"] for row in rows} != set(study_ids):
        raise UnknownUID("no such study in this vault; a query on the table `studies` lists them")
    return {row["study_id"]: open_manifest(resources, manifest_ref(row)).identity.issuer for row in rows}
