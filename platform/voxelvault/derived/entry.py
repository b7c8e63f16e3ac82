"""One derived copy as the catalog has it; light, since it travels to workers within a loan."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING

from voxelvault.derived.brick_reader import BrickReader
from voxelvault.derived.bricks import BrickLayout
from voxelvault.model import SealedRef
from voxelvault.storage.sealed_objects import SealedObjects

if TYPE_CHECKING:
    from voxelvault.resources import Resources


@dataclass(frozen=True, slots=True)
class Entry:
    """One copy as the catalog has it. It pickles, and holds no key that opens anything by itself.

    Parameters
    ----------
    derived_id : str
        Opaque id of the copy, and of its key.
    series_id, key_id : str
        The series, and the study key that its key is wrapped under.
    kind : {"bricks", "masks", "frames"}
        What it is.
    recipe, recipe_sha256, source_sha256 : str
        What it was made by, and of which instances.
    ref : SealedRef
        The object.
    layout : BrickLayout
        What its reader needs.
    created, used : datetime
        When it was made, and last asked for; UTC.
    """

    derived_id: str
    series_id: str
    key_id: str
    kind: str
    recipe: str
    recipe_sha256: str
    source_sha256: str
    ref: SealedRef
    layout: BrickLayout
    wrapped_dek: str = field(repr=False)
    created: datetime
    used: datetime

    def dek(self, resources: Resources) -> bytes:
        """Return its key, to be used here or lent (`lend(extra_keys={entry.derived_id: …})`).

        Raises
        ------
        KeyUnavailable
            The study was erased.
        """
        return resources.keys.unwrap_dek(self.key_id, self.derived_id, self.wrapped_dek)

    def open(self, sealed: SealedObjects, dek: bytes) -> BrickReader:
        """Return its reader; `sealed` is of the area `derived`: `derived_objects`, or `OpenLoan.sealed`."""
        return BrickReader(sealed, self.ref, dek, self.layout)


__all__ = ["Entry"]
