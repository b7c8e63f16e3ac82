"""The ledger: what reverses pseudonyms, sealed so that whoever writes it can't read it.

A batch is compressed, sealed under a key of its own, and that key to the ledger's public key; the
project signs it, so that nobody without the project key can slip other pairs in. An index of digests
in clear says which new values it holds, so that nobody approves what isn't there. It has no value that
stayed as it came: such a digest could be guessed back to a patient.

References
----------
RFC 9180 (HPKE), NIST SP 800-38D (AES-GCM; a fresh key a batch, so a nonce of zeros is used once).
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
import os
import zlib
from collections.abc import Iterable, Mapping, Sequence
from typing import TypeAlias

from cryptography.exceptions import InvalidSignature, InvalidTag
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from voxelvault.crypto.hybrid import PrivateKey, seal_to
from voxelvault.deid.approving import MAPS, Request
from voxelvault.deid.project import OpenProject, Project
from voxelvault.deid.pseudonym import length_prefixed
from voxelvault.errors import IntegrityError, UsageError

Maps: TypeAlias = Mapping[str, Mapping[str, str | None]]
"""New value by old, for each of `MAPS`; a path is None where the file was refused."""

Pair: TypeAlias = tuple[str, str | None]
"""An old value, and the new one; None where the file was refused."""

MOST_PLAIN = 256 << 20
"""Bytes that a batch may hold, so that none inflates without end."""

_MAGIC = b"VVLEDGER1"
_LABEL = b"voxelvault/1/deid/ledger"
_NONCE = bytes(12)
_DIGEST = 8
"""Bytes of a digest in the index."""

_WITHOUT_INDEX = 2
"""Signed parts of a batch that has none."""


def seal_batch(opened: OpenProject, batch_id: str, maps: Maps) -> bytes:
    """Seal pairs of old and new values for the ledger.

    Parameters
    ----------
    opened : OpenProject
        The project that made the pseudonyms.
    batch_id : str
        Random id, part of what is authenticated.
    maps : Maps
        The pairs.

    Raises
    ------
    UsageError
        The project keeps no ledger, a map is unknown, or the batch is too large.
    """
    project = opened.project
    if not project.ledger:
        raise UsageError("this project keeps no ledger; enrol two approvers first")
    if not set(maps) <= set(MAPS):
        raise UsageError(f"a ledger keeps {', '.join(MAPS)}; nothing was written")
    plain = json.dumps(maps, separators=(",", ":")).encode()
    if len(plain) > MOST_PLAIN:
        raise UsageError("a batch of the ledger is too large; write it in smaller parts")
    bound = _bound(project, project.ledger, batch_id)
    key = os.urandom(32)
    content = AESGCM(key).encrypt(_NONCE, zlib.compress(plain), bound)
    parts = (seal_to(project.ledger, key, bound), content, _index(project, maps))
    signature = opened.signing_key.sign(length_prefixed(bound, *parts))
    return _MAGIC + length_prefixed(*parts, signature)


def not_held(project: Project, asked: Request, batches: Iterable[tuple[str, bytes]]) -> int:
    """Count the pseudonyms of a request that none of its maps holds; no key is needed.

    Parameters
    ----------
    project : Project
        Whose ledger it is.
    asked : Request
        Its maps, and the pseudonyms that it names.
    batches : iterable of (str, bytes)
        Id and content of each batch; without knowing what one holds, nothing counts.

    Raises
    ------
    IntegrityError
        A batch was changed, or is not the project's.
    """
    left = {
        value: frozenset(_digest(project, name, value) for name in asked.maps) for value in asked.pseudonyms
    }
    for batch_id, sealed in batches if left else ():
        index = _index_of(project, batch_id, sealed)
        if index is None:
            return 0
        left = {value: digests for value, digests in left.items() if not digests & index}
    return len(left)


def _index(project: Project, maps: Maps) -> bytes:
    changed = (
        (name, new) for name, pairs in maps.items() for old, new in pairs.items() if new and new != old
    )
    return b"".join(sorted({_digest(project, name, new) for name, new in changed}))


def _digest(project: Project, name: str, value: str) -> bytes:
    text = value.encode("utf-8", "surrogatepass")
    said = length_prefixed(_LABEL, b"index", project.project_id.encode(), name.encode(), text)
    return hashlib.sha256(said).digest()[:_DIGEST]


def _index_of(project: Project, batch_id: str, sealed: bytes) -> frozenset[bytes] | None:
    """Return the digests of what a batch holds; None for one that was written without."""
    try:
        *parts, signature = _parts(sealed)
    except ValueError:
        raise _changed() from None
    bounds = (_bound(project, ledger.public, batch_id) for ledger in project.ledgers)
    if not any(_is_signed(project, signature, length_prefixed(bound, *parts)) for bound in bounds):
        raise _changed()
    if len(parts) == _WITHOUT_INDEX:
        return None
    return frozenset(parts[-1][at : at + _DIGEST] for at in range(0, len(parts[-1]), _DIGEST))


def open_batches(
    project: Project, asked: Request, secrets: Sequence[PrivateKey], batches: Iterable[tuple[str, bytes]]
) -> dict[str, list[Pair]]:
    """Open a ledger as far as a request goes.

    Parameters
    ----------
    project : Project
        Whose ledger it is.
    asked : Request
        The approved request: its maps, and the pseudonyms that it names or all.
    secrets : sequence of PrivateKey
        From `approving.ledger_keys`.
    batches : iterable of (str, bytes)
        Id and content of each batch.

    Returns
    -------
    dict
        For each map that was asked for, pairs of old and new, each once and in order. An old value may
        have several new ones: two people under one id, a file in two releases.

    Raises
    ------
    IntegrityError
        A batch was changed, or is not the project's.
    """
    wanted = frozenset(asked.pseudonyms)
    found: dict[str, set[Pair]] = {name: set() for name in asked.maps}
    for batch_id, sealed in batches:
        maps = _opened(project, secrets, batch_id, sealed)
        for name in found:
            pairs = maps.get(name, {}).items()
            found[name].update((old, new) for old, new in pairs if not wanted or new in wanted)
    return {name: sorted(pairs, key=_told) for name, pairs in found.items()}


def _told(pair: Pair) -> tuple[str, str]:
    return pair[0], pair[1] or ""


def map_csv(pairs: Iterable[Pair]) -> str:
    """Return a map as CSV with the columns `id_old,id_new`."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(("id_old", "id_new"))
    writer.writerows(map(_told, pairs))
    return out.getvalue()


