"""A writer of keys that slept past its lock, as object storage allows: what others made stays."""

from __future__ import annotations

import pytest

from sleepy_objects import Sleepy
from voxelvault.crypto.hybrid import PrivateKey
from voxelvault.crypto.keyring import KeyRing, Role
from voxelvault.crypto.providers.env import EnvProvider
from voxelvault.errors import LockTimeout
from voxelvault.model import new_id
from voxelvault.storage.objects import MemoryObjects

TOML = b"format = 1\n"


@pytest.mark.parametrize("rotate", [False, True])
def test_a_sleeper_changes_no_keys_that_others_made(rotate: bool) -> None:
    """Wherever it sleeps: what it staged is stored, or it is told; what others stored always stays."""
    refused = at = 0
    while True:
        at += 1
        objects, vault_id = MemoryObjects(), new_id()
        key = EnvProvider({"VOXELVAULT_KEY": PrivateKey.generate().text()})
        KeyRing.create(objects, vault_id, TOML, [key.slot()], providers=[key]).close()
        sleepy = Sleepy(objects)
        ring = KeyRing.open(sleepy, vault_id, TOML, [key])
        other = KeyRing.open(objects, vault_id, TOML, [key])
        made: list[str] = []

        def work(other: KeyRing = other, made: list[str] = made) -> None:
            if rotate:
                other.rotate()
            made.append(other.new_key(Role.SUBJECT))
            other.commit()

        sleepy.left, sleepy.meanwhile = at, work
        mine = ring.new_key(Role.SUBJECT)
        try:
            ring.commit()
            stored = [mine]
        except LockTimeout:
            refused += 1
            stored = []
        again = KeyRing.open(objects, vault_id, TOML, [key])
        assert again.keys_of(Role.SUBJECT) == sorted([*made, *stored], key=again.keys_of(Role.SUBJECT).index)
        assert {*made, *stored} == set(again.keys_of(Role.SUBJECT))
        for key_id in (*made, *stored):
            again.sub_key(key_id, "x")
        ring.commit()  # what was refused is staged still, and goes through now
        assert {*made, mine} == set(KeyRing.open(objects, vault_id, TOML, [key]).keys_of(Role.SUBJECT))
        if sleepy.left > 0:
            break
    assert refused >= 2


def test_pages_that_killed_writers_left_go_with_the_next_switch() -> None:
    objects, vault_id = MemoryObjects(), new_id()
    key = EnvProvider({"VOXELVAULT_KEY": PrivateKey.generate().text()})
    ring = KeyRing.create(objects, vault_id, TOML, [key.slot()], providers=[key])
    objects.put(f"keys/pages/{new_id()}", [b"left by a killed writer"])
    ring.new_key(Role.SUBJECT)
    ring.commit()
    assert all(objects.get(info.name)[:4] != b"left" for info in objects.list("keys/pages/"))
