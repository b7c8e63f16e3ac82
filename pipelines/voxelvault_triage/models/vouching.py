"""Who answers for a bundle: a signature by a key that the user pinned, or a digest typed by hand.

A bundle's configs are code to those who run them as MONAI does, and a network is a program: what nobody
answers for isn't taken in.

References
----------
RFC 8032 (Ed25519). A signature is made by ``openssl pkeyutl -sign -rawin -inkey KEY -in MANIFEST``.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
from dataclasses import dataclass

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_public_key

from voxelvault.errors import IntegrityError, UsageError
from voxelvault_triage.models.bundle import Bundle

SIGNED, PINNED, SHIPPED, CALIBRATED = "signed", "pinned", "shipped", "calibrated"
"""How a bundle is vouched for; the last: made in this vault of one that was."""

_DIGITS = 64


@dataclass(frozen=True, slots=True)
class Vouched:
    """Who answers for a bundle.

    Parameters
    ----------
    how : str
        `SIGNED`, `PINNED`, `SHIPPED` or `CALIBRATED`.
    key : str
        SHA-256 of the public key, hexadecimal; empty where there is no signature.
    """

    how: str
    key: str = ""


def vouch(
    bundle: Bundle, *, pin: str | None = None, key: bytes | None = None, signature: bytes | None = None
) -> Vouched:
    """Check that somebody answers for a bundle.

    Parameters
    ----------
    bundle : Bundle
        As read.
    pin : str, optional
        Its whole digest, as its maker told it on another way.
    key : bytes, optional
        The maker's public key: PEM, or 32 bytes in base64.
    signature : bytes, optional
        Of the manifest: 64 bytes, raw or in base64.

    Raises
    ------
    IntegrityError
        The digest is another one, or the signature isn't the key's of this bundle.
    UsageError
        Nobody answers for it, or key or signature are none.
    """
    if key is not None and signature is not None:
        return _signed(bundle, key, signature)
    if key is not None or signature is not None:
        raise UsageError("a signed bundle takes both: its maker's public key and the signature's file")
    if pin is None:
        raise UsageError(
            "nobody answers for this bundle; give its maker's key and signature, or pin its digest,"
            f" which is {bundle.digest}, after comparing it with what its maker says"
        )
    if len(pin) != _DIGITS:
        raise UsageError("a pinned digest is all 64 hexadecimal digits; parts of it prove nothing")
    if not hmac.compare_digest(pin.lower(), bundle.digest):
        raise IntegrityError("the bundle isn't the one that was pinned; ask its maker for another copy")
    return Vouched(PINNED)


def _signed(bundle: Bundle, key: bytes, signature: bytes) -> Vouched:
    public = public_key(key)
    try:
        public.verify(_raw(signature, 64), bundle.manifest)
    except InvalidSignature:
        raise IntegrityError(
            "the signature isn't this key's for this bundle; ask its maker for another copy"
        ) from None
    return Vouched(SIGNED, fingerprint(public))


def public_key(text: bytes) -> Ed25519PublicKey:
    """Read an Ed25519 public key: PEM, or 32 bytes raw or in base64.

    Raises
    ------
    UsageError
        It is none.
    """
    try:
        if b"-----BEGIN" in text:
            found = load_pem_public_key(text)
        else:
            found = Ed25519PublicKey.from_public_bytes(_raw(text, 32))
    except (ValueError, UnsupportedAlgorithm):
        raise UsageError("this file holds no public key; name the right one") from None
    if not isinstance(found, Ed25519PublicKey):
        raise UsageError("bundles are signed with Ed25519; ask the maker for such a key and signature")
    return found


def fingerprint(public: Ed25519PublicKey) -> str:
    """Return the SHA-256 of a public key's 32 bytes, hexadecimal."""
    return hashlib.sha256(public.public_bytes(Encoding.Raw, PublicFormat.Raw)).hexdigest()


def _raw(data: bytes, length: int) -> bytes:
    if len(data) == length:
        return data
    try:
        found = base64.b64decode(data.strip(), validate=True)
    except (binascii.Error, ValueError):
        found = b""
    if len(found) != length:
        raise UsageError(f"this file holds no {length} bytes, raw or in base64; name the right one")
    return found


__all__ = ["CALIBRATED", "PINNED", "SHIPPED", "SIGNED", "Vouched", "fingerprint", "public_key", "vouch"]
