"""The three keys of a party: for TLS, for Flower's node authentication, and for signing."""

from __future__ import annotations

from base64 import b64decode, b64encode
from dataclasses import dataclass
from pathlib import Path

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519

from voxelvault_fl.errors import KitRefused
from voxelvault_fl.provisioning.files import write

_OPEN = serialization.NoEncryption()
_PEM = serialization.Encoding.PEM


@dataclass(frozen=True, repr=False)
class Keys:
    """Private keys of one party.

    Parameters
    ----------
    tls : EllipticCurvePrivateKey
        P-256, of the certificate that opens the gate.
    node : EllipticCurvePrivateKey
        P-384, by which Flower's SuperLink knows a SuperNode.
    signing : Ed25519PrivateKey
        Signs jobs, messages of a round and checkpoints.
    """

    tls: ec.EllipticCurvePrivateKey
    node: ec.EllipticCurvePrivateKey
    signing: ed25519.Ed25519PrivateKey


def make_keys() -> Keys:
    """Make the three keys."""
    return Keys(
        ec.generate_private_key(ec.SECP256R1()),
        ec.generate_private_key(ec.SECP384R1()),
        ed25519.Ed25519PrivateKey.generate(),
    )


def write_keys(keys: Keys, folder: Path) -> None:
    """Write the keys: private files 0600, the node's in OpenSSH's form, as Flower reads it."""
    pkcs8 = serialization.PrivateFormat.PKCS8
    openssh = serialization.PrivateFormat.OpenSSH
    write(folder / "tls.key", keys.tls.private_bytes(_PEM, pkcs8, _OPEN), private=True)
    write(folder / "node.key", keys.node.private_bytes(_PEM, openssh, _OPEN), private=True)
    write(folder / "signing.key", keys.signing.private_bytes(_PEM, pkcs8, _OPEN), private=True)
    write(folder / "node.pub", node_text(keys.node.public_key()).encode())
    write(folder / "signing.pub", signing_text(keys.signing.public_key()).encode() + b"\n")


def read_keys(folder: Path) -> Keys:
    """Read the three keys of a kit.

    Raises
    ------
    KitRefused
        One is missing or of another kind.
    """
    try:
        tls = serialization.load_pem_private_key((folder / "tls.key").read_bytes(), None)
        node = serialization.load_ssh_private_key((folder / "node.key").read_bytes(), None)
        signing = serialization.load_pem_private_key((folder / "signing.key").read_bytes(), None)
    except (OSError, ValueError, TypeError, UnsupportedAlgorithm):
        raise KitRefused("a private key of this kit is missing or unreadable; ask for a new kit") from None
    if not isinstance(tls, ec.EllipticCurvePrivateKey) or not isinstance(node, ec.EllipticCurvePrivateKey):
        raise KitRefused("the TLS key or the node key of this kit is no elliptic curve key")
    if not isinstance(signing, ed25519.Ed25519PrivateKey):
        raise KitRefused("the signing key of this kit is no Ed25519 key")
    return Keys(tls, node, signing)


def node_text(key: ec.EllipticCurvePublicKey) -> str:
    """Return a node's public key as PEM, byte for byte the way Flower puts it into its headers."""
    return key.public_bytes(_PEM, serialization.PublicFormat.SubjectPublicKeyInfo).decode()


def node_key_of(text: str) -> ec.EllipticCurvePublicKey:
    """Read a node's public key.

    Raises
    ------
    KitRefused
        It is no P-384 key, or not written the way Flower writes it.
    """
    try:
        key = serialization.load_pem_public_key(text.encode())
    except (ValueError, UnsupportedAlgorithm):
        raise KitRefused("a node's public key is not PEM") from None
    if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP384R1):
        raise KitRefused("a node's public key is not on P-384")
    if node_text(key) != text:
        raise KitRefused("a node's public key is not written the way Flower writes it")
    return key


def signing_text(key: ed25519.Ed25519PublicKey) -> str:
    """Return a signing key as base64 of its 32 bytes."""
    return b64encode(key.public_bytes_raw()).decode()


def signing_key_of(text: str) -> ed25519.Ed25519PublicKey:
    """Read a public signing key.

    Raises
    ------
    KitRefused
        It is not base64 of 32 bytes.
    """
    try:
        return ed25519.Ed25519PublicKey.from_public_bytes(b64decode(text, validate=True))
    except ValueError:
        raise KitRefused("a signing key is not base64 of 32 bytes") from None


def tls_key_of(pem: bytes) -> ec.EllipticCurvePrivateKey:
    """Read a private key of a certificate, a party's or the authority's, from PEM.

    Raises
    ------
    KitRefused
        It is no elliptic curve key.
    """
    try:
        key = serialization.load_pem_private_key(pem, None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        key = None
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise KitRefused("a private key is unreadable, or no elliptic curve key; restore it from a copy")
    return key


__all__ = [
    "Keys",
    "make_keys",
    "node_key_of",
    "node_text",
    "read_keys",
    "signing_key_of",
    "signing_text",
    "tls_key_of",
    "write_keys",
]
