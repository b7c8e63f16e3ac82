"""Derived copies looked through: there, as long as they were, their bytes as they were written.

A copy is never the only place of anything: a damaged one is no failure of the vault.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from voxelvault.audit.events import Event, Kind, Outcome
from voxelvault.errors import UNSEEN, VoxelVaultError
from voxelvault.model import SealedRef, new_id
from voxelvault.resources import Resources
from voxelvault.rows import changes
from voxelvault.storage.layout import DERIVED
from voxelvault.storage.sealed_objects import SealedObjects


@dataclass(slots=True)
class Checked:
    """How many copies were looked at, and what is wrong with which."""

    checked: int = 0
    problems: list[tuple[str, str]] = field(default_factory=list)


def check_copies(resources: Resources, *, read: bool, drop: bool) -> Checked:
    """Look through the derived copies.

    Parameters
    ----------
    resources : Resources
        The open vault.
    read : bool
        Compare the digest of each too; else its length.
    drop : bool
        Take damaged ones out of the catalog, and what is left of their objects away.
    """
    sealed = SealedObjects(resources.objects, resources.settings.vault_id, DERIVED)
    rows = resources.catalog.query("select * from derived order by derived_id").to_pylist()
    found = Checked(len(rows))
    damaged = []
    for row in rows:
        problem = _problem(sealed, row, read)
        if problem:
            damaged.append(row)
            found.problems.append((row["derived_id"], problem))
    if drop and damaged:
        _drop(resources, sealed, [dict(row) for row in damaged])
    return found


def _drop(resources: Resources, sealed: SealedObjects, damaged: Sequence[Mapping[str, Any]]) -> None:
    action, counts = new_id(), {"derived": len(damaged)}
    _log(resources, action, Outcome.INTENT, counts)
    rows = [{"derived_id": row["derived_id"]} for row in damaged]
    info = resources.catalog.commit(changes("derived", rows, "delete"))
    for row in damaged:
        if row["object_id"]:
            sealed.delete(row["object_id"])
    _log(resources, action, Outcome.OK, {**counts, "snapshot": info.snapshot})


def _log(resources: Resources, action: str, outcome: Outcome, counts: Mapping[str, int]) -> None:
    event = Event(
        kind=Kind.DERIVED_REMOVED,
        who=resources.who,
        purpose=resources.purpose,
        outcome=outcome,
        action=action,
        counts=counts,
    )
    resources.audit.append([event])


def _problem(sealed: SealedObjects, row: dict[str, object], read: bool) -> str:
    if not row["object_id"]:
        return "the catalog names no object for this copy"
    ref = SealedRef(
        str(row["object_id"]),
        str(row["derived_id"]),
        int(str(row["object_kind"])),
        int(str(row["object_length"])),
        str(row["object_sha256"]),
    )
    try:
        if read:
            sealed.verify(ref)
        elif sealed.objects.size(sealed.name(ref.object_id)) != ref.length:
            return "the copy has the wrong length"
    except UNSEEN:
        raise
    except VoxelVaultError as error:
        return f"copy: {error}"
    return ""


__all__ = ["Checked", "check_copies"]
