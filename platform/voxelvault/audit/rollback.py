"""Noticing that a vault was put back, and accepting it when that was meant.

A vault can prove that it is whole, never that it is the newest: yesterday's copy is whole too. So
each user keeps a pin of what was last seen, and opening compares.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

from voxelvault.audit.checkpoint import Checkpoint, open_checkpoint
from voxelvault.audit.events import Event, Kind, Outcome
from voxelvault.audit.log import AuditLog
from voxelvault.config import Pin, Pins
from voxelvault.errors import RollbackDetected

_WINDOW = 256
"""Entries looked through at a time: a bundle."""


def check_pin(
    pins: Pins | None, vault_id: str, log: AuditLog, record_number: int, *, given: str | None = None
) -> None:
    """Compare an opened vault with what was last seen of it, then keep what is seen now.

    Parameters
    ----------
    pins : Pins or None
        The user's pins; a vault never seen before is taken as it is. None compares with none, and keeps
        none.
    vault_id : str
        32 hexadecimal digits.
    log : AuditLog
        The vault's log.
    record_number : int
        Number of its vault record.
    given : str, optional
        A signed checkpoint that was kept elsewhere, compared too.

    Raises
    ------
    RollbackDetected
        Log or keys are older than what was seen; the pin stays as it is.
    """
    pin = None if pins is None else pins.load(vault_id)
    if given is not None:
        log.extends(given)
    if pins is None:
        return
    if pin is not None:
        log.extends(pin.checkpoint)
        if record_number < pin.record_number:
            raise RollbackDetected(
                f"vault record {record_number} was found and {pin.record_number} had been seen: an older "
                "keys/ was put back; restore the newer one, or accept this one with --accept-restore"
            )
    remember(pins, vault_id, log, record_number)


def check_heads(log: AuditLog, numbers: Mapping[str, int]) -> None:
    """Compare parts of a vault with what its log last said of them.

    Parameters
    ----------
    log : AuditLog
        The vault's log, found to be no older than what was seen.
    numbers : mapping of str to int
        `record_number` and `snapshot` as found: each only ever grows.

    Raises
    ------
    RollbackDetected
        Keys or catalog are older than the log.
    """
    told = _last_told(log, numbers.keys())
    for name, place in (("record_number", "keys/"), ("snapshot", "catalog/")):
        if numbers[name] < told.get(name, 0):
            raise RollbackDetected(
                f"an older {place} was put back: the log knows of {told[name]}, it is at {numbers[name]}; "
                "restore the newer one, or accept this one with --accept-restore"
            )


def _last_told(log: AuditLog, names: Collection[str]) -> dict[str, int]:
    """Return the largest numbers of late, back to a restore or rebuild; every opening enters them."""
    told: dict[str, int] = {}
    size = log.size
    for start in range((size - 1) // _WINDOW * _WINDOW, -1, -_WINDOW):
        for entry in reversed(list(log.entries(start, min(start + _WINDOW, size)))):
            if entry.kind == Kind.RESTORE_ACCEPTED:
                return told
            anew = entry.kind == Kind.CATALOG_REBUILT and entry.outcome != Outcome.INTENT
            for name in names & entry.counts.keys():
                told[name] = max(told.get(name, 0), entry.counts[name])
            if anew:
                # A new catalog counts from its beginning.
                return told
        # Entries of ingests at once may stand out of order, by a few.
        if told and size - start > _WINDOW:
            break
    return told


def remember(pins: Pins, vault_id: str, log: AuditLog, record_number: int) -> Pin:
    """Keep the newest state; called after what was done.

    Parameters
    ----------
    pins, vault_id, log, record_number
        As for `check_pin`.

    Returns
    -------
    Pin
        What is kept now.

    Raises
    ------
    NoPermission, NoSpace
        The configuration can't be written.
    """
    return pins.save(vault_id, _pin(log, record_number))


def accept_restore(
    pins: Pins, vault_id: str, log: AuditLog, record_number: int, *, who: str, reason: str | None = None
) -> Pin:
    """Take an older copy for the vault from now on: logged first, pinned then.

    Parameters
    ----------
    pins, vault_id, log, record_number
        As for `check_pin`.
    who : str
        Who accepts it.
    reason : str, optional
        Free text for the entry.

    Returns
    -------
    Pin
        What is kept now.

    Raises
    ------
    AuditError
        It could not be logged, so the old pin stays.
    """
    pinned = pins.load(vault_id)
    found = open_checkpoint(log.checkpoint(), log.key)
    seen = found if pinned is None else open_checkpoint(pinned.checkpoint, log.key)
    numbers = record_number if pinned is None else pinned.record_number, record_number
    log.append([_restore_event(seen, found, numbers, who, reason)])
    return pins.save(vault_id, _pin(log, record_number), go_back=True)


def _pin(log: AuditLog, record_number: int) -> Pin:
    note = log.checkpoint()
    return Pin(open_checkpoint(note, log.key).size, note, record_number)


def _restore_event(
    seen: Checkpoint, found: Checkpoint, numbers: tuple[int, int], who: str, reason: str | None
) -> Event:
    return Event(
        kind=Kind.RESTORE_ACCEPTED,
        who=who,
        text=reason,
        digests={"pinned_root": seen.root.hex(), "found_root": found.root.hex()},
        counts={
            "pinned_size": seen.size,
            "found_size": found.size,
            "pinned_record_number": numbers[0],
            "found_record_number": numbers[1],
        },
    )
