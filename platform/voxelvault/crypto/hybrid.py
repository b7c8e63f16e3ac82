"""The key pairs of slots: X-Wing (ML-KEM-768 and X25519), used through HPKE.

A private key is a 32-byte seed; a public key is 1,216 bytes. What is sealed to a public key stays
closed unless both ML-KEM-768 and X25519 are broken, so a copy of a record kept for years is no
easier to open then.

References
----------
RFC 9180 (HPKE), NIST FIPS 203 (ML-KEM), RFC 7748 (X25519),
draft-connolly-cfrg-xwing-kem (X-Wing; its key expansion)
"""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass, field

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hpke
from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PrivateKey, MLKEM768PublicKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey

from voxelvault.crypto.text_code import from_line, to_line
from voxelvault.errors import IntegrityError, KeyUnavailable, UsageError

SEED_LENGTH = 32
_MLKEM_PUBLIC_LENGTH = 1184
PUBLIC_LENGTH = _MLKEM_PUBLIC_LENGTH + 32
_SECRET_PREFIX = "voxelvault-secret-key-1:"  # noqa: S105 (a prefix, not a secret)
_PUBLIC_PREFIX = "voxelvault-public-key-1:"
_SUITE = hpke.Suite(hpke.KEM.MLKEM768_X25519, hpke.KDF.HKDF_SHA256, hpke.AEAD.AES_256_GCM)


@dataclass(frozen=True, slots=True)
class PrivateKey:
    """The private half of a slot's key pair.

    Parameters
    ----------
    seed : bytes
        32 random bytes; never shown by `repr`.
    """

    seed: bytes = field(repr=False)

    @classmethod
    def generate(cls) -> PrivateKey:
        """Return a fresh key."""
        return cls(os.urandom(SEED_LENGTH))

    @classmethod
    def from_text(cls, text: str) -> PrivateKey:
        """Read what `text` wrote.

        Raises
        ------
        KeyUnavailable
            The text is no private key, or it was damaged.
        """
        try:
            seed = from_line(_SECRET_PREFIX, text)
            if len(seed) != SEED_LENGTH:
                raise ValueError
        except ValueError:
            raise KeyUnavailable(
                "the private key is damaged or is not one: restore it from a copy, or use the recovery code"
            ) from None
        return cls(seed)

    def text(self) -> str:
        """Return the key as one line with a checksum; keep it secret."""
        return to_line(_SECRET_PREFIX, self.seed)

    def public_key(self) -> bytes:
        """Return the public half, 1,216 bytes: ML-KEM's key, then X25519's."""
        lattice, curve = self._parts()
        return lattice.public_key().public_bytes_raw() + curve.public_key().public_bytes_raw()

    def open(self, sealed: bytes, info: bytes) -> bytes:
        """Return what `seal_to` sealed for this key and `info`.

        Raises
        ------
        IntegrityError
            It was sealed to another key, for another use, or changed.
        """
        try:
            return _SUITE.decrypt(sealed, hpke.MLKEM768X25519PrivateKey(*self._parts()), info)
        except (InvalidTag, ValueError):
            raise IntegrityError("a sealed key does not open: restore keys/ from a copy") from None

    def _parts(self) -> tuple[MLKEM768PrivateKey, X25519PrivateKey]:
        expanded = hashlib.shake_256(self.seed).digest(96)
        return (
            MLKEM768PrivateKey.from_seed_bytes(expanded[:64]),
            X25519PrivateKey.from_private_bytes(expanded[64:]),
        )


def seal_to(public_key: bytes, secret: bytes, info: bytes) -> bytes:
    """Seal a secret so that only the private half of `public_key` opens it, and only for `info`.

    Raises
    ------
    UsageError
        The public key is malformed.
    """
    try:
        lattice = MLKEM768PublicKey.from_public_bytes(public_key[:_MLKEM_PUBLIC_LENGTH])
        curve = X25519PublicKey.from_public_bytes(public_key[_MLKEM_PUBLIC_LENGTH:])
        return _SUITE.encrypt(secret, hpke.MLKEM768X25519PublicKey(lattice, curve), info)
    except ValueError:
        raise UsageError("the public key is malformed: ask for its text again") from None


def public_text(public_key: bytes) -> str:
    """Return a public key as one line with a checksum, to hand over."""
    return to_line(_PUBLIC_PREFIX, public_key)


def public_from_text(text: str) -> bytes:
    """Read what `public_text` wrote.

    Raises
    ------
    UsageError
        The text is no public key, or it was damaged.
    """
    try:
        public_key = from_line(_PUBLIC_PREFIX, text)
        if len(public_key) != PUBLIC_LENGTH:
            raise ValueError
    except ValueError:
        raise UsageError("this is no public key, or it was damaged: ask for its text again") from None
    return public_key


__all__ = ["PUBLIC_LENGTH", "PrivateKey", "public_from_text", "public_text", "seal_to"]
