"""Digests that say nothing of what they were made from.

A plain hash of a condition or of a few labels could be guessed back; these are keyed with a key that
never leaves the vault. They are equal where the same was selected or labelled.
"""

from __future__ import annotations

import hashlib
import hmac
import json
from collections.abc import Iterable
from typing import Any

from voxelvault.crypto.key_tree import Role
from voxelvault.resources import Resources

_LABEL = "cohort-digests"


def keyed_digest(resources: Resources, value: Any) -> str:
    """Return the HMAC-SHA256 of a value made of lists, mappings, texts and numbers, hexadecimal."""
    key = resources.keys.sub_key(resources.keys.keys_of(Role.PATHS)[0], _LABEL)
    return hmac.new(key, canonical(value).encode(), hashlib.sha256).hexdigest()


def canonical(value: Any) -> str:
    """Return JSON that is the same for equal values."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), default=str)


def members_digest(sha256s: Iterable[str]) -> str:
    """Return the SHA-256 over the SHA-256 of instances, in order: as in the log's entries of handles."""
    return hashlib.sha256("".join(sorted(sha256s)).encode()).hexdigest()


__all__ = ["canonical", "keyed_digest", "members_digest"]
