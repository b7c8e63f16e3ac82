"""What a removal leaves in the catalog's files, and the keys that must go: one new generation.

The catalog's sealed files span subjects, so no subject's key shreds them: files with deleted rows
are written anew under new keys, former states are forgotten, the catalog file is written anew under
a new key, and every key that seals nothing any more is destroyed with those of what was removed.

Pictures of what was blanked in releases don't say whose they are, so all of them go.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from contextlib import suppress

from voxelvault.crypto.keyring import DestroyReport, Role
from voxelvault.crypto.vault_record import NewSlot
from voxelvault.errors import IntegrityError, ObjectMissing
from voxelvault.model import ObjectStore
from voxelvault.resources import Resources
from voxelvault.storage.layout import CATALOG, PICTURES, PROJECTS, object_id_of
from voxelvault.storage.sealed_objects import SealedObjects


def destroy(resources: Resources, key_ids: Collection[str], roll: Mapping[str, NewSlot]) -> DestroyReport:
    """Write the catalog anew, then destroy its former keys and these; it can be run again."""
    _drop_pictures(resources.objects)
    resources.keys.refresh()
    candidates = set(resources.keys.keys_of(Role.PARQUET))
    resources.catalog.maintain(grace=0.0)
    former = resources.catalog.rebuild().dead_keys
    unused = candidates - _sealing(resources)
    return resources.keys.destroy({*key_ids, *former, *unused}, roll)


def _drop_pictures(objects: ObjectStore) -> None:
    for name in [info.name for info in objects.list(f"{PROJECTS}/")]:
        if name.split("/")[2:3] == [PICTURES]:
            objects.delete(name)


def _sealing(resources: Resources) -> set[str]:
    """Return the keys that seal the catalog's files."""
    sealed = SealedObjects(resources.objects, resources.settings.vault_id, CATALOG)
    found: set[str] = set()
    for info in resources.objects.list(f"{CATALOG}/"):
        object_id = object_id_of(info.name)
        if object_id is not None:
            # A file that could not be looked at may be sealed by any key.
            with suppress(ObjectMissing, IntegrityError):
                found.add(sealed.preamble(object_id).key_id)
    return found


__all__ = ["destroy"]
