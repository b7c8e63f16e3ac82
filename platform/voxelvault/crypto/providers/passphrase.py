"""A private key that is computed from a passphrase.

References
----------
RFC 9106 (Argon2), RFC 8265 section 4 (how a passphrase's characters compare)
"""

from __future__ import annotations

import os
import unicodedata

from cryptography.hazmat.primitives.kdf.argon2 import Argon2id

from voxelvault.crypto.hybrid import SEED_LENGTH, PrivateKey
from voxelvault.crypto.vault_record import NewSlot, Slot
from voxelvault.errors import ForgedRecord, KeyUnavailable, UsageError

MEMORY_KIB = 1 << 20
FLOOR_KIB = 1 << 18
CEILING_KIB = 1 << 22
"""A record is read before it is proven: what it may make this machine do has a limit."""
_PASSES = range(3, 17)
_LANES = range(1, 17)
_SALT_LENGTH = 16


class PassphraseProvider:
    """The private key that a passphrase makes.

    Parameters
    ----------
    passphrase : str
        Compared by characters, not by how the keyboard composed them (NFC).

    Raises
    ------
    UsageError
        The passphrase is empty.
    """

    name = "passphrase"

    def __init__(self, passphrase: str) -> None:
        if not passphrase:
            raise UsageError("the passphrase is empty: choose one")
        self._passphrase = unicodedata.normalize("NFC", passphrase).encode()
        self._computed: dict[tuple[bytes, int, int, int], PrivateKey] = {}

    def slot(
        self, label: str = "", *, memory_kib: int = MEMORY_KIB, passes: int = 3, lanes: int = 4
    ) -> NewSlot:
        """Return a slot for the passphrase, under a fresh salt.

        Parameters
        ----------
        label : str
            For people; stored in clear.
        memory_kib, passes, lanes : int
            Cost of one guess, to an attacker too: memory in KiB (256 MiB at least), passes, lanes.

        Raises
        ------
        UsageError
            The cost is below the floor or above the ceiling.
        KeyUnavailable
            The memory is not there.
        """
        if not _allowed(memory_kib, passes, lanes):
            raise UsageError("Argon2id takes 256 MiB to 4 GiB of memory, 3 to 16 passes and 1 to 16 lanes")
        salt = os.urandom(_SALT_LENGTH)
        key = self._compute(salt, memory_kib, passes, lanes)
        parameters: dict[str, str | int] = {
            "salt": salt.hex(),
            "memory_kib": memory_kib,
            "passes": passes,
            "lanes": lanes,
        }
        return NewSlot(self.name, key.public_key(), label, parameters)

    def unlock(self, slot: Slot) -> PrivateKey | None:
        """Return the private key of `slot` if the passphrase makes it.

        Raises
        ------
        ForgedRecord
            The slot asks for a cost outside the limits.
        KeyUnavailable
            The memory is not there.
        """
        if slot.provider != self.name:
            return None
        try:
            values = [slot.parameters[name] for name in ("memory_kib", "passes", "lanes")]
            memory_kib, passes, lanes = (value for value in values if isinstance(value, int))
            salt = bytes.fromhex(str(slot.parameters["salt"]))
        except (KeyError, ValueError):
            raise ForgedRecord(
                f"slot {slot.slot_id} is damaged: restore keys/record.json from a copy"
            ) from None
        if len(salt) != _SALT_LENGTH or not _allowed(memory_kib, passes, lanes):
            raise ForgedRecord(
                f"slot {slot.slot_id} asks for more or less work than we make: restore keys/record.json"
            )
        key = self._compute(salt, memory_kib, passes, lanes)
        return key if key.public_key() == slot.public_key else None

    def _compute(self, salt: bytes, memory_kib: int, passes: int, lanes: int) -> PrivateKey:
        cost = (salt, memory_kib, passes, lanes)
        if cost not in self._computed:
            kdf = Argon2id(
                salt=salt, length=SEED_LENGTH, iterations=passes, lanes=lanes, memory_cost=memory_kib
            )
            try:
                self._computed[cost] = PrivateKey(kdf.derive(self._passphrase))
            except MemoryError:
                raise KeyUnavailable(
                    f"the passphrase needs {memory_kib >> 10} MiB of memory: free some, or use a key file"
                ) from None
        return self._computed[cost]


def _allowed(memory_kib: int, passes: int, lanes: int) -> bool:
    return FLOOR_KIB <= memory_kib <= CEILING_KIB and passes in _PASSES and lanes in _LANES


__all__ = ["CEILING_KIB", "FLOOR_KIB", "MEMORY_KIB", "PassphraseProvider"]
