"""Slots whose private key a key service keeps wrapped: what every such provider has in common.

::

    root ── sealed to the slot's public key ── opened by its private key
                                               └─ wrapped by a key that never leaves the service

A new root reaches the slot without the service. The service is told vault and slot with every
call, and refuses a slot that was copied in from another vault.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Mapping
from typing import Protocol

from voxelvault.crypto.hybrid import SEED_LENGTH, PrivateKey
from voxelvault.crypto.vault_record import Slot
from voxelvault.errors import KeyUnavailable
from voxelvault.model import new_id

KEY, WRAPPED = "key", "wrapped"
"""A slot's parameters: which key of the service, and the private key wrapped under it."""


class KeyService(Protocol):
    """A provider that finds a slot's private key by asking a service for it.

    A package adds its own by the entry point group `voxelvault.key_providers`: name → a callable
    that takes a vault id, 32 hexadecimal digits, and returns one. Whatever it needs to reach the
    service comes from its own environment, never from the slot: a slot is read before it is proven.
    """

    @property
    def name(self) -> str:
        """The kind of slot that this provider makes; its entry point's name."""

    def slot(self, key: str, label: str = "", slot_id: str | None = None) -> Slot:
        """Return a slot with a fresh key pair, its private key wrapped by the service.

        Parameters
        ----------
        key : str
            Which key of the service; stored in clear as the slot's parameter `key`.
        label : str
            For people; stored in clear.
        slot_id : str, optional
            32 hexadecimal digits, of the slot that this one replaces; a fresh one by default.

        Raises
        ------
        KeyUnavailable
            The service refused or was not reached; the message says what to do.
        UsageError
            No key of such a service is called that.
        MissingExtra
            A package that talks to the service is not installed.
        """

    def unlock(self, slot: Slot) -> PrivateKey | None:
        """Return the private key of `slot`, or None if it is another provider's.

        Raises
        ------
        KeyUnavailable
            It is this provider's, but the service refused or was not reached.
        MissingExtra
            A package that talks to the service is not installed.
        """


def context(vault_id: str, slot_id: str) -> Mapping[str, str]:
    """Return what the service binds a wrapped key to."""
    return {"vault": vault_id, "slot": slot_id}


def wrapped_slot(
    kind: str, key: str, label: str, slot_id: str | None, encrypt: Callable[[bytes, str], bytes]
) -> Slot:
    """Return a slot with a fresh key pair.

    Parameters
    ----------
    kind, key, label, slot_id
        As `KeyService.slot` takes them.
    encrypt : callable
        From the private key's 32 bytes and the slot's id to what the service made of them.
    """
    slot_id = slot_id or new_id()
    private = PrivateKey.generate()
    wrapped = base64.b64encode(encrypt(private.seed, slot_id)).decode()
    return Slot(kind, private.public_key(), label, {KEY: key, WRAPPED: wrapped}, slot_id)


def unwrapped_key(slot: Slot, decrypt: Callable[[str, bytes], bytes]) -> PrivateKey:
    """Return the private key of a slot.

    Parameters
    ----------
    slot : Slot
    decrypt : callable
        From the name of the service's key and the wrapped private key to its 32 bytes.

    Raises
    ------
    KeyUnavailable
        The slot is damaged, or what the service returned is another slot's key.
    """
    try:
        wrapped = base64.b64decode(str(slot.parameters[WRAPPED]), validate=True)
        key = str(slot.parameters[KEY])
    except (KeyError, ValueError):
        raise not_its_own(slot.slot_id) from None
    seed = decrypt(key, wrapped)
    if len(seed) != SEED_LENGTH or PrivateKey(seed).public_key() != slot.public_key:
        # No frame of the traceback keeps a key that opens another slot.
        del seed
        raise not_its_own(slot.slot_id)
    return PrivateKey(seed)


def not_its_own(slot_id: str) -> KeyUnavailable:
    """Return the error of a slot whose wrapped key is not its own."""
    return KeyUnavailable(
        f"slot {slot_id} holds a wrapped key that is not its own (copied in or changed): "
        "restore keys/record.json from a copy, or use another key"
    )


__all__ = ["KEY", "WRAPPED", "KeyService", "context", "not_its_own", "unwrapped_key", "wrapped_slot"]
