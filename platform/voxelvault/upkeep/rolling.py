"""New secrets for slots of key services at an erasure, and what still opens an old copy of keys/.

What a service wrapped once it opens again for whoever it lets, so a new key pair closes an old copy
only once the service's key, or the version of it that wrapped the old pair, is gone.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from voxelvault.crypto.providers import LOCAL, service_kinds, service_named
from voxelvault.crypto.providers.key_service import KEY
from voxelvault.crypto.slots import DestroyReport
from voxelvault.crypto.vault_record import NewSlot, Slot
from voxelvault.errors import KeyUnavailable, MissingExtra, UsageError
from voxelvault.resources import Resources

_UNTIL = {
    "aws-kms": "that KMS key is deleted: KMS keeps its former versions as long as the key",
    "pkcs11": "that key is destroyed in the token",
    "vault-transit": "that key's former versions are retired: raise its min_decryption_version",
}
_ROTATES = {
    "aws-kms": "KMS rotates its key by itself and opens what former versions wrapped",
    "pkcs11": "a token's key stays: add a slot with another key, then remove this one",
    "vault-transit": "`vault write -f transit/keys/NAME/rotate` makes the next version of its key",
}


@dataclass(frozen=True, slots=True)
class Successors:
    """New key pairs of slots of key services.

    Parameters
    ----------
    roll : mapping of str to NewSlot
        By slot id, as erasures and `KeyRing.destroy` take them; each was seen to open.
    refused : mapping of str to str
        Slot ids whose service refused or was not reached, and why: those keep their key pair.
    """

    roll: Mapping[str, NewSlot]
    refused: Mapping[str, str]


def successors(resources: Resources) -> Successors:
    """Have key services wrap a fresh key pair for each of their slots."""
    roll: dict[str, NewSlot] = {}
    refused: dict[str, str] = {}
    for slot in resources.keys.slots():
        if slot.provider in LOCAL:
            continue
        try:
            roll[slot.slot_id] = _successor(slot, resources.settings.vault_id)
        except (KeyUnavailable, MissingExtra, UsageError) as error:
            refused[slot.slot_id] = str(error)
    return Successors(roll, refused)


def _successor(slot: Slot, vault_id: str) -> NewSlot:
    service = service_named(slot.provider, vault_id)
    made = service.slot(str(slot.parameters.get(KEY, "")), slot.label, slot.slot_id)
    if made.slot_id != slot.slot_id or service.unlock(made) is None:
        raise KeyUnavailable(f"slot {slot.slot_id}: its service does not give back what it wrapped")
    return made


def old_copies(resources: Resources, report: DestroyReport) -> list[str]:
    """Say of each slot, a line each, what it opens after an erasure: for people and certificates.

    Parameters
    ----------
    resources : Resources
    report : DestroyReport
        Of the erasure; slots that were removed since are left out.
    """
    return [
        _line(slot, slot.slot_id in report.rolled)
        for slot in resources.keys.slots()
        if slot.slot_id in {*report.rolled, *report.not_rolled}
    ]


def _line(slot: Slot, rolled: bool) -> str:
    named = f"{slot.provider} slot {slot.slot_id}" + (f" ({slot.label})" if slot.label else "")
    if not rolled:
        return f"not rolled: {named} opens the vault, and any old copy of keys/ too"
    if slot.provider in LOCAL:
        return f"rolled: {named}; its former secret opens old copies of keys/ only"
    until = _UNTIL.get(slot.provider, "the service's key is gone")
    return (
        f"rolled: {named}; old copies of keys/ stay open to whom key {slot.parameters.get(KEY, '')} "
        f"serves, until {until}"
    )


def rotation_of_services(resources: Resources) -> list[str]:
    """Say, a line for each kind of key service among the slots, how its own key is rotated."""
    kinds = sorted({slot.provider for slot in resources.keys.slots()} & set(_kinds(resources)))
    own = "its key is rotated on the service's side"
    return [f"{kind}: the slot's key pair stays; {_ROTATES.get(kind, own)}" for kind in kinds]


def _kinds(resources: Resources) -> tuple[str, ...]:
    # Most vaults have no such slot, and looking for installed packages takes time.
    local = all(slot.provider in LOCAL for slot in resources.keys.slots())
    return () if local else service_kinds()


__all__ = ["Successors", "old_copies", "rotation_of_services", "successors"]
