"""Who finds the private key of a slot: one provider a file.

Private keys differ by use: what a person hands over to become a recipient is another public key
than that of a vault of their own, so nobody can pass a forged vault off as one's own.
"""

from __future__ import annotations

from typing import Protocol

from voxelvault.crypto.hybrid import PrivateKey
from voxelvault.crypto.vault_record import Slot
from voxelvault.crypto.wrap import derive

RECIPIENT = "recipient"


class Provider(Protocol):
    """Finds private keys."""

    @property
    def name(self) -> str:
        """The kind of slot that this provider makes."""

    def unlock(self, slot: Slot) -> PrivateKey | None:
        """Return the private key of `slot`, or None if it is not this provider's to give.

        Raises
        ------
        KeyUnavailable
            It is this provider's, but can't be used as it is; the message says why.
        """


def recipient_key(key: PrivateKey) -> PrivateKey:
    """Return the key by which its holder receives vaults of others."""
    return PrivateKey(derive(key.seed, RECIPIENT))


def fits(key: PrivateKey, slot: Slot) -> PrivateKey | None:
    """Return the key for `slot` that belongs to `key`, or None if the slot is somebody else's."""
    candidate = recipient_key(key) if slot.provider == RECIPIENT else key
    return candidate if candidate.public_key() == slot.public_key else None


__all__ = ["RECIPIENT", "Provider", "fits", "recipient_key"]
