"""What the catalog keeps on a server, sealed: entries of changes, and the base that they stand on.

Both are sealed objects bound to their place, so a server can withhold them but not change, reorder
or repeat them. An entry also names the digest of the state before it.
"""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import pyarrow as pa

from voxelvault.catalog.catalog import Change
from voxelvault.crypto.streaming_aead import HEAD_LENGTH, Kind, Opener, Preamble, Sealer
from voxelvault.errors import IntegrityError

_ENTRY, _BASE = 0xE, 0xB


class EntryKeys(Protocol):
    """What sealing asks of the key ring."""

    @property
    def vault_id(self) -> str:
        """The vault's id."""

    def dek(self, key_id: str) -> bytes:
        """Return the raw key."""


@dataclass(frozen=True)
class Entry:
    """One commit: its changes, and the digests before and after it."""

    previous: str
    digest: str
    changes: Sequence[Change]


@dataclass(frozen=True)
class Base:
    """A whole state: its digest, DuckLake's encrypted metadata file, and the last entry that is in it.

    `key_id` opens both seals. The entry's number is sealed in, too: who could raise it would pass an
    older state off as the newest.
    """

    digest: str
    file: bytes
    key_id: str
    seq: int


def seal_entry(keys: EntryKeys, key_id: str, seq: int, entry: Entry) -> bytes:
    """Return an entry sealed for its place in the sequence."""
    streams = [_stream(change.rows) for change in entry.changes]
    about = {
        "previous": entry.previous,
        "digest": entry.digest,
        "changes": [
            (change.table, change.mode, len(stream))
            for change, stream in zip(entry.changes, streams, strict=True)
        ],
    }
    return _seal(keys, Preamble(Kind.CATALOG, _place(_ENTRY, seq), key_id), about, streams)


def open_entry(keys: EntryKeys, seq: int, sealed: bytes) -> Entry:
    """Return the entry at a place.

    Raises
    ------
    IntegrityError
        It was changed, or belongs elsewhere.
    KeyUnavailable
        Its key is not there.
    """
    about, rest, _ = _open(keys, _place(_ENTRY, seq), sealed)
    changes, at = [], 0
    for table, mode, length in about["changes"]:
        with pa.ipc.open_stream(rest[at : at + length]) as stream:
            changes.append(Change(table, stream.read_all(), mode))
        at += length
    return Entry(about["previous"], about["digest"], changes)


def seal_base(keys: EntryKeys, number: int, base: Base) -> bytes:
    """Return a base sealed for its number."""
    preamble = Preamble(Kind.CATALOG, _place(_BASE, number), base.key_id)
    return _seal(keys, preamble, {"digest": base.digest, "seq": base.seq}, [base.file])


def open_base(keys: EntryKeys, number: int, sealed: bytes) -> Base:
    """Return the base with a number; raises as `open_entry` does."""
    about, rest, key_id = _open(keys, _place(_BASE, number), sealed)
    return Base(about["digest"], bytes(rest), key_id, about["seq"])


def _place(kind: int, number: int) -> str:
    return f"{kind:04x}{number:028x}"


def _stream(rows: pa.Table) -> bytes:
    sink = io.BytesIO()
    options = pa.ipc.IpcWriteOptions(compression="zstd")
    with pa.ipc.new_stream(sink, rows.schema, options=options) as stream:
        stream.write_table(rows)
    return sink.getvalue()


def _seal(keys: EntryKeys, preamble: Preamble, about: object, parts: Sequence[bytes]) -> bytes:
    out = bytearray()
    sealer = Sealer(keys.dek(preamble.key_id), preamble, keys.vault_id, out.extend)
    head = json.dumps(about).encode()
    for part in (len(head).to_bytes(4, "big"), head, *parts):
        sealer.write(part)
    sealer.close()
    return bytes(out)


def _open(keys: EntryKeys, place: str, sealed: bytes) -> tuple[dict[str, Any], memoryview, str]:
    expect = Preamble.unpack(sealed[:HEAD_LENGTH])
    if (expect.kind, expect.object_id) != (Kind.CATALOG, place):
        raise IntegrityError(
            "the catalog's server gave an entry from another place: run `voxelvault verify`, and restore "
            "the database from a backup"
        )
    opener = Opener(keys.dek(expect.key_id), sealed[:HEAD_LENGTH], keys.vault_id, len(sealed), expect)
    start, stop = opener.cipher_range(0, opener.size)
    plain = bytearray(opener.size)
    opener.open_range(memoryview(sealed)[start:stop], 0, opener.size, memoryview(plain))
    view = memoryview(plain)
    body = 4 + int.from_bytes(view[:4], "big")
    return json.loads(bytes(view[4:body])), view[body:], expect.key_id


__all__ = ["Base", "Entry", "EntryKeys", "open_base", "open_entry", "seal_base", "seal_entry"]
