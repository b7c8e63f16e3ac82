"""Documents at rest, changed in any way: read as they were written, or refused in our own words.

Most lie within a seal or under a signature; what reads them must not rely on that to stay whole.
"""

from __future__ import annotations

import json
import math
import os
import secrets
from collections.abc import Callable
from dataclasses import astuple
from datetime import UTC, datetime
from typing import Any

import imagecodecs
import numpy as np
import pyarrow as pa
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given, settings
from hypothesis import strategies as st

from voxelvault.audit.checkpoint import Checkpoint, NoteKey, open_checkpoint, sign_note
from voxelvault.audit.envelope import open_bundle, open_text, seal, seal_bundle, seal_text
from voxelvault.audit.events import Event, Kind
from voxelvault.audit.leaf import decode_leaf, encode_leaf
from voxelvault.audit.log import AuditLog
from voxelvault.audit.merkle import leaf_hash
from voxelvault.audit.proof import verify_growth, verify_proof
from voxelvault.audit.tiles import Tile, Tree
from voxelvault.catalog.catalog import Change
from voxelvault.catalog.sealed_entries import Base, Entry, open_base, open_entry, seal_base, seal_entry
from voxelvault.crypto.grants import Grant, open_grant, seal_grant
from voxelvault.crypto.hybrid import PrivateKey
from voxelvault.crypto.key_pages import WrappedKey, build_page, page_ref, parse_page
from voxelvault.crypto.key_tree import Role
from voxelvault.crypto.providers.passphrase import PassphraseProvider
from voxelvault.crypto.streaming_aead import Kind as Sealed
from voxelvault.crypto.unlocking import find_root
from voxelvault.crypto.vault_record import (
    NewSlot,
    PageRef,
    VaultRecord,
    build,
    commitment,
    parse,
    verify_origin,
    verify_root,
)
from voxelvault.crypto.vault_record import _canonical as canonical
from voxelvault.derived.bricks import BrickLayout, cut, decode, encode, encoded, read_index
from voxelvault.dicom.read import Header
from voxelvault.errors import KeyUnavailable, VoxelVaultError
from voxelvault.model import FrameSpec, SealedRef, new_id
from voxelvault.storage.objects import MemoryObjects
from voxelvault.storage.pack import (
    InstanceRecord,
    Manifest,
    SeriesIdentity,
    StackKey,
    StackRecord,
    manifest_from_bytes,
    manifest_to_bytes,
)
from voxelvault.storage.shards import OpenShard, shard_index
from voxelvault.testing.damage import changed, changed_document

SOME = settings(max_examples=35, deadline=None, derandomize=True)


def refused(read: Callable[[], Any]) -> Any:
    """Return what was read, None where it was refused in our own words."""
    try:
        return read()
    except VoxelVaultError:
        return None


class Ring:
    """The few keys that seals and the log ask for."""

    def __init__(self) -> None:
        self.vault_id, self.key_id, self._dek = new_id(), new_id(), secrets.token_bytes(32)
        self._signer = Ed25519PrivateKey.generate()
        self.log_public_key = self._signer.public_key().public_bytes_raw()

    def keys_of(self, role: Role) -> list[str]:
        return [self.key_id]

    def dek(self, key_id: str) -> bytes:
        if key_id != self.key_id:
            raise KeyUnavailable("no such key")
        return self._dek

    def sign(self, message: bytes) -> bytes:
        return self._signer.sign(message)


RING = Ring()
KEY = NoteKey(f"voxelvault/{RING.vault_id}", RING.log_public_key)


# Manifests


def ref(kind: int = 2) -> SealedRef:
    return SealedRef(new_id(), new_id(), kind, 1000, "ab" * 32)


STACK = StackKey(FrameSpec(3, 5), "1.2.840.10008.1.2.1", "<u2", (3, 5), "htj2k")
MANIFEST = Manifest(
    new_id(),
    new_id(),
    new_id(),
    "00ff",
    "2026-01-01",
    SeriesIdentity(new_id(), new_id(), new_id(), "", "P", "1.2", "1.3"),
    (StackRecord(STACK, 1, 2, (ref(),), ("11" * 32,)),),
    (
        InstanceRecord(new_id(), "1.2", "1.3", "cd" * 32, 70, (10, 30, 30), 0, 0, 0, 1),
        InstanceRecord(new_id(), "1.4", "1.3", "ef" * 32, 70, (), 40, 0, 1, 2, (1, 2), ref()),
    ),
    ref(),
    ((40, 21),),
    versions=(1, 1),
)
MANIFEST_BYTES = manifest_to_bytes(MANIFEST)
MANIFEST_JSON = json.loads(imagecodecs.zstd_decode(MANIFEST_BYTES))


