"""What a caller has at hand to open a vault with, and what a new vault is opened with."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from voxelvault.config import default_key_file
from voxelvault.crypto.providers import KeyServices, Provider, service_named
from voxelvault.crypto.providers.env import EnvProvider
from voxelvault.crypto.providers.file import FileProvider
from voxelvault.crypto.providers.passphrase import PassphraseProvider
from voxelvault.crypto.providers.recovery import RecoveryProvider
from voxelvault.crypto.vault_record import NewSlot
from voxelvault.errors import KeyUnavailable, UsageError


@dataclass(frozen=True, slots=True)
class Ways:
    """Ways to a vault's root key that the caller has at hand.

    Parameters
    ----------
    key_file : path, optional
        Private key file; by default the one in the user's configuration.
    passphrase : str, optional
        Opens a passphrase slot. At creation: makes one, instead of a key file.
    recovery_code : str, optional
        As printed by `init`.
    key_service : tuple of (str, str), optional
        At creation: kind and key of a service that wraps the vault's private key, instead of a key
        file. Opening asks the services that the vault's slots name.
    """

    key_file: str | os.PathLike[str] | None = None
    passphrase: str | None = None
    recovery_code: str | None = None
    key_service: tuple[str, str] | None = None

    def providers(self, vault_id: str, *, vouched: bool = True) -> list[Provider]:
        """Return the providers to ask, in order; key services only where the vault is vouched for."""
        # The recovery code first: a damaged key file must not keep it from being asked.
        found: list[Provider] = [] if self.recovery_code is None else [RecoveryProvider(self.recovery_code)]
        file = FileProvider(self.key_file or default_key_file(vault_id), required=self.key_file is not None)
        found += [EnvProvider(), file]
        if self.passphrase is not None:
            found.append(PassphraseProvider(self.passphrase))
        # Last: they are asked over a network, or for a PIN.
        return [*found, KeyServices(vault_id, vouched=vouched)]


def first_slots(ways: Ways, vault_id: str, memory_kib: int) -> Sequence[NewSlot]:
    """Return the slots of a new vault that its owner opens every day; a key file is made if need be.

    Raises
    ------
    UsageError
        There is no such kind of key service, or no such key of it, or another key was given too.
    KeyUnavailable
        The key service refused, or the key file can't be used.
    """
    if ways.key_service is not None:
        if ways.key_file is not None or ways.passphrase is not None:
            raise UsageError("a new vault takes a key service or another key: add the other afterwards")
        return [_service_slot(*ways.key_service, vault_id)]
    if ways.passphrase is not None:
        return [PassphraseProvider(ways.passphrase).slot(memory_kib=memory_kib)]
    path = Path(ways.key_file or default_key_file(vault_id)).expanduser()
    provider = FileProvider(path)
    return [provider.slot() if path.exists() else provider.create()]


def _service_slot(kind: str, key: str, vault_id: str) -> NewSlot:
    service = service_named(kind, vault_id)
    slot = service.slot(key)
    # Who may wrap need not be allowed to unwrap: better known now than at the first opening.
    if service.unlock(slot) is None:
        raise KeyUnavailable(f"the key provider {kind} does not give back what it wrapped: use another key")
    return slot


__all__ = ["Ways", "first_slots"]
