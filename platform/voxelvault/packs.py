"""Open packs of a vault: manifests checked against the catalog, readers kept for the next read."""

from __future__ import annotations

from collections import OrderedDict

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
    """

    def __init__(self, resources: Resources, threads: int | None = None) -> None:
        self._resources = resources
        self._threads = threads or resources.options.threads
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
        rows = self._resources.catalog.query(
            "select * from packs where pack_id = $id", {"id": pack_id}
        ).to_pylist()
        if not rows:
            raise IntegrityError(f"the catalog lacks pack {pack_id}; run `voxelvault verify`")
        manifest = open_manifest(self._resources, manifest_ref(rows[0]))
        return open_reader(self._resources, manifest, self._threads)


def manifest_ref(row: dict[str, object]) -> SealedRef:
    """Return where the manifest of a row of `packs` is."""
    return SealedRef(
        str(row["manifest_object_id"]),
        str(row["key_id"]),
        int(str(row["manifest_kind"])),
        int(str(row["manifest_length"])),
        str(row["manifest_sha256"]),
    )
