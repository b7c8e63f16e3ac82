"""Ways to a vault's root key: added, removed, rotated, recovered; each with its entries in the log.

An entry of intent precedes each change of the vault record and an outcome with the record's digest
follows: a record that no outcome names was written by a process that died, or by someone else.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from voxelvault.audit.events import Event, Kind, Outcome
from voxelvault.crypto.providers import service_named
from voxelvault.crypto.providers.env import EnvProvider
from voxelvault.crypto.providers.file import FileProvider
from voxelvault.crypto.providers.key_service import KEY
from voxelvault.crypto.providers.passphrase import MEMORY_KIB, PassphraseProvider
from voxelvault.crypto.providers.recipient import recipient_slot
from voxelvault.crypto.vault_record import NewSlot
from voxelvault.errors import OutcomeNotLogged, UsageError, VoxelVaultError
from voxelvault.model import new_id
from voxelvault.opening import key_file_warnings as key_file_warnings
from voxelvault.policy.access import Request, require
from voxelvault.resources import Resources
from voxelvault.upkeep.rolling import rotation_of_services

T = TypeVar("T")

RECOVERY = "recovery"


@dataclass(frozen=True, slots=True)
class SlotInfo:
    """One way to the root key.

    Parameters
    ----------
    slot_id : str
        Random.
    provider : str
        The kind of key that opens it.
    label : str
        For people; stored in clear.
    key : str
        Which key of its service wraps it; empty unless a key service does.
    """

    slot_id: str
    provider: str
    label: str
    key: str = ""


@dataclass(frozen=True, slots=True)
class Recovered:
    """The slot that a recovery made, and the new recovery code, which is shown once."""

    slot_id: str
    recovery_code: str


def list_slots(resources: Resources) -> list[SlotInfo]:
    """Return every way to the root key."""
    resources.keys.refresh()
    return [
        SlotInfo(slot.slot_id, slot.provider, slot.label, str(slot.parameters.get(KEY, "")))
        for slot in resources.keys.slots()
    ]


def add_slot(resources: Resources, slot: NewSlot) -> str:
    """Add a way to the root key and return its slot id.

    Raises
    ------
    UsageError
        That key opens the vault already.
    AuditError
        It could not be logged; then nothing was changed.
    """
    if any(slot.public_key == known.public_key for known in resources.keys.slots()):
        raise UsageError("that key opens the vault already; see `keys list`")
    return _logged(
        resources,
        Kind.SLOT_ADDED,
        slot.provider,
        lambda: resources.keys.add_slot(slot),
        lambda slot_id: (slot_id,),
    )


def add_file(resources: Resources, path: str | os.PathLike[str], label: str = "") -> str:
    """Add a key file, made if it isn't there; return the slot id."""
    provider = FileProvider(path)
    there = os.path.lexists(Path(path).expanduser())
    return add_slot(resources, provider.slot(label) if there else provider.create(label))


def add_passphrase(
    resources: Resources, passphrase: str, label: str = "", *, memory_kib: int = MEMORY_KIB
) -> str:
    """Add a passphrase; return the slot id."""
    return add_slot(resources, PassphraseProvider(passphrase).slot(label, memory_kib=memory_kib))


def add_env(resources: Resources, label: str = "") -> str:
    """Add the private key that `VOXELVAULT_KEY` holds; return the slot id."""
    return add_slot(resources, EnvProvider().slot(label))


def add_recipient(resources: Resources, public_key: str, label: str = "") -> str:
    """Add somebody's public key: the vault can then be handed over, with its fingerprint beside it."""
    return add_slot(resources, recipient_slot(public_key.strip(), label))


def add_service(resources: Resources, kind: str, key: str, label: str = "") -> str:
    """Add a slot whose private key a key service wraps; return the slot id.

    Parameters
    ----------
    resources : Resources
        The open vault.
    kind : str
        `aws-kms`, `pkcs11`, `vault-transit`, or one that an installed package adds.
    key : str
        Which key of the service: an ARN, a pkcs11: URI, a name.
    label : str
        For people; stored in clear.

    Raises
    ------
    UsageError
        There is no such kind, or no key is called that.
    KeyUnavailable
        The service refused or was not reached.
    MissingExtra
        A package that talks to it is not installed.
    """
    return add_slot(resources, service_named(kind, resources.settings.vault_id).slot(key, label))


def public_key(key_file: str | os.PathLike[str]) -> str:
    """Return the public key by which a key file's holder receives vaults; makes the file if need be."""
    provider = FileProvider(key_file)
    if not os.path.lexists(Path(key_file).expanduser()):
        provider.create()
    return provider.recipient_text()


def plan_add(resources: Resources, kind: str) -> list[str]:
    """Return what adding a key of this kind takes away; empty for all but a recovery code."""
    if kind != RECOVERY or not any(slot.provider == RECOVERY for slot in resources.keys.slots()):
        return []
    told = "replace the recovery code: the one before opens the vault no more"
    return [told, *_plan_root(resources, list_slots(resources))]


