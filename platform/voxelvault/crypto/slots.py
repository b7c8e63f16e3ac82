"""Changing the ways to a vault's root key, and destroying keys: each ends in a new record.

A slot is a public key: the root is sealed to it, so a new root reaches slots whose secrets are not
at hand. Only slots of the proven record ever get one.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace

from voxelvault.crypto.key_state import KeyState
from voxelvault.crypto.key_tree import Role
from voxelvault.crypto.providers.recovery import RecoveryProvider, new_code
from voxelvault.crypto.vault_record import NewSlot, Slot
from voxelvault.errors import UsageError


@dataclass(frozen=True, slots=True)
class DestroyReport:
    """What became of an erasure.

    Parameters
    ----------
    generation : int
        The new one.
    destroyed : tuple of str
        Ids of the keys that are gone, those below the named ones included.
    rolled : tuple of str
        Ids of slots with a new secret: the old one opens old copies of keys/ only.
    not_rolled : tuple of str
        Ids of slots that kept theirs: it opens the vault, and any old copy of keys/ too.
    """

    generation: int
    destroyed: tuple[str, ...]
    rolled: tuple[str, ...]
    not_rolled: tuple[str, ...]


def add(state: KeyState, slot: NewSlot) -> str:
    """Seal the root to one more slot and return its id.

    Raises
    ------
    UsageError
        Its public key is malformed, or its id is taken.
    """
    with state.writing():
        record = state.record
        sealed = slot.seal(state.tree.root, record.vault_id, record.generation)
        if any(known.slot_id == sealed.slot_id for known in record.slots):
            raise UsageError(f"the vault has a slot {sealed.slot_id} already: make the new one anew")
        state.switch(replace(record, slots=(*record.slots, sealed)), state.tree)
        return sealed.slot_id


def remove(state: KeyState, slot_id: str) -> None:
    """Make a new root that every slot but one gets.

    Raises
    ------
    UsageError
        There is no such slot, or it is the last.
    """
    with state.writing():
        slots = state.record.slots
        kept = [slot for slot in slots if slot.slot_id != slot_id]
        if len(kept) == len(slots):
            raise _no_slot(slot_id)
        if not kept:
            raise UsageError("the last slot can't be removed: add another way in first")
        state.regenerate(kept)


def rotate(state: KeyState) -> None:
    """Make a new root that every slot of the proven record gets.

    Raises
    ------
    ForgedRecord
        The stored record was changed by someone without the root key: nobody gets the new root.
    """
    with state.writing():
        state.regenerate(state.record.slots)


def renew_recovery_code(state: KeyState) -> str:
    """Make a new root that a fresh recovery code gets instead of the one before; return the code."""
    code = new_code()
    fresh = RecoveryProvider(code).slot()
    with state.writing():
        kept = [slot for slot in state.record.slots if slot.provider != fresh.provider]
        state.regenerate([*kept, fresh])
    return code


def destroy(state: KeyState, key_ids: Collection[str], roll: Mapping[str, NewSlot]) -> DestroyReport:
    """Make a new root, and pages without the named keys and all below them.

    Parameters
    ----------
    state : KeyState
    key_ids : collection of str
        Keys that are gone already don't count: an erasure can be run again.
    roll : mapping
        New secrets for slots, by slot id (a new key file, a new recovery code).

    Raises
    ------
    UsageError
        One of them is the log's signing key, or `roll` names no slot of this vault.
    """
    with state.writing():
        slots = state.record.slots
        unknown = set(roll) - {slot.slot_id for slot in slots}
        if unknown:
            raise _no_slot(min(unknown))
        doomed = state.tree.below(key_ids)
        if doomed & set(state.keys_of(Role.LOG_SIGNING)):
            raise UsageError("the log's signing key can't be destroyed: the log would lose its identity")
        state.regenerate([_rolled(slot, roll.get(slot.slot_id)) for slot in slots], doomed)
        kept = tuple(slot.slot_id for slot in slots if slot.slot_id not in roll)
        return DestroyReport(state.record.generation, tuple(sorted(doomed)), tuple(roll), kept)


def _no_slot(slot_id: str) -> UsageError:
    return UsageError(f"the vault has no slot {slot_id}: look at its slots again")


def _rolled(slot: Slot, fresh: NewSlot | None) -> Slot:
    if fresh is None:
        return slot
    return Slot(fresh.provider, fresh.public_key, fresh.label, fresh.parameters, slot.slot_id)


__all__ = ["DestroyReport", "add", "destroy", "remove", "renew_recovery_code", "rotate"]
