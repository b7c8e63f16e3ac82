"""Pages of wrapped keys: what one looks like, and when several become one. Nothing here does I/O."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from voxelvault.crypto.vault_record import PageRef
from voxelvault.crypto.wrap import WrapContext
from voxelvault.errors import IntegrityError
from voxelvault.model import FORMAT

MERGE_AT = 16
"""From this many pages on, the newest small ones become one."""


@dataclass(frozen=True, slots=True)
class WrappedKey:
    """A key as a page holds it.

    Parameters
    ----------
    key_id : str
        32 hexadecimal digits.
    role : str
        One of `voxelvault.crypto.keyring.Role`.
    parent_id : str or None
        The key it is wrapped under; None is the root.
    wrapped : bytes
        `voxelvault.crypto.wrap.wrap`'s 60 bytes.
    """

    key_id: str
    role: str
    parent_id: str | None
    wrapped: bytes

    def context(self, vault_id: str, generation: int) -> WrapContext:
        """Return what the wrap's associated data must be."""
        return WrapContext(self.role, vault_id, self.key_id, self.parent_id, generation)


def build_page(vault_id: str, generation: int, keys: Iterable[WrappedKey]) -> bytes:
    """Return a page as it is stored."""
    rows = [[key.key_id, key.role, key.parent_id, key.wrapped.hex()] for key in keys]
    page = {"format": FORMAT, "vault_id": vault_id, "generation": generation, "keys": rows}
    return json.dumps(page, separators=(",", ":")).encode()


def page_ref(page_id: str, page: bytes, count: int) -> PageRef:
    """Return how the record refers to a page."""
    return PageRef(page_id, hashlib.sha256(page).hexdigest(), count)


def parse_page(page: bytes, ref: PageRef, vault_id: str, generation: int) -> list[WrappedKey]:
    """Read a page that the record refers to.

    Raises
    ------
    IntegrityError
        It is not the page that the record vouches for.
    """
    if hashlib.sha256(page).hexdigest() != ref.sha256:
        raise IntegrityError(f"key page {ref.page_id} was changed or swapped: restore keys/ from a copy")
    try:
        content = json.loads(page)
        found = (content["vault_id"], content["generation"])
        keys = [
            WrappedKey(key_id, role, parent_id, bytes.fromhex(wrapped))
            for key_id, role, parent_id, wrapped in content["keys"]
        ]
    except (ValueError, TypeError, KeyError, RecursionError):
        raise IntegrityError(f"key page {ref.page_id} is damaged: restore keys/ from a copy") from None
    if found != (vault_id, generation):
        raise IntegrityError(f"key page {ref.page_id} is of another time: restore keys/ from a copy")
    return keys


def pages_to_keep(counts: Sequence[int], new: int) -> int:
    """Say how many of the oldest pages stay as they are when `new` keys are added.

    The rest is merged with the new keys into one page. Each kept page is at least four times as
    large as what was merged after it, so a vault of *n* keys has about log4(n) + 16 pages and
    rewrites a key about log4(n) times.

    Parameters
    ----------
    counts : sequence of int
        Number of keys of each page, oldest first.
    new : int
        Number of keys to be added.
    """
    keep = len(counts)
    if keep < MERGE_AT:
        return keep
    while keep and counts[keep - 1] <= 4 * new:
        keep -= 1
        new += counts[keep]
    return keep


__all__ = ["MERGE_AT", "WrappedKey", "build_page", "page_ref", "pages_to_keep", "parse_page"]
