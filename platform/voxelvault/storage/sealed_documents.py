"""Small sealed documents in a folder of a vault, each bound to its place: none passes for another."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from typing import Protocol

from voxelvault.crypto.key_tree import Role
from voxelvault.crypto.streaming_aead import HEAD_LENGTH, Kind, Opener, Preamble, Sealer
from voxelvault.model import ObjectStore


class PathKeys(Protocol):
    """What sealing needs of a key ring."""

    @property
    def vault_id(self) -> str:
        """The vault's id."""

    def keys_of(self, role: Role, /) -> Sequence[str]:
        """Ids of the keys of a role, the oldest first."""

    def sub_key(self, key_id: str, label: str, /) -> bytes:
        """Return the sub-key for one use."""


class SealedDocuments:
    """Named documents of one folder, sealed under a key of the vault.

    Parameters
    ----------
    objects : ObjectStore
        The vault's.
    keys : PathKeys
        The vault's key ring.
    folder : str
        Where they lie.
    label : str
        Of the sub-key: another one for each use.
    kind : Kind
        What they are.
    """

    def __init__(self, objects: ObjectStore, keys: PathKeys, folder: str, label: str, kind: Kind) -> None:
        self._objects = objects
        self._keys = keys
        self._prefix = f"{folder}/"
        self._label = label
        self._kind = kind

    def put(self, name: str, data: bytes) -> None:
        """Store a document; `ObjectExists` if the name is taken."""
        self._objects.put(self._prefix + name, self._sealed(name, [data]))

    def swap(self, name: str, data: bytes, expected: str | None) -> None:
        """Replace a document that still is the version that was read; else `ObjectChanged`."""
        self._objects.swap(self._prefix + name, b"".join(self._sealed(name, [data])), expected)

    def write(self, name: str, parts: Iterable[bytes]) -> None:
        """Store a document, however large, in the place of one that is there."""
        self.delete(name)
        self._objects.put(self._prefix + name, self._sealed(name, parts))

    def get(self, name: str) -> tuple[bytes, str]:
        """Return a document and its version.

        Raises
        ------
        ObjectMissing
            There is none.
        IntegrityError
            It was changed, or stood under another name or in another folder.
        """
        sealed, version = self._objects.versioned(self._prefix + name)
        key_id, key = self._key()
        preamble = Preamble(self._kind, self.object_id(name), key_id)
        opener = Opener(key, sealed[:HEAD_LENGTH], self._keys.vault_id, len(sealed), preamble)
        out = bytearray(opener.size)
        first, last = opener.cipher_range(0, opener.size)
        opener.open_range(memoryview(sealed)[first:last], 0, opener.size, memoryview(out))
        return bytes(out), version

    def names(self, folder: str) -> Iterator[str]:
        """Yield the names of the documents below a folder, in order; all of them without one."""
        start = len(self._prefix)
        listed = self._objects.list(self._prefix + (f"{folder}/" if folder else ""))
        yield from sorted(info.name[start:] for info in listed)

    def delete(self, name: str) -> None:
        """Remove a document; no error when it is not there."""
        self._objects.delete(self._prefix + name)

    def object_id(self, name: str) -> str:
        """Return the id that a document is sealed under: its place, digested."""
        return hashlib.sha256((self._prefix + name).encode()).hexdigest()[:32]

    def _sealed(self, name: str, parts: Iterable[bytes]) -> Iterator[bytes]:
        key_id, key = self._key()
        sealed = bytearray()
        preamble = Preamble(self._kind, self.object_id(name), key_id)
        sealer = Sealer(key, preamble, self._keys.vault_id, sealed.extend)
        for part in parts:
            sealer.write(part)
            if sealed:
                yield bytes(sealed)
                sealed.clear()
        sealer.close()
        yield bytes(sealed)

    def _key(self) -> tuple[str, bytes]:
        key_id = self._keys.keys_of(Role.PATHS)[0]
        return key_id, self._keys.sub_key(key_id, self._label)


__all__ = ["PathKeys", "SealedDocuments"]
