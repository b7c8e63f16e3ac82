"""Grants: keys on their way to another process of the same family, sealed until they arrive.

A process and the children it starts through multiprocessing share 32 random bytes that Python hands
down a private pipe and refuses to write anywhere else (`multiprocessing.Process.authkey`). A key
pair made of them is the family's: what is sealed to it opens in a worker, and nowhere from a file.

A sealed grant is ``magic | length (4) | header | HPKE``: the header is canonical JSON in clear with
vault id, grant id, mode and expiry, and HPKE's `info` is that header, so none of it can be changed.

What a worker sends back is sealed under a fresh key that its grant carries for this one use.

References
----------
RFC 9180 (HPKE), RFC 5869 (HKDF), NIST SP 800-38D (GCM), Python `multiprocessing` ("Authentication
keys")
"""

from __future__ import annotations

import json
import multiprocessing
import secrets
import struct
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, Literal

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from voxelvault.crypto.hybrid import SEED_LENGTH, PrivateKey, seal_to
from voxelvault.crypto.wrap import KEY_LENGTH
from voxelvault.errors import GrantExpired, IntegrityError, KeyUnavailable, UsageError

Mode = Literal["read", "write"]

_MAGIC = b"voxelvault grant 1\n"
_LABEL = b"voxelvault/1/process family"
_LENGTH = struct.Struct(">I")
_REPLY = b"voxelvault reply 1\n"
_NONCE_LENGTH = 12


@dataclass(frozen=True, slots=True)
class Grant:
    """Keys lent to other processes.

    Parameters
    ----------
    vault_id, grant_id : str
        32 hexadecimal digits.
    mode : {"read", "write"}
        What the keys are for; those of a write grant are fresh.
    expires : float
        Seconds since the epoch.
    keys : mapping of str to bytes
        32 bytes by opaque id; never shown by `repr`.
    payload : bytes
        What else the other process needs; never shown by `repr`.
    """

    vault_id: str
    grant_id: str
    mode: Mode
    expires: float
    keys: Mapping[str, bytes] = field(repr=False)
    payload: bytes = field(default=b"", repr=False)


def family_key() -> PrivateKey:
    """Return the key pair of this process and of those that multiprocessing starts from it.

    Raises
    ------
    KeyUnavailable
        The program set an authentication key of its own that is too short to keep keys under.
    """
    shared = bytes(multiprocessing.current_process().authkey)
    if len(shared) < SEED_LENGTH:
        raise KeyUnavailable(
            "this program's multiprocessing authkey is shorter than 32 bytes; leave it as Python makes it"
        )
    return _pair(shared)


@lru_cache(maxsize=4)
def _pair(shared: bytes) -> PrivateKey:
    return PrivateKey(HKDF(SHA256(), SEED_LENGTH, salt=None, info=_LABEL).derive(shared))


_adopted: dict[str, PrivateKey] = {}


def adopt(name: str, key: PrivateKey) -> None:
    """Join another family for a while: what is lent to it opens here, too."""
    _adopted[name] = key


def disown(name: str) -> None:
    """Leave a family that was joined under this name."""
    _adopted.pop(name, None)


def open_lent(sealed: bytes, now: float) -> Grant:
    """Return a grant that was sealed to this process's family, or to one that it joined.

    Raises
    ------
    GrantExpired, KeyUnavailable, IntegrityError
        As `open_grant`.
    """
    for private in list(_adopted.values()):
        with suppress(KeyUnavailable):
            return open_grant(sealed, private, now)
    return open_grant(sealed, family_key(), now)


def seal_grant(grant: Grant, public_key: bytes) -> bytes:
    """Seal a grant so that only the private half of `public_key` opens it.

    Raises
    ------
    UsageError
        A key is not 32 bytes long, or the public key is malformed.
    """
    if any(len(key) != KEY_LENGTH for key in grant.keys.values()):
        raise UsageError("only 32-byte keys are lent")
    header = _header(grant)
    names = json.dumps(list(grant.keys)).encode()
    body = b"".join((_LENGTH.pack(len(names)), names, *grant.keys.values(), grant.payload))
    return b"".join((_MAGIC, _LENGTH.pack(len(header)), header, seal_to(public_key, body, _MAGIC + header)))


