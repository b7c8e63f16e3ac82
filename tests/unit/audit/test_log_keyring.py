"""The log under the real key ring, on a real disk: opened again, and after a rotation."""

from __future__ import annotations

from pathlib import Path

import pytest

from voxelvault.audit.events import Event, Kind
from voxelvault.audit.log import AuditLog
from voxelvault.crypto.hybrid import PrivateKey
from voxelvault.crypto.key_tree import Role
from voxelvault.crypto.keyring import KeyRing
from voxelvault.crypto.providers.env import VARIABLE, EnvProvider
from voxelvault.model import new_id
from voxelvault.storage.objects import LocalObjects

TOML = b"public\n"


@pytest.fixture
def provider() -> EnvProvider:
    return EnvProvider({VARIABLE: PrivateKey.generate().text()})


def test_the_log_outlives_sessions_and_rotations(tmp_path: Path, provider: EnvProvider) -> None:
    objects, vault_id = LocalObjects(tmp_path), new_id()
    ring = KeyRing.create(objects, vault_id, TOML, [provider.slot()])
    for role in (Role.LOG, Role.LOG_TEXT):
        ring.new_key(role)
    ring.commit()
    log = AuditLog.create(objects, ring)
    log.append([Event(kind=Kind.VAULT_CREATED, who="a", digests={"record": ring.record_digest})])
    kept = log.checkpoint()

    ring = KeyRing.open(objects, vault_id, TOML, [provider])
    ring.rotate()
    log = AuditLog.open(objects, ring)
    log.append([Event(kind=Kind.QUERY, who="a", text="select 1")])
    ring = KeyRing.open(objects, vault_id, TOML, [provider])
    log = AuditLog.open(objects, ring)
    report = log.verify(kept, texts=True)
    assert (report.size, report.against, report.texts) == (2, 1, 1)
    assert [entry.kind for entry in log.entries()] == ["vault.created", "query"]