def plan_remove(resources: Resources, slot_id: str) -> list[str]:
    """Return what removing a slot means.

    Raises
    ------
    UsageError
        There is no such slot, or it is the last.
    """
    slots = {slot.slot_id: slot for slot in list_slots(resources)}
    if slot_id not in slots:
        raise UsageError("the vault has no such slot; `keys list` has their ids")
    if len(slots) == 1:
        raise UsageError("the last slot can't be removed: add another way in first")
    slot = slots.pop(slot_id)
    return [
        f"remove {slot.provider} slot {slot_id}" + (f" ({slot.label})" if slot.label else ""),
        *_plan_root(resources, list(slots.values())),
        "an old copy of the vault's keys/ stays open to whoever has the removed key",
    ]


def remove(resources: Resources, slot_id: str) -> None:
    """Remove a way to the root key; it gets nothing of the new generation.

    Raises
    ------
    UsageError
        There is no such slot, or it is the last.
    """
    plan_remove(resources, slot_id)
    provider = next(slot.provider for slot in resources.keys.slots() if slot.slot_id == slot_id)
    _logged(
        resources,
        Kind.SLOT_REMOVED,
        provider,
        lambda: resources.keys.remove_slot(slot_id),
        lambda _: (slot_id,),
        intended=(slot_id,),
    )


def plan_rotate(resources: Resources) -> list[str]:
    """Return what a rotation does, and how keys of services are rotated: on their side."""
    return [*_plan_root(resources, list_slots(resources)), *rotation_of_services(resources)]


def rotate(resources: Resources) -> None:
    """Make a new root and generation; every slot opens it as before."""
    _logged(
        resources,
        Kind.KEYS_ROTATED,
        None,
        resources.keys.rotate,
        lambda _: tuple(slot.slot_id for slot in resources.keys.slots()),
    )


def renew_recovery_code(resources: Resources) -> str:
    """Make a recovery code and return it; the one before opens nothing from now on.

    Raises
    ------
    OutcomeNotLogged
        The code was made and stands in the error.
    """
    made: list[str] = []

    def renew() -> None:
        made.append(resources.keys.new_recovery_code())

    try:
        _logged(
            resources,
            Kind.KEYS_ROTATED,
            RECOVERY,
            renew,
            lambda _: tuple(slot.slot_id for slot in resources.keys.slots() if slot.provider == RECOVERY),
        )
    except OutcomeNotLogged as error:
        raise OutcomeNotLogged(made[0]) from error.__cause__
    return made[0]


def recover(
    resources: Resources,
    *,
    key_file: str | os.PathLike[str] | None = None,
    passphrase: str | None = None,
    memory_kib: int = MEMORY_KIB,
) -> Recovered:
    """Give a vault that its recovery code opened a new everyday key and a new recovery code.

    Parameters
    ----------
    resources : Resources
        The open vault.
    key_file : path, optional
        Where the new private key goes; nothing may be there.
    passphrase : str, optional
        Instead of a key file.
    memory_kib : int
        Argon2id memory of the passphrase slot.

    Raises
    ------
    UsageError
        Neither or both were given, or the file is there already.
    OutcomeNotLogged
        The keys were changed; a new recovery code, if one was made, stands in the error.
    """
    if (key_file is None) == (passphrase is None):
        raise UsageError("a recovery makes a key file or a passphrase slot: give one of them")
    # The everyday key first: should this be interrupted, the old code still opens the vault.
    if passphrase is not None:
        slot_id = add_passphrase(resources, passphrase, memory_kib=memory_kib)
    else:
        slot_id = add_slot(resources, FileProvider(Path(str(key_file))).create())
    return Recovered(slot_id, renew_recovery_code(resources))


def _plan_root(resources: Resources, kept: list[SlotInfo]) -> list[str]:
    ways = ", ".join(sorted(slot.provider for slot in kept))
    return [
        f"make a new root key, generation {resources.keys.generation + 1}, and wrap every key anew",
        f"{len(kept)} slots open it as before: {ways}",
    ]


def _logged(
    resources: Resources,
    kind: Kind,
    provider: str | None,
    change: Callable[[], T],
    slots: Callable[[T], tuple[str, ...]],
    intended: tuple[str, ...] = (),
) -> T:
    """Ask the policy, enter the intent, change the record, enter the outcome.

    Raises
    ------
    OutcomeNotLogged
        All but the last step was done.
    """
    require(resources.policy, Request(kind, intended, resources.purpose, resources.who))
    action = new_id()
    _enter(resources, kind, action, Outcome.INTENT, provider, intended)
    try:
        result = change()
    except VoxelVaultError:
        _enter(resources, kind, action, Outcome.FAILED, provider, intended)
        raise
    try:
        _enter(resources, kind, action, Outcome.OK, provider, slots(result))
    except (VoxelVaultError, OSError) as error:
        raise OutcomeNotLogged from error
    return result


def _enter(
    resources: Resources,
    kind: Kind,
    action: str,
    outcome: Outcome,
    provider: str | None,
    slots: tuple[str, ...],
) -> None:
    keys = resources.keys
    resources.audit.append(
        [
            Event(
                kind=kind,
                who=resources.who,
                purpose=resources.purpose,
                action=action,
                outcome=outcome,
                ids={"slot": slots} if slots else {},
                counts={"generation": keys.generation, "record_number": keys.number},
                digests={"record": keys.record_digest},
                codes={"provider": (provider,)} if provider else {},
            )
        ]
    )
