"""Grants: what opens them, what they bind, and who is of the family."""

from __future__ import annotations

import multiprocessing
import os
import pickle
import subprocess
import sys
from concurrent.futures import ProcessPoolExecutor

import pytest

from voxelvault.crypto.grants import Grant, family_key, open_grant, seal_grant
from voxelvault.crypto.hybrid import PrivateKey
from voxelvault.errors import GrantExpired, IntegrityError, KeyUnavailable, UsageError

KEY = os.urandom(32)
GRANT = Grant("a" * 32, "b" * 32, "read", 1000.0, {"c" * 32: KEY, "d" * 32: os.urandom(32)}, b"payload")


def seed() -> bytes:
    return family_key().seed


def test_a_grant_comes_back_whole() -> None:
    sealed = seal_grant(GRANT, family_key().public_key())
    assert open_grant(sealed, family_key(), 999.0) == GRANT
    assert seal_grant(GRANT, family_key().public_key()) != sealed
    empty = Grant("a" * 32, "b" * 32, "write", 1000.0, {})
    assert open_grant(seal_grant(empty, family_key().public_key()), family_key(), 0.0) == empty


def test_neither_repr_nor_sealed_form_shows_keys() -> None:
    assert repr(KEY) not in repr(GRANT)
    sealed = seal_grant(GRANT, family_key().public_key())
    assert KEY not in sealed
    assert b"payload" not in sealed


def test_time_ends_it() -> None:
    sealed = seal_grant(GRANT, family_key().public_key())
    for now in (1000.0, 5e9):
        with pytest.raises(GrantExpired, match="anew"):
            open_grant(sealed, family_key(), now)


@pytest.mark.parametrize(
    ("old", "new"),
    [(b"a" * 32, b"e" * 32), (b"b" * 32, b"e" * 32), (b'"read"', b'"wead"'), (b"1000.0", b"9000.0")],
)
def test_nothing_in_the_header_can_be_changed(old: bytes, new: bytes) -> None:
    sealed = seal_grant(GRANT, family_key().public_key())
    assert old in sealed
    with pytest.raises(KeyUnavailable):
        open_grant(sealed.replace(old, new), family_key(), 0.0)


def test_what_is_no_grant_is_refused() -> None:
    sealed = seal_grant(GRANT, family_key().public_key())
    for broken in (b"", b"x" * 400, sealed[:20], sealed[:40], sealed.replace(b"mode", b"edom")):
        with pytest.raises(IntegrityError, match="no grant"):
            open_grant(broken, family_key(), 0.0)
    for broken in (sealed[:-1], sealed[:-1] + bytes([sealed[-1] ^ 1])):
        with pytest.raises(KeyUnavailable, match="other processes, or changed"):
            open_grant(broken, family_key(), 0.0)


def test_only_whole_keys_are_lent() -> None:
    with pytest.raises(UsageError, match="32-byte"):
        seal_grant(Grant("a" * 32, "b" * 32, "read", 1.0, {"c": b"short"}), family_key().public_key())


def test_another_family_gets_nothing() -> None:
    sealed = seal_grant(GRANT, PrivateKey.generate().public_key())
    with pytest.raises(KeyUnavailable, match="multiprocessing"):
        open_grant(sealed, family_key(), 0.0)
    code = "from voxelvault.crypto.grants import family_key; print(family_key().seed.hex())"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() != seed().hex()


@pytest.mark.parametrize("method", ["spawn", "forkserver"])
def test_children_of_multiprocessing_are_family(method: str) -> None:
    with ProcessPoolExecutor(1, multiprocessing.get_context(method)) as executor:
        assert executor.submit(seed).result() == seed()


def test_the_shared_bytes_refuse_to_be_pickled() -> None:
    with pytest.raises(TypeError):
        pickle.dumps(multiprocessing.current_process().authkey)


def test_a_short_authkey_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(multiprocessing.current_process()._config, "authkey", b"abc")  # type: ignore[attr-defined]
    with pytest.raises(KeyUnavailable, match="authkey"):
        family_key()
