"""What verbs work with: keys, objects, catalog, audit log, policy. Holds, does nothing."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NoReturn

from voxelvault.model import LAYOUT

if TYPE_CHECKING:
    from voxelvault.audit.log import AuditLog
    from voxelvault.catalog.catalog import Catalog
    from voxelvault.crypto.keyring import KeyRing
    from voxelvault.dicom.columns import Tags
    from voxelvault.dicom.decode import DecoderPool
    from voxelvault.model import ObjectStore
    from voxelvault.policy.access import Policy
    from voxelvault.storage.sealed_objects import SealedObjects


@dataclass(slots=True)
class Options:
    """What a session may change; `identifying` is logged when it is switched on."""

    identifying: bool = False
    verify_reads: bool = False
    threads: int | None = None


@dataclass(frozen=True, slots=True)
class Settings:
    """What vault.toml says: public, and bound by its digest in the vault record."""

    vault_id: str
    codec: str = "htj2k"
    residency: str = ""
    objects: str = "local"
    catalog: str = "embedded"
    format: int = LAYOUT


@dataclass(frozen=True, slots=True)
class Resources:
    """One open vault's parts, handed to every verb.

    `log` is the vault's own audit log; `audit` is where this session's entries go: the same one, or
    a side log where the vault can't be written (`read_only`). `vouched` says that something older
    (what this user saw before, a checkpoint, a fingerprint) spoke for the log when it was opened.
    `received` says that somebody handed it over: it is left as it is, and no pin is kept of it.
    """

    settings: Settings
    objects: ObjectStore
    keys: KeyRing
    sealed: SealedObjects
    catalog: Catalog
    audit: AuditLog
    log: AuditLog
    policy: Policy
    pool: DecoderPool
    tags: Tags
    who: str
    purpose: str | None
    options: Options = field(default_factory=Options)
    read_only: bool = False
    vouched: bool = True
    received: bool = False

    def __reduce__(self) -> NoReturn:
        raise TypeError("an open vault cannot be pickled; open it again where you need it")


__all__ = ["Options", "Resources", "Settings"]