def open_grant(sealed: bytes, private: PrivateKey, now: float) -> Grant:
    """Return the grant that `seal_grant` sealed.

    Parameters
    ----------
    sealed : bytes
        As made.
    private : PrivateKey
        As of `family_key`.
    now : float
        Seconds since the epoch.

    Raises
    ------
    GrantExpired
        Its time is over.
    KeyUnavailable
        It was sealed to another family of processes, or changed.
    IntegrityError
        It is no grant.
    """
    header, at = _read_header(sealed)
    check_expiry(header["expires"], now)
    try:
        body = private.open(sealed[at:], _MAGIC + sealed[len(_MAGIC) + _LENGTH.size : at])
    except IntegrityError:
        raise KeyUnavailable(
            "this was lent to other processes, or changed; open the vault here, start this process by"
            " multiprocessing (spawn, forkserver, a local Dask cluster) from the one that has it open, or"
            " lend to its cluster first (voxelvault.cluster.reading.lend_to)"
        ) from None
    keys, payload = _split(body)
    return Grant(header["vault_id"], header["grant_id"], header["mode"], header["expires"], keys, payload)


def check_expiry(expires: float, now: float) -> None:
    """Refuse what is out of date; `GrantExpired`."""
    if now >= expires:
        raise GrantExpired("what was lent to this process has expired; make the loader or the graph anew")


def seal_reply(key: bytes, grant_id: str, data: bytes) -> bytes:
    """Seal what a worker sends back under the key that its grant has for this, and for nothing else."""
    nonce = secrets.token_bytes(_NONCE_LENGTH)
    return nonce + AESGCM(key).encrypt(nonce, data, _REPLY + grant_id.encode())


def open_reply(key: bytes, grant_id: str, sealed: bytes) -> bytes:
    """Return what `seal_reply` sealed.

    Raises
    ------
    IntegrityError
        It answers another grant, or was changed.
    """
    try:
        nonce, rest = sealed[:_NONCE_LENGTH], sealed[_NONCE_LENGTH:]
        return AESGCM(key).decrypt(nonce, rest, _REPLY + grant_id.encode())
    except (InvalidTag, ValueError):
        raise IntegrityError(
            "a worker's answer does not open: it was changed on its way; run it again"
        ) from None


def _header(grant: Grant) -> bytes:
    fields = {name: getattr(grant, name) for name in ("vault_id", "grant_id", "mode", "expires")}
    return json.dumps(fields, sort_keys=True, separators=(",", ":")).encode()


def _read_header(sealed: bytes) -> tuple[dict[str, Any], int]:
    """Return the header and where the sealed part begins."""
    try:
        if not sealed.startswith(_MAGIC):
            raise ValueError
        start = len(_MAGIC) + _LENGTH.size
        stop = start + _LENGTH.unpack_from(sealed, len(_MAGIC))[0]
        header = json.loads(sealed[start:stop])
        if set(header) != {"vault_id", "grant_id", "mode", "expires"}:
            raise ValueError
        if not isinstance(header["expires"], int | float):
            raise ValueError
    except (ValueError, TypeError, struct.error, RecursionError):
        raise IntegrityError(
            "this is no grant, or it was damaged; make the loader or the graph anew"
        ) from None
    return header, stop


def _split(body: bytes) -> tuple[dict[str, bytes], bytes]:
    start = _LENGTH.size + _LENGTH.unpack_from(body)[0]
    names = json.loads(body[_LENGTH.size : start])
    places = range(start, start + KEY_LENGTH * len(names), KEY_LENGTH)
    keys = {name: body[at : at + KEY_LENGTH] for name, at in zip(names, places, strict=True)}
    return keys, body[start + KEY_LENGTH * len(names) :]


__all__ = [
    "Grant",
    "Mode",
    "adopt",
    "check_expiry",
    "disown",
    "family_key",
    "open_grant",
    "open_lent",
    "open_reply",
    "seal_grant",
    "seal_reply",
]