def read_manifest(data: bytes) -> Manifest:
    found = manifest_from_bytes(data)
    tuple(found.instances)
    found.objects()
    return found


@SOME
@given(changed(MANIFEST_BYTES) | st.binary(max_size=60))
def test_changed_manifests(data: bytes) -> None:
    found = refused(lambda: read_manifest(data))
    assert found is None or data != MANIFEST_BYTES or found == MANIFEST


@SOME
@given(changed_document(MANIFEST_JSON))
def test_manifests_that_hold_something_else(document: Any) -> None:
    refused(lambda: read_manifest(bytes(imagecodecs.zstd_encode(json.dumps(document).encode()))))


# Shards and bricks


class Plain:
    """What stands for an opened seal."""

    def __init__(self, data: bytes) -> None:
        self._data, self.size = data, len(data)

    def read(self, start: int, stop: int) -> bytes:
        return self._data[start:stop]


SHARD = shard_index((5, 9), 4) + bytes(14)


@SOME
@given(changed(SHARD) | st.binary(max_size=100), st.integers(1, 4), st.integers(0, 4))
def test_changed_shards(data: bytes, slots: int, used: int) -> None:
    found = refused(lambda: OpenShard(Plain(data), slots, min(used, slots)))  # type: ignore[arg-type]
    if found is not None:
        for start, length in found.index[: min(used, slots)].tolist():
            assert 0 <= start <= start + length <= len(data)


LAYOUT = BrickLayout((4, 5, 6), (4, 4, 4), "int16", "lz4", 0.0, ((1.0, 0.0, 0.0, 0.0),) * 4, labels=("a",))
VOLUME = np.arange(120, dtype=np.int16).reshape(4, 5, 6)
BRICKS = b"".join(bytes(part) for part in encoded(VOLUME, LAYOUT))


@SOME
@given(changed(BRICKS[: LAYOUT.index_bytes]), st.integers(0, 2000))
def test_changed_brick_indexes(data: bytes, size: int) -> None:
    found = refused(lambda: read_index(data, LAYOUT, size))
    assert all(0 <= start <= start + length <= size for start, length in found or ())


@SOME
@given(changed_document(json.loads(LAYOUT.to_json())))
def test_layouts_that_hold_something_else(document: Any) -> None:
    layout = refused(lambda: BrickLayout.from_json(json.dumps(document)))
    if layout is not None:
        assert (layout.slots >= 0, layout.brick_bytes > 0) == (True, True)
        assert BrickLayout.from_json(layout.to_json()) == layout or math.isnan(layout.fill)


@pytest.mark.parametrize("codec", ["raw", "lz4", "zstd", "fast"])
@SOME
@given(data=st.data())
def test_changed_bricks(codec: str, data: st.DataObject) -> None:
    layout = BrickLayout(LAYOUT.shape, LAYOUT.chunks, "int16", codec, 0.0, LAYOUT.affine_ras)
    brick = next(found for found in cut(VOLUME, layout) if found is not None)
    chunk = data.draw(changed(bytes(encode(brick, codec))) | st.binary(max_size=40))
    scratch = np.zeros(layout.brick_bytes, np.uint8)
    found = refused(lambda: decode(memoryview(chunk), layout, scratch))
    assert found is None or (found.shape, found.dtype) == (layout.chunks, np.int16)


# The vault record and its pages

ROOT, SIGNER, SLOT_KEY = os.urandom(32), Ed25519PrivateKey.generate(), PrivateKey.generate()
VAULT, TOML_DIGEST = new_id(), "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
RECORD = build(
    VaultRecord(
        VAULT,
        7,
        3,
        TOML_DIGEST,
        commitment(ROOT),
        SIGNER.public_key().public_bytes_raw(),
        (NewSlot("passphrase", SLOT_KEY.public_key(), "laptop", {"salt": "00" * 16}).seal(ROOT, VAULT, 3),),
        (PageRef(new_id(), "00" * 32, 4),),
        {"read_only_log": "side"},
    ),
    ROOT,
    SIGNER.sign,
)


@SOME
@given(changed(RECORD.document) | st.binary(max_size=60))
def test_changed_records(document: bytes) -> None:
    found = refused(lambda: parse(document))
    assert found is None or found.document == document
    if found is not None and document != RECORD.document:
        with pytest.raises(VoxelVaultError):
            verify_root(found, ROOT)


