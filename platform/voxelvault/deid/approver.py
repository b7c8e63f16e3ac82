"""The key pairs of those who together open a ledger: one secret, for sealing and for signing.

References
----------
RFC 9180 (HPKE), RFC 8032 (Ed25519), RFC 5869 (HKDF).
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from functools import cached_property

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from voxelvault.crypto.hybrid import PUBLIC_LENGTH, PrivateKey
from voxelvault.crypto.text_code import from_line, to_line
from voxelvault.errors import IntegrityError, KeyUnavailable, UsageError

_LABEL = b"voxelvault/1/approver/"
_SECRET_PREFIX = "voxelvault-approver-secret-1:"  # noqa: S105 (a prefix, not a secret)
_PUBLIC_PREFIX = "voxelvault-approver-public-1:"
_SEED_LENGTH, _SIGNING_LENGTH = 32, 32


@dataclass(frozen=True)
class ApproverPublic:
    """The public half.

    Parameters
    ----------
    sealing : bytes
        1,216 bytes (`crypto.hybrid`).
    signing : bytes
        32 bytes, Ed25519.
    """

    sealing: bytes
    signing: bytes

    @classmethod
    def from_text(cls, text: str) -> ApproverPublic:
        """Read what `text` wrote.

        Raises
        ------
        UsageError
            The text is no approver's public key, or it was damaged.
        """
        try:
            return cls.from_bytes(from_line(_PUBLIC_PREFIX, text))
        except ValueError:
            raise _no_public() from None

    @classmethod
    def from_bytes(cls, data: bytes) -> ApproverPublic:
        """Split `data`, sealing key first.

        Raises
        ------
        UsageError
            It has another length.
        """
        if len(data) != PUBLIC_LENGTH + _SIGNING_LENGTH:
            raise _no_public()
        return cls(data[:PUBLIC_LENGTH], data[PUBLIC_LENGTH:])

    def data(self) -> bytes:
        """Return both keys as one byte string."""
        return self.sealing + self.signing

    def text(self) -> str:
        """Return one line with a checksum, to hand over."""
        return to_line(_PUBLIC_PREFIX, self.data())

    def verify(self, signature: bytes, message: bytes) -> None:
        """Check a signature.

        Raises
        ------
        IntegrityError
            It is not this approver's, or not of this message.
        """
        try:
            Ed25519PublicKey.from_public_bytes(self.signing).verify(signature, message)
        except (InvalidSignature, ValueError):
            raise IntegrityError(
                "an approval's signature does not hold; ask for the approval again"
            ) from None


@dataclass(frozen=True)
class ApproverKey:
    """The secret half; never shown by `repr`."""

    seed: bytes = field(repr=False)

    @classmethod
    def generate(cls) -> ApproverKey:
        """Return a fresh key."""
        return cls(os.urandom(_SEED_LENGTH))

    @classmethod
    def from_text(cls, text: str) -> ApproverKey:
        """Read what `text` wrote.

        Raises
        ------
        KeyUnavailable
            The text is no approver's key, the public half of one, or it was damaged.
        """
        if text.startswith(_PUBLIC_PREFIX):
            raise KeyUnavailable("this is the public half of an approver's key: name the secret one's file")
        try:
            seed = from_line(_SECRET_PREFIX, text)
        except ValueError:
            seed = b""
        if len(seed) != _SEED_LENGTH:
            raise KeyUnavailable("this is no approver's key, or it was damaged: restore it from a copy")
        return cls(seed)

    def text(self) -> str:
        """Return one line with a checksum; keep it secret."""
        return to_line(_SECRET_PREFIX, self.seed)

    def public(self) -> ApproverPublic:
        """Return the public half."""
        return ApproverPublic(self.sealing.public_key(), self._signing.public_key().public_bytes_raw())

    def sign(self, message: bytes) -> bytes:
        """Return the Ed25519 signature, 64 bytes."""
        return self._signing.sign(message)

    @cached_property
    def sealing(self) -> PrivateKey:
        """What is sealed to this approver opens with it."""
        return PrivateKey(self._derived(b"seal"))

    @cached_property
    def _signing(self) -> Ed25519PrivateKey:
        return Ed25519PrivateKey.from_private_bytes(self._derived(b"sign"))

    def _derived(self, use: bytes) -> bytes:
        return HKDF(SHA256(), 32, None, _LABEL + use).derive(self.seed)


def _no_public() -> UsageError:
    return UsageError("this is no approver's public key, or it was damaged: ask for its text again")


__all__ = ["ApproverKey", "ApproverPublic"]
