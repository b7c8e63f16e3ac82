"""One key under another: sub-keys by HKDF, wrapping by AES-256-GCM-SIV.

A wrapped key is nonce (12) | ciphertext (32) | tag (16). Its associated data says what key it is,
whose child, in which vault and generation, so that no wrapped key opens in another's place.
No key has two uses: a key that wraps others does so through `derive(key, WRAPPING)`.

References
----------
RFC 5869 (HKDF), RFC 8452 (AES-GCM-SIV)
"""

from __future__ import annotations

import os
import struct
from dataclasses import dataclass

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCMSIV
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from voxelvault.errors import IntegrityError, UsageError
from voxelvault.model import FORMAT

KEY_LENGTH = 32
WRAPPING = "wrap"
"""Label of the sub-key by which a key wraps its children."""
_NONCE_LENGTH = 12
_WRAPPED_LENGTH = _NONCE_LENGTH + KEY_LENGTH + 16
_CONTEXT = struct.Struct(">16sHQ16s16s16s16s")
_DOMAIN = b"voxelvault wrap"


def derive(key: bytes, label: str) -> bytes:
    """Return the 32-byte sub-key of `key` for the use that `label` names.

    Raises
    ------
    UsageError
        The key is not 32 bytes long or the label is empty.
    """
    if len(key) != KEY_LENGTH or not label:
        raise UsageError("a sub-key needs a 32-byte key and a label")
    return HKDF(SHA256(), KEY_LENGTH, salt=None, info=b"voxelvault/1/" + label.encode()).derive(key)


@dataclass(frozen=True, slots=True)
class WrapContext:
    """What a wrapped key is: the associated data of its wrap.

    Parameters
    ----------
    role : str
        What the key is for, up to 16 ASCII characters.
    vault_id, key_id : str
        32 hexadecimal digits.
    parent_id : str or None
        The wrapping key; None is the root.
    generation : int
        The root's generation; 0 for wraps that outlive generations (a pack's key in its manifest).
    """

    role: str
    vault_id: str
    key_id: str
    parent_id: str | None
    generation: int

    def encode(self) -> bytes:
        """Return the context as 90 bytes, every field at its fixed place.

        Raises
        ------
        UsageError
            A field does not fit its place.
        """
        role = self.role.encode("ascii")
        ids = [bytes.fromhex(i) for i in (self.vault_id, self.key_id, self.parent_id or "00" * 16)]
        if not 0 < len(role) <= 16 or any(len(i) != 16 for i in ids):
            raise UsageError(
                "a wrapped key has a role of 1 to 16 characters and ids of 32 hexadecimal digits"
            )
        return _CONTEXT.pack(_DOMAIN, FORMAT, self.generation, *ids, role)


def wrap(wrapping_key: bytes, key: bytes, context: WrapContext) -> bytes:
    """Wrap a 32-byte key; 60 bytes, different at every call.

    Raises
    ------
    UsageError
        The key is not 32 bytes long.
    """
    if len(key) != KEY_LENGTH:
        raise UsageError("only 32-byte keys are wrapped")
    nonce = os.urandom(_NONCE_LENGTH)
    return nonce + AESGCMSIV(wrapping_key).encrypt(nonce, key, context.encode())


def unwrap(wrapping_key: bytes, wrapped: bytes, context: WrapContext) -> bytes:
    """Return the key that `wrap` took.

    Raises
    ------
    IntegrityError
        It was wrapped under another key, as another key, or it was changed.
    """
    nonce, sealed = wrapped[:_NONCE_LENGTH], wrapped[_NONCE_LENGTH:]
    try:
        if len(wrapped) != _WRAPPED_LENGTH:
            raise InvalidTag
        return AESGCMSIV(wrapping_key).decrypt(nonce, sealed, context.encode())
    except InvalidTag:
        raise IntegrityError(f"key {context.key_id} does not unwrap: restore keys/ from a copy") from None


__all__ = ["KEY_LENGTH", "WRAPPING", "WrapContext", "derive", "unwrap", "wrap"]