@SOME
@given(changed_document(json.loads(RECORD.document)))
def test_records_that_hold_something_else(document: Any) -> None:
    """Whoever can write files can write a record that parses: unlocking reads it before it is proven."""
    try:
        written = canonical(document)
    except ValueError:  # not even JSON: NaN
        return

    def opened() -> bytes:
        found = parse(written)
        refused(lambda: verify_origin(found, VAULT, b""))
        return find_root(found.record, [PassphraseProvider("x")], None)

    assert refused(opened) is None


PAGE_KEYS = [
    WrappedKey(new_id(), "study", None, bytes(60)),
    WrappedKey(new_id(), "pack", new_id(), bytes(60)),
]
PAGE = build_page(VAULT, 3, PAGE_KEYS)


@SOME
@given(changed(PAGE) | changed_document(json.loads(PAGE)).map(lambda page: json.dumps(page).encode()))
def test_pages_that_hold_something_else(page: bytes) -> None:
    """With the digest that the record has for it, as if the record had been written so."""
    refused(lambda: parse_page(page, page_ref(new_id(), page, 2), VAULT, 3))
    assert page == PAGE or refused(lambda: parse_page(page, page_ref("", PAGE, 2), VAULT, 3)) is None


# Grants

FAMILY = PrivateKey.generate()
GRANT = Grant("a" * 32, "b" * 32, "read", 1000.0, {"c" * 32: os.urandom(32)}, b"payload")
GRANT_BYTES = seal_grant(GRANT, FAMILY.public_key())
GRANT_START = len(b"voxelvault grant 1\n") + 4
GRANT_STOP = GRANT_START + int.from_bytes(GRANT_BYTES[GRANT_START - 4 : GRANT_START], "big")


@SOME
@given(changed(GRANT_BYTES) | changed(GRANT_BYTES[: GRANT_STOP + 9]) | st.binary(max_size=60))
def test_changed_grants(sealed: bytes) -> None:
    found = refused(lambda: open_grant(sealed, FAMILY, 0.0))
    assert found is None or (sealed == GRANT_BYTES and found == GRANT)


@SOME
@given(changed_document(json.loads(GRANT_BYTES[GRANT_START:GRANT_STOP])))
def test_grants_whose_header_holds_something_else(document: Any) -> None:
    header = json.dumps(document).encode()
    sealed = (
        GRANT_BYTES[: GRANT_START - 4] + len(header).to_bytes(4, "big") + header + GRANT_BYTES[GRANT_STOP:]
    )
    assert refused(lambda: open_grant(sealed, FAMILY, 0.0)) in (None, GRANT)


# The log

NOW = datetime(2026, 1, 1, tzinfo=UTC)
EVENT = Event(kind=Kind.VAULT_OPENED, who="alice", counts={"record_number": 1})
LEAF = encode_leaf(EVENT, NOW, bytes(32))
BUNDLE = seal_bundle(RING, [LEAF, LEAF])
TEXT, SEALED_TEXT = seal_text(RING, "a reason")
NOTE = sign_note(Checkpoint(KEY.name, 5, bytes(32)).text, KEY, RING.sign)


@SOME
@given(changed(NOTE.encode()).map(lambda note: note.decode("utf-8", "replace")) | st.text(max_size=60))
def test_changed_checkpoints(note: str) -> None:
    found = refused(lambda: open_checkpoint(note, KEY))
    assert found is None or astuple(found) == (KEY.name, 5, bytes(32))


@SOME
@given(changed(str(KEY).encode()).map(lambda text: text.decode("utf-8", "surrogateescape")) | st.text())
def test_changed_verifier_keys(text: str) -> None:
    found = refused(lambda: NoteKey.parse(text))
    assert found is None or str(found) == text.strip()


@SOME
@given(st.integers(0, 70_000), st.data())
def test_changed_tiles(size: int, data: st.DataObject) -> None:
    def read(tile: Tile) -> bytes:
        return data.draw(st.just(bytes(32 * tile.width)) | changed(bytes(32 * tile.width)))

    found = refused(lambda: Tree.load(size, read))
    assert found is None or len(found.root) == 32


@SOME
@given(changed(BUNDLE) | st.binary(max_size=120))
def test_changed_bundles(sealed: bytes) -> None:
    found = refused(lambda: open_bundle(RING, sealed))
    assert found is None or found == [LEAF, LEAF]


@SOME
@given(st.binary(max_size=40))
def test_bundles_of_anything(plain: bytes) -> None:
    found = refused(lambda: open_bundle(RING, seal(RING, Sealed.LOG, Role.LOG, new_id(), plain)))
    assert found is None or b"".join(len(leaf).to_bytes(2, "big") + leaf for leaf in found) == plain


