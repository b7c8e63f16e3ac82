"""The vault record as a document: what is signed, what is refused."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from voxelvault.crypto.hybrid import PrivateKey
from voxelvault.crypto.vault_record import (
    NewSlot,
    PageRef,
    SignedRecord,
    VaultRecord,
    build,
    commitment,
    fingerprint,
    parse,
    root_from,
    same_fingerprint,
    verify_origin,
    verify_root,
)
from voxelvault.errors import ForgedRecord, NewerFormat
from voxelvault.model import new_id

ROOT, SIGNER, VAULT, TOML = os.urandom(32), Ed25519PrivateKey.generate(), new_id(), b"format = 1\n"
KEY = PrivateKey.generate()


def record(**change: Any) -> VaultRecord:
    base = VaultRecord(
        vault_id=VAULT,
        number=7,
        generation=3,
        vault_toml_sha256=hashlib.sha256(TOML).hexdigest(),
        root_commitment=commitment(ROOT),
        log_public_key=SIGNER.public_key().public_bytes_raw(),
        slots=(NewSlot("file", KEY.public_key(), "laptop", {"a": 1, "b": "x"}).seal(ROOT, VAULT, 3),),
        pages=(PageRef(new_id(), "00" * 32, 4),),
        settings={"read_only_log": "side"},
    )
    return dataclasses.replace(base, **change)


@pytest.fixture(scope="module")
def signed() -> SignedRecord:
    return build(record(), ROOT, SIGNER.sign)


def test_round_trip(signed: SignedRecord) -> None:
    again = parse(signed.document)
    assert again == signed
    verify_origin(again, VAULT, TOML)
    verify_root(again, ROOT)
    assert root_from(again.record.slots[0], KEY, again.record) == ROOT


def test_a_slot_is_bound_to_vault_id_slot_id_and_generation(signed: SignedRecord) -> None:
    slot = signed.record.slots[0]
    for changed_slot, changed_record in [
        (dataclasses.replace(slot, slot_id=new_id()), signed.record),
        (slot, dataclasses.replace(signed.record, generation=4)),
        (slot, dataclasses.replace(signed.record, vault_id=new_id())),
    ]:
        with pytest.raises(ForgedRecord, match="does not open"):
            root_from(changed_slot, KEY, changed_record)


def resigned(document: bytes, change: dict[str, Any]) -> bytes:
    """Change the record and keep MAC and signature."""
    outer = json.loads(document)
    outer["record"] |= change
    return json.dumps(outer, sort_keys=True, separators=(",", ":")).encode()


@pytest.mark.parametrize(
    "change",
    [
        {"number": 8},
        {"generation": 2},
        {"root_commitment": "00" * 32},
        {"settings": {}},
        {"pages": []},
        {"slots": []},
    ],
)
def test_every_field_is_signed_and_maced(signed: SignedRecord, change: dict[str, Any]) -> None:
    changed = parse(resigned(signed.document, change))
    with pytest.raises(ForgedRecord, match="not signed"):
        verify_origin(changed, VAULT, TOML)
    with pytest.raises(ForgedRecord, match="root key vouches"):
        verify_root(changed, ROOT)


def test_the_logs_key_alone_writes_no_record(signed: SignedRecord) -> None:
    """Signed by the right key, MACed under another root."""
    forged = build(signed.record, os.urandom(32), SIGNER.sign)
    verify_origin(forged, VAULT, TOML)
    with pytest.raises(ForgedRecord):
        verify_root(forged, ROOT)


def test_the_root_alone_does_not_sign(signed: SignedRecord) -> None:
    forged = build(signed.record, ROOT, Ed25519PrivateKey.generate().sign)
    verify_root(forged, ROOT)
    with pytest.raises(ForgedRecord, match="not signed"):
        verify_origin(forged, VAULT, TOML)


def test_another_root_is_refused(signed: SignedRecord) -> None:
    with pytest.raises(ForgedRecord):
        verify_root(signed, os.urandom(32))


def test_a_root_that_the_record_does_not_commit_to_is_refused() -> None:
    other = build(record(root_commitment=commitment(os.urandom(32))), ROOT, SIGNER.sign)
    with pytest.raises(ForgedRecord):
        verify_root(other, ROOT)


@pytest.mark.parametrize(
    "damage",
    [
        lambda d: b"",
        lambda d: d[:-1],
        lambda d: d + b"\n",
        lambda d: b" " + d,
        lambda d: d.replace(b'"number":7', b'"number":7,"number":7'),
        lambda d: d.replace(b'"number":7', b'"number":7.0'),
        lambda d: d.replace(b'"number":7', b'"number":"7"'),
        lambda d: d.replace(b'"number":7', b'"number":-7'),
        lambda d: d.replace(b'"number":7', b'"number":7,"more":1'),
        lambda d: d.replace(b'"number":7,', b""),
        lambda d: d.replace(b'"vault_id":"', b'"vault_id":"../'),
        lambda d: d.replace(b'"laptop"', b"[]", 1).replace(
            b'"parameters":{"a":1,"b":"x"}', b'"parameters":7'
        ),
        lambda d: b"[" * 100_000,
        lambda d: b"null",
        lambda d: b"\xff",
    ],
)
def test_damaged_documents_are_refused(signed: SignedRecord, damage: Any) -> None:
    changed = damage(signed.document)
    assert changed != signed.document
    with pytest.raises(ForgedRecord, match="damaged"):
        parse(changed)


def test_a_newer_format_says_so(signed: SignedRecord) -> None:
    with pytest.raises(NewerFormat, match="upgrade"):
        parse(resigned(signed.document, {"format": 2, "unheard": "of"}))


def test_fingerprints(signed: SignedRecord) -> None:
    key = signed.record.log_public_key
    mark = fingerprint(VAULT, key)
    assert len(mark.split("-")) == 9
    assert same_fingerprint(mark.lower().replace("-", " "), VAULT, key)
    assert not same_fingerprint(mark, new_id(), key)
    assert not same_fingerprint(mark, VAULT, os.urandom(32))
    assert not same_fingerprint("", VAULT, key)


def test_slots_hold_no_secret(signed: SignedRecord) -> None:
    assert ROOT.hex().encode() not in signed.document
    assert KEY.seed.hex().encode() not in signed.document
