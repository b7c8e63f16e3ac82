"""The vault record and its key pages in an object store: reading, switching, sweeping."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager

from voxelvault.crypto.key_pages import WrappedKey, build_page, page_ref, parse_page
from voxelvault.crypto.vault_record import (
    PageRef,
    SignedRecord,
    VaultRecord,
    parse,
    verify_origin,
    verify_root,
)
from voxelvault.errors import (
    IntegrityError,
    LockTimeout,
    ObjectChanged,
    ObjectExists,
    ObjectMissing,
    VaultExists,
)
from voxelvault.model import ObjectStore, new_id

RECORD = "keys/record.json"
PAGES = "keys/pages/"
_LOCK, _LOCK_SECONDS = "keys", 60.0


class KeyStore:
    """Where the key ring keeps its documents.

    Parameters
    ----------
    objects : ObjectStore
    vault_id : str
        32 hexadecimal digits.
    vault_toml : bytes
        The vault's public description, as stored; the record vouches for it.
    """

    def __init__(self, objects: ObjectStore, vault_id: str, vault_toml: bytes) -> None:
        self._objects = objects
        self.vault_id = vault_id
        self.vault_toml = vault_toml
        self._seen: dict[PageRef, list[WrappedKey]] = {}
        self._version = "", ""
        """Digest of the record that was loaded last, and the store's name of that version."""

    def lock(self) -> AbstractContextManager[None]:
        """Hold the right to switch the record; `LockTimeout` when another process keeps it."""
        return self._objects.lock(_LOCK, _LOCK_SECONDS)

    def load(self) -> SignedRecord:
        """Return the stored record, checked as far as the root key isn't needed.

        Raises
        ------
        ForgedRecord
            It was changed, or is of another vault.
        IntegrityError
            There is none.
        """
        try:
            document, version = self._objects.versioned(RECORD)
            signed = parse(document)
        except ObjectMissing:
            raise IntegrityError(
                "the vault record is missing: restore keys/record.json from a copy"
            ) from None
        verify_origin(signed, self.vault_id, self.vault_toml)
        self._version = signed.digest, version
        return signed

    def load_all(
        self, find_root: Callable[[VaultRecord], bytes]
    ) -> tuple[SignedRecord, bytes, dict[str, WrappedKey]]:
        """Return the record, proven by the root key that `find_root` finds, that root key, and all keys.

        Keys come by id, oldest first; a later page's entry supersedes an earlier one's.

        Raises
        ------
        ForgedRecord
            The record is not what the root key vouches for.
        IntegrityError
            A page is missing, was changed or swapped.
        """
        lost = ""
        while True:
            signed = self.load()
            root = find_root(signed.record)
            verify_root(signed, root)
            try:
                return signed, root, self._read_keys(signed.record)
            except ObjectMissing:
                # Another process has merged the page away, and then the record has changed, too.
                if signed.digest == lost:
                    raise IntegrityError(
                        "a page of keys is missing: restore keys/pages from a copy"
                    ) from None
                lost = signed.digest

    def write_page(self, generation: int, keys: list[WrappedKey]) -> PageRef:
        """Store keys as a fresh page; nothing counts until a record names it."""
        page_id = new_id()
        page = build_page(self.vault_id, generation, keys)
        self._objects.put(PAGES + page_id, [page])
        ref = page_ref(page_id, page, len(keys))
        self._seen[ref] = keys
        return ref

    def keys_of(self, refs: Iterable[PageRef], generation: int) -> dict[str, WrappedKey]:
        """Return the keys of some pages by id; a later page's entry supersedes an earlier one's."""
        pages = [self._seen.get(ref) or self._read_page(ref, generation) for ref in refs]
        return {key.key_id: key for page in pages for key in page}

    def create(self, signed: SignedRecord) -> None:
        """Store a vault's first record.

        Raises
        ------
        VaultExists
            There is a record already.
        """
        try:
            self._objects.put(RECORD, [signed.document])
        except ObjectExists:
            raise VaultExists("a vault is here already: open it, or choose another place") from None

    def switch(self, signed: SignedRecord, former: SignedRecord) -> None:
        """Put the record in place of the one before, at once and for good; only under the lock.

        Raises
        ------
        LockTimeout
            `former` is no longer the stored one: this process slept past its lock. Nothing was changed.
        """
        digest, version = self._version
        try:
            if digest != former.digest:
                raise ObjectChanged
            self._version = signed.digest, self._objects.swap(RECORD, signed.document, version)
        except ObjectChanged:
            raise LockTimeout(
                "this process was held up so long that another one took the keys' lock: run again"
            ) from None

    def sweep(self, signed: SignedRecord, former: SignedRecord) -> None:
        """Remove the pages that the switch made superfluous, and what killed writers left.

        A page that no record names may be another writer's, who has the lock by now: only what is older
        than the record, by the store's own clock, can't be named by a later one.
        """
        named = {PAGES + ref.page_id for ref in signed.record.pages}
        doomed = {PAGES + ref.page_id for ref in former.record.pages} - named
        found = {info.name: info.modified for info in self._objects.list("keys/")}
        # Read after the listing: then the record was this one when it was listed.
        if parse(self._objects.get(RECORD)).digest == signed.digest:
            doomed |= {
                name
                for name, modified in found.items()
                if name.startswith(PAGES) and name not in named and modified < found.get(RECORD, 0.0)
            }
        for name in doomed:
            self._objects.delete(name)

    def _read_keys(self, record: VaultRecord) -> dict[str, WrappedKey]:
        self._seen = {
            ref: self._seen.get(ref) or self._read_page(ref, record.generation) for ref in record.pages
        }
        return self.keys_of(record.pages, record.generation)

    def _read_page(self, ref: PageRef, generation: int) -> list[WrappedKey]:
        return parse_page(self._objects.get(PAGES + ref.page_id), ref, self.vault_id, generation)


__all__ = ["PAGES", "RECORD", "KeyStore"]
