"""What pipelines keep in a vault: sealed, bound to its place, logged, refused where it must be."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

import voxelvault
from voxelvault import Vault
from voxelvault.errors import (
    IntegrityError,
    NoPermission,
    ObjectExists,
    ObjectMissing,
    PolicyDenied,
    UsageError,
)
from voxelvault.policy.access import Decision, Request
from voxelvault.upkeep.keys import rotate

WORDS = b"weights of a network, " * 5000


@pytest.fixture(scope="module")
def vault(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Vault]:
    folder = tmp_path_factory.mktemp("kept")
    with voxelvault.create(folder / "vault", key_file=folder / "key") as made:
        yield made


class Denies:
    def decide(self, request: Request) -> Decision:
        return Decision(allowed=False, reason_code="closed")


def entries(vault: Vault) -> list[tuple[str, str]]:
    found = vault.sql("select kind, outcome from audit where kind like 'document.%' order by entry")
    return [(str(kind), str(outcome)) for kind, outcome in found.fetchall()]


def test_kept_sealed_listed_and_removed(vault: Vault) -> None:
    kept = vault.documents("models")
    kept.put("ab/about", b"{}")
    kept.put("ab/files", WORDS, about="ab" * 32)
    assert kept.names() == ["ab/about", "ab/files"]
    assert kept.names("ab") == ["ab/about", "ab/files"]
    assert kept.get("ab/files") == WORDS
    assert vault.documents("others").names() == []
    with pytest.raises(ObjectExists):
        kept.put("ab/files", b"")
    (lies,) = (path for path in Path(vault.path).rglob("files") if path.is_file())
    assert b"weights" not in lies.read_bytes()
    kept.remove("ab/about")
    kept.remove("ab/about")
    with pytest.raises(ObjectMissing):
        kept.get("ab/about")
    stored, removed = "document.stored", "document.removed"
    assert entries(vault) == [
        *((stored, how) for _ in range(2) for how in ("intent", "ok")),
        *((removed, how) for how in ("intent", "ok")),
    ]


def test_none_passes_for_another(vault: Vault) -> None:
    kept = vault.documents("places")
    kept.put("one", b"one")
    kept.put("two", b"two")
    one, two = (Path(vault.path) / "documents" / "places" / name for name in ("one", "two"))
    sealed = one.read_bytes()
    one.unlink()
    one.write_bytes(two.read_bytes())
    with pytest.raises(IntegrityError):
        kept.get("one")
    one.write_bytes(sealed[:-1] + bytes([sealed[-1] ^ 1]))
    with pytest.raises(IntegrityError):
        kept.get("one")


def test_no_permission_no_document(vault: Vault) -> None:
    allowed = vault.resources
    vault.documents("rules").put("one", b"1")
    try:
        vault.resources = replace(allowed, policy=Denies())
        for refused in (lambda kept: kept.get("one"), lambda kept: kept.put("two", b"")):
            with pytest.raises(PolicyDenied):
                refused(vault.documents("rules"))
        vault.resources = replace(allowed, read_only=True)
        with pytest.raises(NoPermission):
            vault.documents("rules").put("two", b"")
    finally:
        vault.resources = allowed
    assert vault.documents("rules").names() == ["one"]
    with pytest.raises(UsageError, match="named by"):
        vault.documents("../keys")


def test_repair_and_new_keys_leave_them(vault: Vault) -> None:
    vault.documents("verified").put("one", b"1")
    assert vault.verify(progress=False).ok
    assert vault.verify(repair=True, progress=False).ok
    rotate(vault.resources)
    assert vault.documents("verified").get("one") == b"1"
    vault.documents("verified").put("two", b"2")
    assert vault.documents("verified").get("two") == b"2"
