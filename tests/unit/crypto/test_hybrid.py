"""Slot key pairs: the published X-Wing vector, texts, and what HPKE binds."""

from __future__ import annotations

import hashlib
import os

import pytest

from voxelvault.crypto.hybrid import PUBLIC_LENGTH, PrivateKey, public_from_text, public_text, seal_to
from voxelvault.errors import IntegrityError, KeyUnavailable, UsageError

KEY = PrivateKey.generate()


def test_key_expansion_is_x_wing() -> None:
    """draft-connolly-cfrg-xwing-kem appendix C, the first vector."""
    public = PrivateKey(
        bytes.fromhex("7f9c2ba4e88f827d616045507605853ed73b8093f6efbc88eb1a6eacfa66ef26")
    ).public_key()
    assert len(public) == PUBLIC_LENGTH
    assert public.hex().startswith("e2236b35a8c24b39b10aa1323a96a919a2ced88400633a7b07131713fc14b2b5b19cfc3d")
    assert public.hex().endswith("859edb06eff389b27dce59844570216223593d4ba32d9abac8cd049040ef6534")
    assert (
        hashlib.sha256(public).hexdigest()
        == "2e816deebcd76c5c80d0cd2d174478871658e8e2ff42bc9d4a6e486372e856bb"
    )


def test_round_trip_and_what_binds() -> None:
    secret = os.urandom(32)
    sealed = seal_to(KEY.public_key(), secret, b"info")
    assert len(sealed) == 1168
    assert KEY.open(sealed, b"info") == secret
    for key, whole, info in [
        (PrivateKey.generate(), sealed, b"info"),
        (KEY, sealed, b"other"),
        (KEY, sealed[:-1], b"info"),
        (KEY, b"", b"info"),
        (KEY, sealed[:-1] + bytes([sealed[-1] ^ 1]), b"info"),
    ]:
        with pytest.raises(IntegrityError):
            key.open(whole, info)


def test_texts_invert() -> None:
    assert PrivateKey.from_text(KEY.text()) == KEY
    assert public_from_text(public_text(KEY.public_key())) == KEY.public_key()


def test_texts_say_which_they_are() -> None:
    with pytest.raises(UsageError, match="public key"):
        public_from_text(KEY.text())
    with pytest.raises(KeyUnavailable, match="private key"):
        PrivateKey.from_text(public_text(KEY.public_key()))


@pytest.mark.parametrize(
    "public", [b"", bytes(PUBLIC_LENGTH - 1), b"\xff" * PUBLIC_LENGTH, bytes(PUBLIC_LENGTH)]
)
def test_malformed_public_keys_are_refused(public: bytes) -> None:
    with pytest.raises(UsageError, match="malformed"):
        seal_to(public, bytes(32), b"")


def test_a_private_key_does_not_show_itself() -> None:
    assert KEY.seed.hex() not in repr(KEY)
    assert repr(KEY.seed) not in repr(KEY)
