"""A key that was pinned, a digest that was typed, or no installation."""

from __future__ import annotations

import base64
import subprocess
from pathlib import Path

import pytest
from bundles_made import bundle
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from voxelvault.errors import IntegrityError, UsageError
from voxelvault_triage.models.vouching import PINNED, SIGNED, vouch


def test_a_signature_by_the_pinned_key_is_taken() -> None:
    made, maker = bundle(), Ed25519PrivateKey.generate()
    signature = maker.sign(made.manifest)
    raw = maker.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
    pem = maker.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    for key, given in (
        (pem, signature),
        (base64.b64encode(raw) + b"\n", base64.b64encode(signature)),
        (raw, signature),
    ):
        vouched = vouch(made, key=key, signature=given)
        assert vouched.how == SIGNED
        assert len(vouched.key) == 64
    other = Ed25519PrivateKey.generate()
    for key, of, given in (
        (pem, made.with_file("docs/README.md", b"other"), signature),
        (pem, made, other.sign(made.manifest)),
    ):
        with pytest.raises(IntegrityError):
            vouch(of, key=key, signature=given)


def test_openssl_signs_what_is_taken(tmp_path: Path) -> None:
    made = bundle()
    (tmp_path / "MANIFEST").write_bytes(made.manifest)
    for line in (
        "genpkey -algorithm ed25519 -out key.pem",
        "pkey -in key.pem -pubout -out public.pem",
        "pkeyutl -sign -rawin -inkey key.pem -in MANIFEST -out bundle.sig",
    ):
        subprocess.run(["openssl", *line.split()], cwd=tmp_path, check=True, capture_output=True)
    key, signature = ((tmp_path / name).read_bytes() for name in ("public.pem", "bundle.sig"))
    assert vouch(made, key=key, signature=signature).how == SIGNED


def test_a_pin_is_the_whole_digest() -> None:
    made = bundle()
    assert vouch(made, pin=made.digest.upper()).how == PINNED
    with pytest.raises(UsageError, match="all 64"):
        vouch(made, pin=made.digest[:12])
    with pytest.raises(IntegrityError):
        vouch(made, pin="0" * 64)


def test_nobody_answers_nothing_is_taken() -> None:
    made, maker = bundle(), Ed25519PrivateKey.generate()
    with pytest.raises(UsageError, match=made.digest):
        vouch(made)
    with pytest.raises(UsageError, match="both"):
        vouch(made, key=b"x", pin=made.digest)
    wrong = (
        X25519PrivateKey.generate().public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    )
    for key in (b"", b"-----BEGIN PUBLIC KEY-----\nx\n-----END PUBLIC KEY-----", wrong):
        with pytest.raises(UsageError):
            vouch(made, key=key, signature=maker.sign(made.manifest))
    raw = maker.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
    with pytest.raises(UsageError):
        vouch(made, key=raw, signature=b"short")