@SOME
@given(changed(SEALED_TEXT) | st.binary(max_size=120))
def test_changed_texts(sealed: bytes) -> None:
    assert refused(lambda: open_text(RING, TEXT, sealed)) in (None, "a reason")


@SOME
@given(
    changed(LEAF)
    | st.binary(max_size=60)
    | changed_document(json.loads(LEAF)).map(lambda leaf: json.dumps(leaf).encode())
)
def test_changed_leaves(leaf: bytes) -> None:
    refused(lambda: decode_leaf(0, leaf))


@pytest.fixture(scope="module")
def log() -> AuditLog:
    made = AuditLog.create(MemoryObjects(), RING)
    made.append([EVENT] * 3)
    return made


@SOME
@given(data=st.data())
def test_changed_proofs(log: AuditLog, data: st.DataObject) -> None:
    """A proof comes from whoever wants to be believed."""
    proof = data.draw(changed_document(log.prove(1)))
    found = refused(lambda: verify_proof(proof, KEY))
    assert found is None or leaf_hash(found.leaf) == leaf_hash(next(log.entries(1, 2)).leaf)


@SOME
@given(data=st.data())
def test_changed_proofs_of_growth(log: AuditLog, data: st.DataObject) -> None:
    older = log.checkpoint()
    proof = data.draw(changed_document(log.consistency(2)))
    refused(lambda: verify_growth(proof, older, KEY))


# The catalog

ENTRY = Entry("aa", "bb", [Change("subjects", pa.table({"subject_id": ["x"]}), "insert")])
SEALED_ENTRY = seal_entry(RING, RING.key_id, 4, ENTRY)
SEALED_BASE = seal_base(RING, 2, Base("cc", b"file", RING.key_id, 4))
HEADER = {
    "00080016": {"vr": "UI", "Value": ["1.2"]},
    "00100010": {"vr": "PN", "Value": [{"Alphabetic": "Doe^Jo"}]},
    "00280010": {"vr": "US", "Value": [3]},
    "00091001": {"vr": "UN", "InlineBinary": "AAE="},
    "00400275": {"vr": "SQ", "Value": [{"00080100": {"vr": "SH", "Value": ["x", None]}}]},
    "7FE00010": {"vr": "OW", "BulkDataURI": "?offset=1&length=2"},
}


@SOME
@given(changed(SEALED_ENTRY) | st.binary(max_size=100), st.integers(3, 4))
def test_changed_catalog_entries(sealed: bytes, seq: int) -> None:
    found = refused(lambda: open_entry(RING, seq, sealed))
    assert found is None or (seq, found.digest, sealed) == (4, "bb", SEALED_ENTRY)


@SOME
@given(changed(SEALED_BASE) | st.binary(max_size=100), st.integers(2, 3))
def test_changed_catalog_bases(sealed: bytes, number: int) -> None:
    found = refused(lambda: open_base(RING, number, sealed))
    assert found is None or (number, found.file, found.seq, sealed) == (2, b"file", 4, SEALED_BASE)


def read_everything(text: str) -> Header:
    header = Header.from_json(text)
    for name in header:
        header.get(name)
        header.values(name)
        header.name_groups(name)
        for item in header.items_of(name):
            item.values("CodeValue")
    return header


@SOME
@given(changed_document(HEADER))
def test_headers_that_hold_something_else(document: Any) -> None:
    refused(lambda: read_everything(json.dumps(document)))


@SOME
@given(changed(json.dumps(HEADER).encode()).map(lambda text: text.decode("utf-8", "replace")))
def test_changed_headers(text: str) -> None:
    refused(lambda: read_everything(text))


@pytest.mark.parametrize(
    "read",
    [
        parse,
        lambda deep: decode_leaf(0, deep),
        lambda deep: manifest_from_bytes(bytes(imagecodecs.zstd_encode(deep))),
        lambda deep: BrickLayout.from_json(deep.decode()),
        lambda deep: Header.from_json(deep.decode()),
        lambda deep: parse_page(deep, page_ref("", deep, 1), VAULT, 3),
        lambda deep: open_grant(
            GRANT_BYTES[: GRANT_START - 4] + len(deep).to_bytes(4, "big") + deep, FAMILY, 0.0
        ),
    ],
)
def test_nesting_without_end_is_refused(read: Callable[[bytes], Any]) -> None:
    with pytest.raises(VoxelVaultError):
        read(b'{"a":' * 100_000)
    with pytest.raises(VoxelVaultError):
        read(b"[" * 100_000)
