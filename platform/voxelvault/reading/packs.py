"""Open packs of a vault: manifests checked against the catalog, readers kept for the next read."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Mapping
from typing import Any

from voxelvault.errors import IntegrityError
from voxelvault.model import SealedRef
from voxelvault.resources import Resources
from voxelvault.storage.pack import MANIFEST_LABEL, Manifest, manifest_from_bytes
from voxelvault.storage.pack_reader import PackReader

KEPT = 64


def open_manifest(resources: Resources, ref: SealedRef) -> Manifest:
    """Return the manifest that a catalog row names.

    Raises
    ------
    IntegrityError
        Its bytes are not those that were committed.
    """
    key = resources.keys.sub_key(ref.key_id, MANIFEST_LABEL)
    manifest = manifest_from_bytes(resources.sealed.open_whole(ref, key))
    if manifest.vault_id != resources.settings.vault_id:
        raise IntegrityError(f"pack {manifest.pack_id} belongs to another vault; run `voxelvault verify`")
    return manifest


def open_reader(resources: Resources, manifest: Manifest, threads: int | None = None) -> PackReader:
    """Return the reader of a pack whose manifest was checked."""
    dek = resources.keys.unwrap_dek(manifest.study_key_id, manifest.pack_id, manifest.wrapped_dek)
    options = resources.options
    return PackReader(
        manifest, dek, resources.sealed, resources.pool, threads or options.threads, options.verify_reads
    )


class PackCache:
    """Pack readers by pack id; keeps the last few open.

    Parameters
    ----------
    resources : Resources
        The open vault.
    threads : int, optional
        Decoding threads of each reader.
    rows : iterable of mapping
        Rows of the catalog's `packs` that are at hand already.
    """

    def __init__(
        self, resources: Resources, threads: int | None = None, rows: Iterable[Mapping[str, Any]] = ()
    ) -> None:
        self._resources = resources
        self._threads = threads or resources.options.threads
        self._rows = {row["pack_id"]: row for row in rows}
        self._readers: OrderedDict[str, PackReader] = OrderedDict()

    def reader(self, pack_id: str) -> PackReader:
        """Return the reader of one pack.

        Raises
        ------
        IntegrityError
            The catalog has no such pack, or its manifest is not what was committed.
        """
        reader = self._readers.get(pack_id)
        if reader is None:
            reader = self._open(pack_id)
            self._readers[pack_id] = reader
            if len(self._readers) > KEPT:
                self._readers.popitem(last=False)
        return reader

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
