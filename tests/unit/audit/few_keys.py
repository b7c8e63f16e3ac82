"""A key ring of a few keys: what the log asks of one, and no more."""

from __future__ import annotations

import secrets

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from voxelvault.crypto.key_tree import Role
from voxelvault.errors import KeyUnavailable
from voxelvault.model import new_id


class FewKeys:
    def __init__(self) -> None:
        self.vault_id = new_id()
        self.signer = Ed25519PrivateKey.generate()
        self.log_public_key = self.signer.public_key().public_bytes_raw()
        self.by_role: dict[Role, list[str]] = {Role.LOG: [], Role.LOG_TEXT: [], Role.CATALOG: []}
        self.deks: dict[str, bytes] = {}
        for role in self.by_role:
            self.new_key(role)

    def new_key(self, role: Role) -> None:
        key_id = new_id()
        self.by_role[role].append(key_id)
        self.deks[key_id] = secrets.token_bytes(32)

    def keys_of(self, role: Role) -> list[str]:
        return self.by_role[role]

    def dek(self, key_id: str) -> bytes:
        if key_id not in self.deks:
            raise KeyUnavailable("no such key")
        return self.deks[key_id]

    def sign(self, message: bytes) -> bytes:
        return self.signer.sign(message)
