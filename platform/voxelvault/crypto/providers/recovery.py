"""The recovery code: 160 random bits on paper."""

from __future__ import annotations

import os

from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from voxelvault.crypto.hybrid import SEED_LENGTH, PrivateKey
from voxelvault.crypto.text_code import from_groups, to_groups
from voxelvault.crypto.vault_record import NewSlot, Slot
from voxelvault.errors import WrongPassphrase

_LENGTH = 20


def new_code() -> str:
    """Return a fresh recovery code: nine groups of four, the last of them mostly a checksum."""
    return to_groups(os.urandom(_LENGTH))


class RecoveryProvider:
    """The private key that a recovery code makes.

    Parameters
    ----------
    code : str
        As printed; case, blanks and dashes don't matter, nor O for 0 and I or L for 1.

    Raises
    ------
    WrongPassphrase
        The code has a typing error.
    """

    name = "recovery"

    def __init__(self, code: str) -> None:
        try:
            secret = from_groups(code, _LENGTH)
        except ValueError:
            raise WrongPassphrase("the recovery code has a typing error: compare it group by group") from None
        # 160 random bits need no slow hash.
        self._key = PrivateKey(
            HKDF(SHA256(), SEED_LENGTH, salt=None, info=b"voxelvault/1/recovery").derive(secret)
        )

    def slot(self, label: str = "") -> NewSlot:
        """Return a slot for the code."""
        return NewSlot(self.name, self._key.public_key(), label)

    def unlock(self, slot: Slot) -> PrivateKey | None:
        """Return the private key of `slot` if it is this code's."""
        mine = slot.provider == self.name and slot.public_key == self._key.public_key()
        return self._key if mine else None


__all__ = ["RecoveryProvider", "new_code"]
