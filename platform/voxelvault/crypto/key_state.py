"""What a key ring holds and how it changes: one proven record, its key tree, switched together."""

from __future__ import annotations

import hashlib
import os
import threading
from collections.abc import Iterator, Mapping, Sequence, Set
from contextlib import contextmanager, suppress
from dataclasses import replace

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from voxelvault.crypto.key_pages import pages_to_keep
from voxelvault.crypto.key_store import KeyStore
from voxelvault.crypto.key_tree import KeyTree, Role
from voxelvault.crypto.providers import Provider
from voxelvault.crypto.unlocking import find_root
from voxelvault.crypto.vault_record import NewSlot, SignedRecord, VaultRecord, build, commitment, fingerprint
from voxelvault.crypto.wrap import KEY_LENGTH, derive
from voxelvault.errors import (
    ForgedRecord,
    IntegrityError,
    KeyUnavailable,
    RollbackDetected,
    StorageError,
    UsageError,
)
from voxelvault.model import new_id


class KeyState:
    """The record and the keys of one open vault.

    Parameters
    ----------
    store : KeyStore
    signed : SignedRecord
        Proven by the tree's root.
    tree : KeyTree
    providers : sequence of Provider
        Asked again when another process has made a new root.
    """

    def __init__(
        self, store: KeyStore, signed: SignedRecord, tree: KeyTree, providers: Sequence[Provider]
    ) -> None:
        self.signed = signed
        self.tree = tree
        self.mutex = threading.RLock()
        self._store = store
        self._providers = tuple(providers)
        self._signer: Ed25519PrivateKey | None = None

    @property
    def record(self) -> VaultRecord:
        """The proven record."""
        return self.signed.record

    def keys_of(self, role: Role) -> list[str]:
        """Return the ids of all keys of a role, oldest first."""
        return list(self.tree.of(role))

    def know(self, *key_ids: str | None) -> None:
        """Read the record again if one of the keys isn't here: another process may have made it."""
        if any(key_id is not None and key_id not in self.tree for key_id in key_ids):
            self.refresh()

    def log_key(self) -> Ed25519PrivateKey:
        """Return the log's signing key.

        Raises
        ------
        IntegrityError
            The key at hand is not the one that the record names.
        """
        if self._signer is None:
            signers = [signing_key(self.tree.raw(key_id)) for key_id in self.keys_of(Role.LOG_SIGNING)]
            named = self.record.log_public_key
            if not signers or signers[0].public_key().public_bytes_raw() != named:
                raise IntegrityError("the log's signing key is not the record's: restore keys/ from a copy")
            self._signer = signers[0]
        return self._signer

    def refresh(self) -> None:
        """Take over what other processes have stored; `KeyRing.refresh` says what can fail."""
        if self._store.load().document == self.signed.document:
            return
        signed, root, wrapped = self._store.load_all(self._root_of)
        if signed.record.number <= self.record.number:
            raise RollbackDetected("the vault record is older than the one in use: restore the newest keys/")
        if signed.record.log_public_key != self.record.log_public_key:
            raise ForgedRecord("the vault record names another log key: restore keys/ from a copy")
        self.tree = self.tree.renewed(root, signed.record.generation, wrapped)
        self.signed = signed

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Hold the lock, with the newest record at hand.

        Raises
        ------
        KeyUnavailable
            What is staged can't be stored since another process erased something; it is dropped,
            so that the next write goes through.
        """
        with self.mutex, self._store.lock():
            self.refresh()
            lost = self.tree.lost()
            if lost:
                self.tree = self.tree.without(lost)
                raise KeyUnavailable(
                    f"key {min(lost)} or one above it was destroyed meanwhile: do that step again"
                )
            yield

    def store_staged(self) -> None:
        """Store what is staged as one page; many small pages become one on the way."""
        fresh, record = self.tree.wrap_staged(), self.record
        keep = pages_to_keep([page.count for page in record.pages], len(fresh))
        merged = self._store.keys_of(record.pages[keep:], record.generation) | fresh
        page = self._store.write_page(record.generation, list(merged.values()))
        self.switch(replace(record, pages=(*record.pages[:keep], page)), self.tree.settled(fresh))

    def regenerate(self, slots: Sequence[NewSlot], doomed: Set[str] = frozenset()) -> None:
        """Make a new root: every key but the doomed ones under it, and it sealed to the given slots."""
        root = os.urandom(KEY_LENGTH)
        tree = self.tree.rewrapped(root, doomed)
        record = replace(
            self.record,
            generation=tree.generation,
            root_commitment=commitment(root),
            slots=tuple(slot.seal(root, tree.vault_id, tree.generation) for slot in slots),
            pages=(self._store.write_page(tree.generation, list(tree.wrapped.values())),),
        )
        self.switch(record, tree)

    def switch(self, record: VaultRecord, tree: KeyTree) -> None:
        """Store a record as the next one, then remove the pages that it no longer names.

        The record counts once it is stored: pages that can't be removed wait for the next switch.
        """
        signed, former = (
            build(replace(record, number=record.number + 1), tree.root, self.log_key().sign),
            self.signed,
        )
        self._store.switch(signed, former)
        self.signed, self.tree = signed, tree
        with suppress(StorageError):
            self._store.sweep(signed, former)

    def _root_of(self, record: VaultRecord) -> bytes:
        if record.generation == self.record.generation:
            return self.tree.root
        known = fingerprint(self.record.vault_id, self.record.log_public_key)
        return find_root(record, self._providers, known)


def create_state(
    store: KeyStore,
    slots: Sequence[NewSlot],
    settings: Mapping[str, str | int],
    providers: Sequence[Provider],
) -> KeyState:
    """Make a vault's root, its log's signing key and its first record; `KeyRing.create` says more."""
    if not slots:
        raise UsageError("a vault needs a way in: give a key file, a passphrase or a recovery code")
    tree = KeyTree(store.vault_id, 1, os.urandom(KEY_LENGTH))
    signing_id = new_id()
    tree.add(signing_id, Role.LOG_SIGNING, None)
    signer = signing_key(tree.raw(signing_id))
    fresh = tree.wrap_staged()
    record = VaultRecord(
        vault_id=store.vault_id,
        number=1,
        generation=1,
        vault_toml_sha256=hashlib.sha256(store.vault_toml).hexdigest(),
        root_commitment=commitment(tree.root),
        log_public_key=signer.public_key().public_bytes_raw(),
        slots=tuple(slot.seal(tree.root, store.vault_id, 1) for slot in slots),
        pages=(store.write_page(1, list(fresh.values())),),
        settings=settings,
    )
    signed = build(record, tree.root, signer.sign)
    store.create(signed)
    return KeyState(store, signed, tree.settled(fresh), providers)


def open_state(store: KeyStore, providers: Sequence[Provider], fingerprint: str | None) -> KeyState:
    """Open a vault with the keys that the providers find; `KeyRing.open` says what can fail."""
    signed, root, wrapped = store.load_all(lambda record: find_root(record, providers, fingerprint))
    tree = KeyTree(store.vault_id, signed.record.generation, root, wrapped)
    state = KeyState(store, signed, tree, providers)
    state.log_key()  # fails now rather than at the first entry if it isn't the record's
    return state


def signing_key(key: bytes) -> Ed25519PrivateKey:
    """Return the Ed25519 key that a `Role.LOG_SIGNING` key makes."""
    return Ed25519PrivateKey.from_private_bytes(derive(key, "use/ed25519"))


__all__ = ["KeyState", "create_state", "open_state", "signing_key"]
