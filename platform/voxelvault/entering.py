"""The two ways to a `Vault`: `create` makes one, `open` opens it."""

from __future__ import annotations

import os
import warnings

from voxelvault.vault import Vault

PathLike = str | os.PathLike[str]


def create(
    path: PathLike,
    *,
    purpose: str | None = None,
    key_file: PathLike | None = None,
    passphrase: str | None = None,
    key_service: tuple[str, str] | None = None,
    codec: str = "htj2k",
    residency: str = "",
    catalog: str = "embedded",
) -> Vault:
    """Make a vault in a new or empty folder and open it.

    Parameters
    ----------
    path : path
        On a local disk, or a URL such as s3://bucket/folder.
    purpose : str, optional
        Code of the purpose of use, such as a study's number; stands in every audit entry.
    key_file : path, optional
        Where the private key goes; by default into the user's configuration folder.
    passphrase : str, optional
        Makes a passphrase slot instead of a key file.
    key_service : tuple of (str, str), optional
        Instead of a key file, a kind of key service and its key: `("aws-kms", ARN)`,
        `("vault-transit", NAME)`, `("pkcs11", URI)`, or one that an installed package adds.
    codec : {"htj2k", "fast", "raw"}, or a name that an installed package adds
        How native pixels are stored; lossless all of them.
    residency : str
        Region where the data must stay; public.
    catalog : str
        For a team, the address of a PostgreSQL database, postgresql://host[:port]/database; public, so
        without a password.

    Returns
    -------
    Vault
        Its `recovery_code` is to be written down: it is kept nowhere else.

    Raises
    ------
    VaultExists, UsageError, NetworkFileSystem, StorageError, KeyUnavailable
        Then nothing was made that could be taken for a vault.
    """
    from voxelvault.crypto.ways import Ways
    from voxelvault.opening import create_vault
    from voxelvault.storage.places import place_of

    ways = Ways(key_file, passphrase, key_service=key_service)
    made = create_vault(path, ways, purpose=purpose, codec=codec, residency=residency, catalog=catalog)
    vault = Vault(made.resources, place_of(path))
    vault.recovery_code, vault.warnings = made.recovery_code, made.warnings
    return vault


def open(
    path: PathLike | None = None,
    *,
    purpose: str | None = None,
    key_file: PathLike | None = None,
    passphrase: str | None = None,
    recovery_code: str | None = None,
    fingerprint: str | None = None,
    checkpoint: str | None = None,
    accept_restore: bool = False,
) -> Vault:
    """Open a vault; never makes one, and never asks without a terminal.

    Parameters
    ----------
    path : path, optional
        Of the vault, or its URL; by default the one that `VOXELVAULT` or the configuration names.
    purpose : str, optional
        Code of the purpose of use; stands in every audit entry.
    key_file, passphrase, recovery_code : optional
        Keys at hand, beside the default key file and the environment's `VOXELVAULT_KEY`.
    fingerprint : str, optional
        Whose vault it must be; needed with a recipient's key.
    checkpoint : str, optional
        A signed checkpoint kept elsewhere, which the audit log must extend.
    accept_restore : bool
        Accept an older copy that was put back; an audit entry of its own.

    Returns
    -------
    Vault
        Close it, or use it in a `with` statement. It warns (`MissingCodec`) where frames were stored by
        another package's codec that is not installed here.

    Raises
    ------
    NotAVault, KeyUnavailable, WrongPassphrase, RollbackDetected, NewerFormat, IntegrityError
        Each message says what to do.
    """
    from voxelvault.access import MissingCodec, codec_warnings
    from voxelvault.config import default_vault
    from voxelvault.crypto.ways import Ways
    from voxelvault.errors import NotAVault
    from voxelvault.opening import open_vault
    from voxelvault.storage.places import place_of

    where = path if path is not None else default_vault()
    if where is None:
        raise NotAVault("no vault was named; give a path, or set VOXELVAULT")
    resources = open_vault(
        where,
        Ways(key_file, passphrase, recovery_code),
        purpose=purpose,
        fingerprint=fingerprint,
        checkpoint=checkpoint,
        accept=accept_restore,
    )
    vault = Vault(resources, place_of(where))
    vault.warnings = tuple(codec_warnings(resources))
    for warning in vault.warnings:
        warnings.warn(warning, MissingCodec, stacklevel=2)
    return vault


__all__ = ["create", "open"]
