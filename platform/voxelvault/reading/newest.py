"""Is the newest pack there: what an older copy of objects/ that was put back lacks."""

from __future__ import annotations

from voxelvault.errors import ObjectMissing, RollbackDetected
from voxelvault.resources import Resources


def check_newest_pack(resources: Resources) -> None:
    """Look for the object of the pack that the catalog got last.

    Raises
    ------
    RollbackDetected
        It is not there.
    """
    rows = resources.catalog.query(
        "select manifest_object_id from packs order by created desc, pack_id limit 1"
    ).to_pylist()
    for row in rows:
        try:
            resources.objects.size(resources.sealed.name(row["manifest_object_id"]))
        except ObjectMissing:
            raise RollbackDetected(
                "the newest objects are missing, as if an older objects/ was put back; restore the newer one,"
                " or accept this one with --accept-restore and run `voxelvault verify`"
            ) from None


__all__ = ["check_newest_pack"]