def _opened(project: Project, secrets: Sequence[PrivateKey], batch_id: str, sealed: bytes) -> Maps:
    try:
        *parts, signature = _parts(sealed)
        sealed_key, content = parts[:_WITHOUT_INDEX]
        for ledger, secret in zip(project.ledgers, secrets, strict=True):
            bound = _bound(project, ledger.public, batch_id)
            if not _is_signed(project, signature, length_prefixed(bound, *parts)):
                continue
            packed = AESGCM(secret.open(sealed_key, bound)).decrypt(_NONCE, content, bound)
            maps: Maps = json.loads(zlib.decompressobj().decompress(packed, MOST_PLAIN))
            return maps
    except (InvalidTag, ValueError, zlib.error):
        pass
    raise _changed() from None


def _changed() -> IntegrityError:
    return IntegrityError("a part of the ledger was changed: restore the ledger from a copy")


def _is_signed(project: Project, signature: bytes, message: bytes) -> bool:
    try:
        Ed25519PublicKey.from_public_bytes(project.signing).verify(signature, message)
    except InvalidSignature:
        return False
    return True


def _parts(sealed: bytes) -> list[bytes]:
    if not sealed.startswith(_MAGIC):
        raise ValueError
    parts: list[bytes] = []
    at = len(_MAGIC)
    while at < len(sealed):
        stop = at + 4 + int.from_bytes(sealed[at : at + 4], "big")
        parts.append(sealed[at + 4 : stop])
        at = stop
    if not 0 <= len(parts) - 1 - _WITHOUT_INDEX <= 1:
        raise ValueError
    return parts


def _bound(project: Project, ledger: bytes, batch_id: str) -> bytes:
    return length_prefixed(_LABEL, project.project_id.encode(), ledger, batch_id.encode())


__all__ = ["MOST_PLAIN", "Maps", "Pair", "map_csv", "not_held", "open_batches", "seal_batch"]
