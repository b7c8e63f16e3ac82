"""How an event becomes a leaf of the log, and a leaf an entry.

A leaf is canonical JSON (sorted keys, no spaces, ASCII) and holds 32 random bytes, so that nobody
can guess an entry and confirm the guess by its public hash. Free text is not in the leaf: the leaf
commits to it by HMAC under a random key that is stored only with the sealed text.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from voxelvault.audit.events import Event
from voxelvault.errors import IntegrityError, NewerFormat, UsageError
from voxelvault.model import FORMAT

LEAF_LIMIT = (1 << 16) - 1
"""Longest leaf in bytes: entry bundles prefix each with its length in 16 bits (C2SP tlog-tiles)."""


@dataclass(frozen=True, slots=True)
class TextRef:
    """Where an entry's free text is and what commits to it.

    Parameters
    ----------
    text_id : str
        Id of the sealed text object.
    hmac : str
        HMAC-SHA256 of the text under the key that is sealed with it, hexadecimal.
    """

    text_id: str
    hmac: str


@dataclass(frozen=True, slots=True)
class Entry:
    """An event as the log holds it; `kind` and `outcome` are plain words, newer ones included.

    Parameters
    ----------
    index : int
        Position in the log, from 0.
    when : datetime
        UTC.
    leaf : bytes
        What the tree hashes.
    """

    index: int
    when: datetime
    kind: str
    who: str
    outcome: str
    purpose: str | None
    action: str
    ids: Mapping[str, tuple[str, ...]]
    counts: Mapping[str, int]
    digests: Mapping[str, str]
    manifests: Mapping[str, str]
    codes: Mapping[str, tuple[str, ...]]
    text: TextRef | None
    leaf: bytes = field(repr=False)


_MAPPINGS = ("ids", "counts", "digests", "manifests", "codes")


def encode_leaf(event: Event, when: datetime, nonce: bytes, text: TextRef | None = None) -> bytes:
    """Write an event as a leaf.

    Parameters
    ----------
    event : Event
        Its `text` is not written.
    when : datetime
        With time zone; kept in UTC to the microsecond.
    nonce : bytes
        32 random bytes.
    text : TextRef, optional
        Commitment to the event's text.

    Returns
    -------
    bytes
        Canonical JSON.

    Raises
    ------
    UsageError
        The leaf would be longer than a bundle can hold.
    """
    document: dict[str, Any] = {
        "format": FORMAT,
        "when": when.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
        "kind": event.kind,
        "who": event.who,
        "outcome": event.outcome,
        "action": event.action,
        "nonce": nonce.hex(),
    }
    document |= {name: value for name in _MAPPINGS if (value := dict(getattr(event, name)))}
    if event.purpose:
        document["purpose"] = event.purpose
    if text is not None:
        document["text"] = {"id": text.text_id, "hmac": text.hmac}
    leaf = json.dumps(document, sort_keys=True, separators=(",", ":")).encode("ascii")
    if len(leaf) > LEAF_LIMIT:
        raise UsageError(f"an audit event of {len(leaf)} bytes is too long; split it into several")
    return leaf


def decode_leaf(index: int, leaf: bytes) -> Entry:
    """Read a leaf.

    Parameters
    ----------
    index : int
        Its position in the log.
    leaf : bytes
        From a bundle whose hashes were checked.

    Returns
    -------
    Entry
        Kinds and names that this version does not know are passed on as they are.

    Raises
    ------
    IntegrityError
        It is no leaf of ours.
    NewerFormat
        A newer version wrote it.
    """
    try:
        document = json.loads(leaf)
        if document["format"] > FORMAT:
            raise NewerFormat(f"audit entry {index} was written by a newer version; update voxelvault")
        return _entry(index, leaf, document)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise IntegrityError(f"audit entry {index} can't be read; restore audit/ from a copy") from None


def _entry(index: int, leaf: bytes, document: dict[str, Any]) -> Entry:
    text = document.get("text")
    return Entry(
        index=index,
        when=datetime.fromisoformat(document["when"]),
        leaf=leaf,
        purpose=document.get("purpose"),
        text=text and TextRef(text["id"], text["hmac"]),
        ids=_tuples(document.get("ids", {})),
        codes=_tuples(document.get("codes", {})),
        **{name: document.get(name, {}) for name in ("counts", "digests", "manifests")},
        **{name: document[name] for name in ("kind", "who", "outcome", "action")},
    )


def _tuples(lists: Mapping[str, list[str]]) -> dict[str, tuple[str, ...]]:
    return {name: tuple(values) for name, values in lists.items()}
