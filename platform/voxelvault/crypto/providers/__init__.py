"""Who finds the private key of a slot: one provider a file.

Private keys differ by use: what a person hands over to become a recipient is another public key
than that of a vault of their own, so nobody can pass a forged vault off as one's own.

Key services are found by the kind of a slot: ours, and those that a package adds by the entry
point group `voxelvault.key_providers` (see `key_service.KeyService`).
"""

from __future__ import annotations

from importlib.metadata import EntryPoint, entry_points
from typing import TYPE_CHECKING, Protocol

from voxelvault.crypto.hybrid import PrivateKey
from voxelvault.crypto.vault_record import Slot
from voxelvault.crypto.wrap import derive
from voxelvault.errors import KeyUnavailable, UsageError, VoxelVaultError

if TYPE_CHECKING:
    from voxelvault.crypto.providers.key_service import KeyService

RECIPIENT = "recipient"
GROUP = "voxelvault.key_providers"
LOCAL = frozenset({"file", "passphrase", "env", "recovery", RECIPIENT})
"""Kinds of slots whose secret a person or a file holds; no package can take them over."""
_HERE = "voxelvault.crypto.providers"
_SERVICES = {
    "aws-kms": f"{_HERE}.aws_kms:AwsKmsProvider",
    "pkcs11": f"{_HERE}.pkcs11:Pkcs11Provider",
    "vault-transit": f"{_HERE}.vault_transit:VaultTransitProvider",
}


class Provider(Protocol):
    """Finds private keys."""

    @property
    def name(self) -> str:
        """The kind of slot that this provider makes."""

    def unlock(self, slot: Slot) -> PrivateKey | None:
        """Return the private key of `slot`, or None if it is not this provider's to give.

        Raises
        ------
        KeyUnavailable
            It is this provider's, but can't be used as it is; the message says why.
        """


class KeyServices:
    """Every key service, asked for the slots of its kind.

    Parameters
    ----------
    vault_id : str
        32 hexadecimal digits.
    vouched : bool
        Whether it is known whose vault this is: by its fingerprint, a checkpoint or a pin. A
        service's key opens to others than the vault's owner, so it doesn't prove whose vault it is.
    """

    name = "key service"

    def __init__(self, vault_id: str, *, vouched: bool) -> None:
        self._vault_id = vault_id
        self._vouched = vouched
        self._made: dict[str, KeyService] = {}

    def unlock(self, slot: Slot) -> PrivateKey | None:
        """Return the private key of `slot` if a key service gives it.

        Raises
        ------
        KeyUnavailable
            A service refused or was not reached, or nobody vouches for the vault.
        MissingExtra
            A package that talks to the service is not installed.
        """
        kind = slot.provider
        if kind in LOCAL or kind not in service_kinds():
            return None
        if not self._vouched:
            raise KeyUnavailable(
                f"slot {slot.slot_id}: this vault was never opened here, and a key service doesn't prove "
                "whose it is: give the fingerprint that its owner tells you"
            )
        if kind not in self._made:
            self._made[kind] = service_named(kind, self._vault_id)
        return _unlocked(self._made[kind], slot)


def service_kinds() -> tuple[str, ...]:
    """Return the kinds of slots that key services make, ours first."""
    return (*_SERVICES, *sorted(_added()))


def own_kinds() -> frozenset[str]:
    """Return the kinds of slots that no package can take over."""
    return LOCAL | _SERVICES.keys()


def service_named(kind: str, vault_id: str) -> KeyService:
    """Return the key service of a kind.

    Raises
    ------
    UsageError
        There is none.
    KeyUnavailable
        A package brings it, and it can't be loaded.
    """
    # Ours can't be taken over by a package's of the same name.
    where = EntryPoint(kind, _SERVICES[kind], GROUP) if kind in _SERVICES else _added().get(kind)
    if where is None:
        raise UsageError(f"there is no key service of this kind; there are {', '.join(service_kinds())}")
    try:
        made: KeyService = where.load()(vault_id)
        return made
    except VoxelVaultError:
        raise
    except Exception:  # noqa: S110 - raised below, without what a foreign package's frames hold
        pass
    raise KeyUnavailable(f"the key provider {kind} can't be loaded: reinstall the package that brings it")


def recipient_key(key: PrivateKey) -> PrivateKey:
    """Return the key by which its holder receives vaults of others."""
    return PrivateKey(derive(key.seed, RECIPIENT))


def fits(key: PrivateKey, slot: Slot) -> PrivateKey | None:
    """Return the key for `slot` that belongs to `key`, or None if the slot is somebody else's."""
    candidate = recipient_key(key) if slot.provider == RECIPIENT else key
    return candidate if candidate.public_key() == slot.public_key else None


def _added() -> dict[str, EntryPoint]:
    found = entry_points(group=GROUP)
    return {entry.name: entry for entry in found if entry.name not in _SERVICES.keys() | LOCAL}


def _unlocked(service: KeyService, slot: Slot) -> PrivateKey | None:
    try:
        return service.unlock(slot)
    except VoxelVaultError:
        raise
    except Exception:  # noqa: S110 - raised below, without what a foreign package's frames hold
        pass
    raise KeyUnavailable(
        f"slot {slot.slot_id}: the key provider {slot.provider} failed: ask who maintains it"
    )


__all__ = [
    "GROUP",
    "LOCAL",
    "RECIPIENT",
    "KeyServices",
    "Provider",
    "fits",
    "own_kinds",
    "service_named",
    "recipient_key",
    "service_kinds",
]
