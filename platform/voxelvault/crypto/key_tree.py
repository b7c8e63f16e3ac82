"""The keys of one vault in memory: wrapped ones, staged ones, and how they hang together. No I/O."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Set
from dataclasses import dataclass, field, replace
from enum import StrEnum

from voxelvault.crypto.key_pages import WrappedKey
from voxelvault.crypto.wrap import KEY_LENGTH, WRAPPING, WrapContext, derive, unwrap, wrap
from voxelvault.errors import KeyUnavailable, UsageError


class Role(StrEnum):
    """What a key is for; part of what its wrap authenticates."""

    SUBJECT = "subject"
    STUDY = "study"
    CATALOG = "catalog"
    PARQUET = "parquet"
    LOG = "log"
    LOG_TEXT = "log-text"
    LOG_SIGNING = "log-signing"
    PATHS = "paths"
    QUARANTINE = "quarantine"
    DERIVED = "derived"


SEALING = frozenset({Role.CATALOG, Role.PARQUET, Role.LOG, Role.LOG_TEXT, Role.QUARANTINE, Role.DERIVED})
"""Roles whose keys seal objects; all others are used through sub-keys. No key does both."""
PARENTS = frozenset({Role.SUBJECT, Role.STUDY})
"""Roles whose keys may have keys below them; the root has any."""


@dataclass(frozen=True, slots=True)
class Place:
    """What a key is for and which key it is wrapped under; None is the root."""

    role: Role
    parent_id: str | None


@dataclass
class KeyTree:
    """All keys below one root.

    Parameters
    ----------
    vault_id : str
        32 hexadecimal digits.
    generation : int
        Of the root.
    root : bytes
        32 bytes; never shown by `repr`.
    wrapped : dict
        Stored keys by id, oldest first.
    """

    vault_id: str
    generation: int
    root: bytes = field(repr=False)
    wrapped: dict[str, WrappedKey] = field(default_factory=dict, repr=False)
    _raw: dict[str, bytes] = field(default_factory=dict, repr=False)
    _staged: dict[str, Place] = field(default_factory=dict, repr=False)
    _moved: set[str] = field(default_factory=set, repr=False)

    def __contains__(self, key_id: object) -> bool:
        return key_id in self._staged or key_id in self.wrapped

    def __iter__(self) -> Iterator[str]:
        """Yield the id of every key, oldest first."""
        yield from self.wrapped
        yield from (key_id for key_id in self._staged if key_id not in self.wrapped)

    def of(self, role: Role) -> Iterator[str]:
        """Yield the id of every key of a role, oldest first."""
        yield from (key.key_id for key in self.wrapped.values() if key.role == role)
        yield from (i for i, place in self._staged.items() if place.role == role and i not in self.wrapped)

    @property
    def staged(self) -> bool:
        """Whether there is anything to store."""
        return bool(self._staged)

    def place(self, key_id: str) -> Place:
        """Return a key's role and parent.

        Raises
        ------
        KeyUnavailable
            There is no such key.
        """
        if key_id in self._staged:
            return self._staged[key_id]
        if key_id not in self.wrapped:
            raise KeyUnavailable(
                f"there is no key {key_id} here: it was destroyed or never stored; verify the vault"
            )
        return Place(Role(self.wrapped[key_id].role), self.wrapped[key_id].parent_id)

    def raw(self, key_id: str | None) -> bytes:
        """Return the 32 bytes of a key; None is the root.

        Raises
        ------
        KeyUnavailable
            There is no such key.
        IntegrityError
            It does not unwrap.
        """
        if key_id is None:
            return self.root
        if key_id not in self._raw:
            self.place(key_id)
            key = self.wrapped[key_id]
            wrapping = derive(self.raw(key.parent_id), WRAPPING)
            self._raw[key_id] = unwrap(wrapping, key.wrapped, key.context(self.vault_id, self.generation))
        return self._raw[key_id]

    def add(self, key_id: str, role: Role, parent_id: str | None) -> None:
        """Stage a fresh key.

        Raises
        ------
        UsageError
            The id is taken, or the parent's role allows no keys below it.
        KeyUnavailable
            There is no such parent.
        """
        if key_id in self:
            raise UsageError(f"there is a key {key_id} already: keys are made once")
        self._check_parent(parent_id)
        self._raw[key_id] = os.urandom(KEY_LENGTH)
        self._staged[key_id] = Place(role, parent_id)

    def move(self, key_id: str, parent_id: str | None) -> None:
        """Stage that a key hangs below another parent; the key itself stays the same.

        Raises
        ------
        UsageError
            The parent's role allows no keys below it, or it hangs below the key itself.
        KeyUnavailable
            There is no such key or parent.
        """
        self._check_parent(parent_id)
        above = parent_id
        while above is not None:
            if above == key_id:
                raise UsageError(f"key {key_id} can't hang below itself: choose another parent")
            above = self.place(above).parent_id
        self.raw(key_id)
        self._staged[key_id] = Place(self.place(key_id).role, parent_id)
        if key_id in self.wrapped:
            self._moved.add(key_id)

    def below(self, key_ids: Iterable[str]) -> set[str]:
        """Return those of the named keys that are here, and every key that hangs below one of them."""
        children: dict[str | None, list[str]] = {}
        for key_id in self:
            children.setdefault(self.place(key_id).parent_id, []).append(key_id)
        found: set[str] = set()
        waiting = [key_id for key_id in key_ids if key_id in self]
        while waiting:
            key_id = waiting.pop()
            found.add(key_id)
            waiting += children.get(key_id, [])
        return found

    def lost(self) -> set[str]:
        """Return what is staged and can't be stored any more, after others have changed the tree.

        A key above was destroyed, or the key itself was and only its move is staged here (storing
        it would undo the erasure), or two moves made at once would hang two keys below each other.
        """
        return {key_id for key_id in self._staged if not self._rooted(key_id)}

    def without(self, key_ids: Set[str]) -> KeyTree:
        """Return the tree with some keys staged no more."""
        staged = {key_id: place for key_id, place in self._staged.items() if key_id not in key_ids}
        return KeyTree(
            self.vault_id, self.generation, self.root, self.wrapped, self._raw, staged, self._moved - key_ids
        )._forgetful()

    def wrap_staged(self) -> dict[str, WrappedKey]:
        """Return what is staged, wrapped for this generation.

        Raises
        ------
        KeyUnavailable
            A staged key's parent was destroyed meanwhile.
        """
        return {key_id: self._wrap(key_id, place) for key_id, place in self._staged.items()}

    def rewrapped(self, root: bytes, dropped: Set[str]) -> KeyTree:
        """Return the tree of the next generation: every key but the dropped ones, under a new root."""
        kept = {key_id: self.place(key_id) for key_id in self if key_id not in dropped}
        raw = {key_id: self.raw(key_id) for key_id in kept}
        tree = KeyTree(self.vault_id, self.generation + 1, root, _raw=raw, _staged=kept)
        return tree.settled(tree.wrap_staged())

    def renewed(self, root: bytes, generation: int, wrapped: dict[str, WrappedKey]) -> KeyTree:
        """Return the tree as others have stored it, with what is staged here on top."""
        return KeyTree(
            self.vault_id, generation, root, wrapped, self._raw, self._staged, self._moved
        )._forgetful()

    def settled(self, stored: Mapping[str, WrappedKey]) -> KeyTree:
        """Return the tree after what was staged was stored."""
        return KeyTree(self.vault_id, self.generation, self.root, {**self.wrapped, **stored}, self._raw)

    def _check_parent(self, parent_id: str | None) -> None:
        if parent_id is not None and self.place(parent_id).role not in PARENTS:
            raise UsageError(f"key {parent_id} has no keys below it: name a subject or study key")

    def _rooted(self, key_id: str) -> bool:
        above: str | None = key_id
        seen = set()
        while above is not None:
            destroyed = above in self._moved and above not in self.wrapped
            if destroyed or above in seen or above not in self:
                return False
            seen.add(above)
            above = self.place(above).parent_id
        return True

    def _forgetful(self) -> KeyTree:
        """Return the tree without the bytes of keys that are no longer here."""
        raw = {key_id: key for key_id, key in self._raw.items() if key_id in self}
        return replace(self, _raw=raw, _staged=dict(self._staged), _moved=set(self._moved))

    def _wrap(self, key_id: str, place: Place) -> WrappedKey:
        context = WrapContext(place.role, self.vault_id, key_id, place.parent_id, self.generation)
        sealed = wrap(derive(self.raw(place.parent_id), WRAPPING), self._raw[key_id], context)
        return WrappedKey(key_id, place.role, place.parent_id, sealed)


__all__ = ["PARENTS", "SEALING", "KeyTree", "Place", "Role"]
