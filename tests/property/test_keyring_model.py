"""Two processes and one vault: whatever they do, stored keys open as they were and destroyed ones never."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from voxelvault.crypto.hybrid import PrivateKey
from voxelvault.crypto.keyring import KeyRing, Role
from voxelvault.crypto.providers.env import EnvProvider
from voxelvault.errors import KeyUnavailable, UsageError
from voxelvault.model import new_id
from voxelvault.storage.objects import MemoryObjects

WHO = st.integers(0, 1)
PICK = st.integers(0, 1 << 16)
KEY = EnvProvider({"VOXELVAULT_KEY": PrivateKey.generate().text()})


@dataclass
class Process:
    """A ring, and what it has staged: new and moved keys with their parents."""

    ring: KeyRing
    staged: dict[str, str | None] = field(default_factory=dict)


class Vaults(RuleBasedStateMachine):
    """The model: which keys are stored, below which, with which value; which are destroyed."""

    def __init__(self) -> None:
        super().__init__()
        self.objects, self.vault_id = MemoryObjects(), new_id()
        first = KeyRing.create(self.objects, self.vault_id, b"", [KEY.slot()], providers=[KEY])
        self.processes = [Process(first), Process(self.open())]
        self.values: dict[str, bytes] = {}
        self.stored: dict[str, str | None] = {}
        self.destroyed: set[str] = set()

    def open(self) -> KeyRing:
        return KeyRing.open(self.objects, self.vault_id, b"", [KEY])

    def pick(self, process: Process, at: int) -> str | None:
        known = [*self.stored, *(key for key in process.staged if key not in self.stored)]
        return known[at % len(known)] if known else None

    @rule(who=WHO, at=PICK, top=st.booleans())
    def new(self, who: int, at: int, top: bool) -> None:
        process = self.processes[who]
        parent = None if top else self.pick(process, at)
        key = process.ring.new_key(Role.SUBJECT if parent is None else Role.STUDY, parent)
        self.values[key] = process.ring.sub_key(key, "x")
        process.staged[key] = parent

    @rule(who=WHO, at=PICK, below=PICK, top=st.booleans())
    def move(self, who: int, at: int, below: int, top: bool) -> None:
        process = self.processes[who]
        key, parent = self.pick(process, at), None if top else self.pick(process, below)
        if key is None:
            return
        try:
            process.ring.reparent(key, parent)
        except (UsageError, KeyUnavailable):
            return
        process.staged[key] = parent

    @rule(who=WHO)
    def commit(self, who: int) -> None:
        process = self.processes[who]
        try:
            process.ring.commit()
        except KeyUnavailable:
            left = process.ring._state.tree._staged
            assert left.keys() < process.staged.keys(), "it failed and dropped nothing"
            process.staged = {key: parent for key, parent in process.staged.items() if key in left}
            process.ring.commit()
        self.stored |= process.staged
        process.staged = {}

    @rule(who=WHO)
    def rotate(self, who: int) -> None:
        self.commit(who)
        self.processes[who].ring.rotate()

    @rule(who=WHO, at=PICK)
    def destroy(self, who: int, at: int) -> None:
        self.commit(who)
        key = self.pick(self.processes[who], at)
        if key is None:
            return
        gone = set(self.processes[who].ring.destroy([key]).destroyed)
        below = {key}
        while more := {k for k, parent in self.stored.items() if parent in below} - below:
            below |= more
        assert gone == below
        self.destroyed |= gone
        self.stored = {k: parent for k, parent in self.stored.items() if k not in gone}

    @invariant()
    def stored_keys_open_and_destroyed_ones_do_not(self) -> None:
        ring = self.open()
        found = set(ring.keys_of(Role.SUBJECT)) | set(ring.keys_of(Role.STUDY))
        assert found == set(self.stored)
        for key, parent in self.stored.items():
            assert ring.sub_key(key, "x") == self.values[key]
            assert ring.parent_of(key) == parent
        for key in self.destroyed:
            with pytest.raises(KeyUnavailable):
                ring.sub_key(key, "x")


TestVaults = Vaults.TestCase
TestVaults.settings = settings(max_examples=15, stateful_step_count=25, deadline=None)
