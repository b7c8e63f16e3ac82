"""Sub-keys and wrapped keys."""

from __future__ import annotations

import dataclasses
import os

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCMSIV

from voxelvault.crypto.wrap import WrapContext, derive, unwrap, wrap
from voxelvault.errors import IntegrityError, UsageError
from voxelvault.model import new_id

CONTEXT = WrapContext("study", new_id(), new_id(), new_id(), 3)
PARENT, KEY = os.urandom(32), os.urandom(32)


def test_round_trip() -> None:
    wrapped = wrap(PARENT, KEY, CONTEXT)
    assert len(wrapped) == 60
    assert unwrap(PARENT, wrapped, CONTEXT) == KEY


def test_every_wrap_has_its_own_nonce() -> None:
    assert wrap(PARENT, KEY, CONTEXT) != wrap(PARENT, KEY, CONTEXT)


@pytest.mark.parametrize(
    "change",
    [
        {"role": "subject"},
        {"vault_id": new_id()},
        {"key_id": new_id()},
        {"parent_id": new_id()},
        {"parent_id": None},
        {"generation": 4},
    ],
)
def test_every_part_of_the_context_binds(change: dict[str, object]) -> None:
    wrapped = wrap(PARENT, KEY, CONTEXT)
    with pytest.raises(IntegrityError, match="does not unwrap"):
        unwrap(PARENT, wrapped, dataclasses.replace(CONTEXT, **change))  # type: ignore[arg-type]


def test_another_parent_or_a_changed_byte_is_refused() -> None:
    wrapped = wrap(PARENT, KEY, CONTEXT)
    with pytest.raises(IntegrityError):
        unwrap(KEY, wrapped, CONTEXT)
    for at in range(len(wrapped)):
        changed = bytearray(wrapped)
        changed[at] ^= 0x40
        with pytest.raises(IntegrityError):
            unwrap(PARENT, bytes(changed), CONTEXT)


@pytest.mark.parametrize("length", [0, 12, 59, 61])
def test_other_lengths_are_refused(length: int) -> None:
    with pytest.raises(IntegrityError):
        unwrap(PARENT, (wrap(PARENT, KEY, CONTEXT) + b"x")[:length], CONTEXT)


def test_the_context_is_fixed() -> None:
    context = WrapContext("study", "11" * 16, "22" * 16, None, 258)
    expected = b"voxelvault wrap\0".hex() + "0001" + "0000000000000102" + "11" * 16 + "22" * 16 + "00" * 16
    assert context.encode().hex() == expected + b"study".ljust(16, b"\0").hex()


@pytest.mark.parametrize("change", [{"role": ""}, {"role": "r" * 17}, {"key_id": "00"}])
def test_fields_that_do_not_fit_are_refused(change: dict[str, str]) -> None:
    with pytest.raises(UsageError):
        dataclasses.replace(CONTEXT, **change).encode()  # type: ignore[arg-type]


def test_only_whole_keys_are_wrapped() -> None:
    with pytest.raises(UsageError):
        wrap(PARENT, b"short", CONTEXT)


def test_derive_is_fixed() -> None:
    """A golden value: if this changes, no vault opens any more."""
    assert (
        derive(bytes(range(32)), "wrap").hex()
        == "7b237e5b95c71e6aa8a6e4f6e5413b7d4b6edebc18dbbee07700d4ce4354c807"
    )
    assert derive(bytes(range(32)), "wrap") != derive(bytes(range(32)), "wra")


@pytest.mark.parametrize(("key", "label"), [(b"short", "x"), (bytes(32), "")])
def test_derive_refuses(key: bytes, label: str) -> None:
    with pytest.raises(UsageError):
        derive(key, label)


def test_rfc8452_vector() -> None:
    """AEAD_AES_256_GCM_SIV, RFC 8452 appendix C.2: an empty text, then eight bytes."""
    key, nonce = bytes([1]) + bytes(31), bytes([3]) + bytes(11)
    assert AESGCMSIV(key).encrypt(nonce, b"", None).hex() == "07f5f4169bbf55a8400cd47ea6fd400f"
    sealed = AESGCMSIV(key).encrypt(nonce, bytes.fromhex("0100000000000000"), None)
    assert sealed.hex() == "c2ef328e5c71c83b843122130f7364b761e0b97427e3df28"
