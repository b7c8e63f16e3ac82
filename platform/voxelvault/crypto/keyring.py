"""The key ring: every key of a vault, from the root down.

::

    root ─┬─ subject key ── study key ── (the DEK of each pack, wrapped, in the pack's manifest)
          ├─ catalog, parquet, log, … keys: each seals objects itself
          └─ log signing, paths: used through sub-keys only

New keys are staged in memory, usable at once, and stored by `commit`: one write-once page, one
atomic switch of the vault record. Merging subjects or moving a study rewraps one key; destroying
keys makes a new root and a new generation of pages, so that nothing left in keys/ opens them.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType
from typing import NoReturn

from voxelvault.crypto import pack_keys, slots
from voxelvault.crypto.key_state import KeyState, create_state, open_state
from voxelvault.crypto.key_store import KeyStore
from voxelvault.crypto.key_tree import SEALING, Role
from voxelvault.crypto.providers import Provider
from voxelvault.crypto.slots import DestroyReport
from voxelvault.crypto.vault_record import NewSlot, Slot, fingerprint
from voxelvault.crypto.wrap import derive
from voxelvault.errors import UsageError, VaultClosed
from voxelvault.model import ObjectStore, new_id

_NO_SETTINGS: Mapping[str, str | int] = MappingProxyType({})
_NO_ROLL: Mapping[str, NewSlot] = MappingProxyType({})


class KeyRing:
    """The keys of one open vault; made by `create` and `open`, safe to share between threads.

    It refuses to pickle: the root key never leaves its process.
    """

    def __init__(self, state: KeyState) -> None:
        self._held: KeyState | None = state

    @property
    def _state(self) -> KeyState:
        if self._held is None:
            raise VaultClosed
        return self._held

    @property
    def closed(self) -> bool:
        """Whether the keys were let go of."""
        return self._held is None

    def close(self) -> None:
        """Let go of the keys: whatever needs one from now on raises `VaultClosed`."""
        self._held = None

    @classmethod
    def create(
        cls,
        objects: ObjectStore,
        vault_id: str,
        vault_toml: bytes,
        slots: Sequence[NewSlot],
        *,
        settings: Mapping[str, str | int] = _NO_SETTINGS,
        providers: Sequence[Provider] = (),
    ) -> KeyRing:
        """Make a vault's root, its log's signing key and its record.

        Parameters
        ----------
        objects : ObjectStore
        vault_id : str
            32 hexadecimal digits.
        vault_toml : bytes
            The vault's public description, as stored.
        slots : sequence of NewSlot
            Ways to the root; at least one.
        settings : mapping
            Settings that the record vouches for.
        providers : sequence of Provider
            Asked again if another process makes a new generation.

        Raises
        ------
        UsageError
            No slot was given.
        VaultExists
            There is a record already.
        """
        return cls(create_state(KeyStore(objects, vault_id, vault_toml), slots, settings, providers))

    @classmethod
    def open(
        cls,
        objects: ObjectStore,
        vault_id: str,
        vault_toml: bytes,
        providers: Sequence[Provider],
        *,
        fingerprint: str | None = None,
    ) -> KeyRing:
        """Open a vault with the keys that the providers find.

        Parameters
        ----------
        objects, vault_id, vault_toml
            As for `create`.
        providers : sequence of Provider
            Asked in order.
        fingerprint : str, optional
            Whose vault it must be; without it no vault opens with a recipient's key.

        Raises
        ------
        WrongPassphrase
            A passphrase or recovery code was given, and opens no slot.
        KeyUnavailable
            No other key opens one either; the message says which slots there are.
        ForgedRecord
            The record is not what its root key, its log's key or the fingerprint vouches for.
        IntegrityError
            A page of keys is missing or was swapped.
        """
        store = KeyStore(objects, vault_id, vault_toml)
        return cls(open_state(store, providers, fingerprint))

    def __reduce__(self) -> NoReturn:
        raise UsageError(
            "a KeyRing never leaves its process: open the vault in the other one, or send it a grant"
        )

    def __repr__(self) -> str:
        if self.closed:
            return "<KeyRing, closed>"
        return f"<KeyRing of vault {self.vault_id}, generation {self.generation}, record {self.number}>"

    @property
    def vault_id(self) -> str:
        """The vault, 32 hexadecimal digits."""
        return self._state.record.vault_id

    @property
    def generation(self) -> int:
        """How many roots the vault has had."""
        return self._state.record.generation

    @property
    def number(self) -> int:
        """How many records the vault has had."""
        return self._state.record.number

    @property
    def record_digest(self) -> str:
        """SHA-256 of the record document, hexadecimal."""
        return self._state.signed.digest

    @property
    def settings(self) -> Mapping[str, str | int]:
        """Settings that the record vouches for."""
        return MappingProxyType(dict(self._state.record.settings))

    @property
    def log_public_key(self) -> bytes:
        """The log's Ed25519 public key, 32 bytes."""
        return self._state.record.log_public_key

    @property
    def fingerprint(self) -> str:
        """What identifies this vault to a recipient; hand it over beside the vault, not in it."""
        return fingerprint(self.vault_id, self.log_public_key)

    def slots(self) -> tuple[Slot, ...]:
        """Return the ways to the root key, as last read."""
        return self._state.record.slots

    # Keys

    def new_key(self, role: Role, parent_id: str | None = None, key_id: str | None = None) -> str:
        """Stage a fresh key and return its id; `commit` stores it.

        Raises
        ------
        UsageError
            The id is taken, or the parent is neither a subject nor a study key.
        KeyUnavailable
            There is no such parent.
        """
        key_id = key_id or new_id()
        with self._state.mutex:
            self._state.know(parent_id)
            self._state.tree.add(key_id, role, parent_id)
        return key_id

    def keys_of(self, role: Role) -> list[str]:
        """Return the ids of all keys of a role, oldest first; staged ones come last."""
        with self._state.mutex:
            return self._state.keys_of(role)

    def parent_of(self, key_id: str) -> str | None:
        """Return the id of the key above; None is the root.

        Raises
        ------
        KeyUnavailable
            There is no such key.
        """
        with self._state.mutex:
            self._state.know(key_id)
            return self._state.tree.place(key_id).parent_id

    def below(self, key_ids: Iterable[str]) -> set[str]:
        """Return those of the named keys that there are, and all that hang below them."""
        with self._state.mutex:
            return self._state.tree.below(key_ids)

    def dek(self, key_id: str) -> bytes:
        """Return a key that seals objects itself (`SEALING`), 32 bytes.

        Raises
        ------
        UsageError
            The key's role is another one: it is used through sub-keys only.
        KeyUnavailable
            There is no such key: it was destroyed or never stored.
        IntegrityError
            It does not unwrap.
        """
        return self._raw(key_id, sealing=True)

    def sub_key(self, key_id: str, label: str) -> bytes:
        """Return the sub-key for one use of a key that seals nothing itself, 32 bytes.

        Raises
        ------
        UsageError
            The key's role is one that seals objects.
        KeyUnavailable
            There is no such key: it was destroyed or never stored.
        IntegrityError
            It does not unwrap.
        """
        return derive(self._raw(key_id, sealing=False), f"use/{label}")

    def wrap_dek(self, study_key_id: str, pack_id: str, dek: bytes) -> str:
        """Wrap a pack's DEK for its manifest; hexadecimal.

        Raises
        ------
        UsageError
            The key is neither a study nor a subject key.
        KeyUnavailable
            There is no such key.
        """
        return pack_keys.wrap_dek(self._state, study_key_id, pack_id, dek)

    def unwrap_dek(self, study_key_id: str, pack_id: str, wrapped: str) -> bytes:
        """Return the DEK that `wrap_dek` wrapped.

        Raises
        ------
        IntegrityError
            It is another pack's, another study's, or was changed.
        KeyUnavailable
            There is no such key: the study was erased.
        """
        return pack_keys.unwrap_dek(self._state, study_key_id, pack_id, wrapped)

    def rewrap_dek(self, pack_id: str, wrapped: str, old_key_id: str, new_key_id: str) -> str:
        """Return a pack's wrapped DEK under another study key, for a manifest that stays.

        Raises
        ------
        IntegrityError
            The wrapped DEK is not the pack's under the old key.
        KeyUnavailable
            There is no such key.
        """
        return self.wrap_dek(new_key_id, pack_id, self.unwrap_dek(old_key_id, pack_id, wrapped))

    def sign(self, message: bytes) -> bytes:
        """Return the log's Ed25519 signature, 64 bytes.

        Raises
        ------
        IntegrityError
            The signing key at hand is not the one that the record names.
        """
        with self._state.mutex:
            return self._state.log_key().sign(message)

    # Storing

    def commit(self) -> str:
        """Store what is staged and return the record's digest; nothing staged, nothing written.

        Raises
        ------
        LockTimeout
            Another process keeps the lock.
        StorageError
            The store refused; what is staged stays staged.
        KeyUnavailable
            Another process erased a staged key's subject or study; what hung below it is staged no more.
        """
        with self._state.mutex:
            if self._state.tree.staged:
                with self._state.writing():
                    self._state.store_staged()
            return self.record_digest

    def refresh(self) -> None:
        """Take over what other processes have stored.

        Raises
        ------
        RollbackDetected
            The stored record is older than the one in use.
        ForgedRecord
            It is not what the root key vouches for.
        KeyUnavailable
            It has a new root that no provider at hand opens.
        """
        with self._state.mutex:
            self._state.refresh()

    def change_settings(self, settings: Mapping[str, str | int]) -> None:
        """Set settings that the record vouches for; others stay.

        Raises
        ------
        StorageError
            The store refused.
        """
        with self._state.writing():
            record = self._state.record
            self._state.switch(replace(record, settings={**record.settings, **settings}), self._state.tree)

    # Erasing and moving

    def reparent(self, key_id: str, new_parent_id: str | None) -> None:
        """Stage that a key hangs below another: a study moves, a subject is merged into another.

        Nothing but one page entry changes: the key stays, and so does all that it opens.

        Raises
        ------
        UsageError
            The parent is neither a subject nor a study key, or hangs below the key.
        KeyUnavailable
            There is no such key or parent.
        """
        with self._state.mutex:
            self._state.know(key_id, new_parent_id)
            self._state.tree.move(key_id, new_parent_id)

    def roll(self, key_id: str) -> str:
        """Stage a successor of a study key, below the same parent, and return its id.

        The caller rewraps the DEKs that remain (`rewrap_dek`), then destroys the old key.

        Raises
        ------
        KeyUnavailable
            There is no such key.
        """
        with self._state.mutex:
            self._state.know(key_id)
            place = self._state.tree.place(key_id)
            return self.new_key(place.role, place.parent_id)

    def destroy(self, key_ids: Collection[str], roll: Mapping[str, NewSlot] = _NO_ROLL) -> DestroyReport:
        """Destroy keys and all below them: a new root, and pages without them under it.

        Parameters
        ----------
        key_ids : collection of str
            Keys that are gone already don't count: an erasure can be run again.
        roll : mapping
            New secrets for slots, by slot id (a new key file, a new recovery code).

        Raises
        ------
        UsageError
            One of them is the log's signing key, or `roll` names no slot of this vault.
        """
        return slots.destroy(self._state, key_ids, roll)

    # Slots

    def rotate(self) -> None:
        """Make a new root and generation; every slot of the proven record opens it as before.

        Raises
        ------
        ForgedRecord
            The stored record was changed by someone without the root key: nobody gets the new root.
        """
        slots.rotate(self._state)

    def add_slot(self, slot: NewSlot) -> str:
        """Add a way to the root key and return its slot id.

        Raises
        ------
        UsageError
            Its public key is malformed.
        """
        return slots.add(self._state, slot)

    def remove_slot(self, slot_id: str) -> None:
        """Remove a way to the root key; whoever had it gets nothing of the new generation.

        Raises
        ------
        UsageError
            There is no such slot, or it is the last.
        """
        slots.remove(self._state, slot_id)

    def new_recovery_code(self) -> str:
        """Make a recovery code and return it; the one before opens nothing of the new generation."""
        return slots.renew_recovery_code(self._state)

    # Inside

    def _raw(self, key_id: str, *, sealing: bool) -> bytes:
        with self._state.mutex:
            self._state.know(key_id)
            role = self._state.tree.place(key_id).role
            if (role in SEALING) is not sealing:
                how = (
                    "seals objects: ask for dek()"
                    if role in SEALING
                    else "is used through sub-keys: ask for sub_key()"
                )
                raise UsageError(f"a {role} key {how}")
            return self._state.tree.raw(key_id)


__all__ = ["DestroyReport", "KeyRing", "Role"]
