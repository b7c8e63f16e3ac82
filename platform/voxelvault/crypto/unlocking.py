"""From providers and slots to the root key."""

from __future__ import annotations

from collections.abc import Sequence

from voxelvault.crypto.providers import RECIPIENT, Provider
from voxelvault.crypto.vault_record import VaultRecord, root_from, same_fingerprint
from voxelvault.errors import ForgedRecord, KeyUnavailable, MissingExtra, WrongPassphrase

_TYPED = {
    "passphrase": "the passphrase opens no slot of this vault: type it again, or use the recovery code",
    "recovery": "the recovery code is not this vault's or was replaced by a newer one: use another key",
}


def find_root(record: VaultRecord, providers: Sequence[Provider], fingerprint: str | None) -> bytes:
    """Return the root key from the first slot that a provider unlocks.

    Parameters
    ----------
    record : VaultRecord
        Not yet proven: the root key is what proves it.
    providers : sequence of Provider
        Asked in order.
    fingerprint : str or None
        Whose vault it must be; None when its owner opens it.

    Raises
    ------
    WrongPassphrase
        A passphrase or recovery code was given and opens no slot.
    KeyUnavailable
        No key opens a slot, or only a recipient's does and there is no fingerprint.
    MissingExtra
        No key opens a slot, and the only way that was left needs a package.
    ForgedRecord
        The vault is another one than the fingerprint's, or a slot was changed.
    """
    if fingerprint is not None and not same_fingerprint(fingerprint, record.vault_id, record.log_public_key):
        raise ForgedRecord("this vault does not have the given fingerprint: ask its sender before opening it")
    failures: list[KeyUnavailable | MissingExtra] = []
    for provider in providers:
        for slot in record.slots:
            try:
                key = provider.unlock(slot)
            except (KeyUnavailable, MissingExtra) as failure:
                # Another way may open it: a service that is down must not keep a file from being asked.
                failures.append(failure)
                continue
            if key is None:
                continue
            if slot.provider == RECIPIENT and fingerprint is None:
                raise KeyUnavailable(
                    "this vault was handed over: give the fingerprint that its sender told you"
                )
            return root_from(slot, key, record)
    raise _nothing_fits(record, providers, failures)


def _nothing_fits(
    record: VaultRecord, providers: Sequence[Provider], failures: Sequence[KeyUnavailable | MissingExtra]
) -> KeyUnavailable | MissingExtra:
    kinds = {slot.provider for slot in record.slots}
    # A key file that can't be used fails at each slot, with the same words.
    found = {str(failure): failure for failure in failures}
    for provider in providers:
        if provider.name in _TYPED and provider.name in kinds:
            return WrongPassphrase("; and ".join([_TYPED[provider.name], *found]))
    if len(found) == 1:
        return next(iter(found.values()))
    if found:
        return KeyUnavailable("; and ".join(found))
    ways = ", ".join(sorted(kinds))
    return KeyUnavailable(
        f"no key at hand opens this vault, which has slots of the kinds {ways}: "
        "give a key file or a passphrase, or recover it"
    )


__all__ = ["find_root"]
