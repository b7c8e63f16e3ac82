"""Sealing what the log stores: bundles of entries, and free texts.

Bundle plaintext is that of C2SP tlog-tiles: each entry prefixed with its length in 16 bits, big
endian. A bundle is no more trusted for opening: what it holds counts only once its hashes match
the tree.
"""

from __future__ import annotations

import hmac
import secrets
import struct
from collections.abc import Sequence
from typing import Protocol

from voxelvault.audit.leaf import TextRef
from voxelvault.crypto.key_tree import Role
from voxelvault.crypto.streaming_aead import HEAD_LENGTH, Kind, Opener, Preamble, Sealer
from voxelvault.errors import IntegrityError, UsageError
from voxelvault.model import Buffer, new_id

TEXT_LIMIT = 1 << 20
_LENGTH = struct.Struct(">H")


class LogKeys(Protocol):
    """What the log needs of a key ring."""

    @property
    def vault_id(self) -> str:
        """The vault's id."""

    @property
    def log_public_key(self) -> bytes:
        """Ed25519 public key that checkpoints are verified with, 32 bytes."""

    def keys_of(self, role: Role, /) -> Sequence[str]:
        """Ids of the keys of a role, the oldest first."""

    def dek(self, key_id: str, /) -> bytes:
        """Return the key that seals and opens objects."""

    def sign(self, message: bytes, /) -> bytes:
        """Sign with the log's key."""


def seal(keys: LogKeys, kind: Kind, role: Role, object_id: str, plain: Buffer) -> bytes:
    """Seal under the newest key of a role; every seal derives its own key from a fresh salt."""
    key_id = keys.keys_of(role)[-1]
    sealed = bytearray()
    sealer = Sealer(keys.dek(key_id), Preamble(kind, object_id, key_id), keys.vault_id, sealed.extend)
    sealer.write(plain)
    sealer.close()
    return bytes(sealed)


def unseal(keys: LogKeys, kind: Kind, role: Role, sealed: Buffer, object_id: str | None = None) -> bytes:
    """Open what `seal` made.

    Parameters
    ----------
    keys : LogKeys
        Holds the key that the preamble names.
    kind, role
        What it must hold, and the role its key must have.
    sealed : buffer
        The whole object.
    object_id : str, optional
        The id it must have; a bundle's is random and named nowhere else.

    Returns
    -------
    bytes
        The plaintext.

    Raises
    ------
    IntegrityError
        It was changed, or is not what it should be.
    """
    found = Preamble.unpack(sealed)
    # Asked for first: a key that another process made is looked up then, and in `keys_of` afterwards.
    dek = keys.dek(found.key_id)
    if found.key_id not in keys.keys_of(role):
        raise IntegrityError("an audit object is sealed under a key that is not the log's; restore audit/")
    expect = Preamble(kind, object_id or found.object_id, found.key_id)
    opener = Opener(dek, sealed[:HEAD_LENGTH], keys.vault_id, len(sealed), expect)
    plain = bytearray(opener.size)
    start, stop = opener.cipher_range(0, opener.size)
    opener.open_range(memoryview(sealed)[start:stop], 0, opener.size, memoryview(plain))
    return bytes(plain)


def seal_bundle(keys: LogKeys, leaves: Sequence[bytes]) -> bytes:
    """Seal entries as one bundle, under a fresh object id."""
    plain = b"".join([part for leaf in leaves for part in (_LENGTH.pack(len(leaf)), leaf)])
    return seal(keys, Kind.LOG, Role.LOG, new_id(), plain)


def open_bundle(keys: LogKeys, sealed: Buffer) -> list[bytes]:
    """Open a bundle; `IntegrityError` if it was changed."""
    plain = unseal(keys, Kind.LOG, Role.LOG, sealed)
    leaves, at = [], 0
    while at + _LENGTH.size <= len(plain):
        (length,) = _LENGTH.unpack_from(plain, at)
        leaves.append(plain[at + 2 : at + 2 + length])
        at += 2 + length
    if at != len(plain):
        raise IntegrityError("an audit bundle ends in the middle of an entry; restore audit/ from a copy")
    return leaves


def seal_text(keys: LogKeys, text: str) -> tuple[TextRef, bytes]:
    """Seal a free text with the random key that an entry commits to it under.

    Parameters
    ----------
    keys : LogKeys
        Has a key for texts.
    text : str
        At most 1 MiB in UTF-8.

    Returns
    -------
    tuple of TextRef and bytes
        The commitment for the leaf, and the sealed object.

    Raises
    ------
    UsageError
        The text is too long.
    """
    data = text.encode("utf-8", "backslashreplace")
    if len(data) > TEXT_LIMIT:
        raise UsageError(f"a text of {len(data)} bytes can't be logged; keep it below {TEXT_LIMIT}")
    key, text_id = secrets.token_bytes(32), new_id()
    sealed = seal(keys, Kind.TEXT, Role.LOG_TEXT, text_id, key + data)
    return TextRef(text_id, hmac.digest(key, data, "sha256").hex()), sealed


def open_text(keys: LogKeys, ref: TextRef, sealed: Buffer) -> str:
    """Open a free text; `IntegrityError` if it is not the one that the entry commits to."""
    plain = unseal(keys, Kind.TEXT, Role.LOG_TEXT, sealed, ref.text_id)
    key, data = plain[:32], plain[32:]
    if not hmac.compare_digest(hmac.digest(key, data, "sha256").hex(), ref.hmac):
        raise IntegrityError(f"text {ref.text_id} is not the one its audit entry commits to")
    return data.decode()
