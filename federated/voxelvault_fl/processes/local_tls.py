"""A certificate for TLS on loopback, made at each start: Flower insists on TLS where nodes sign on."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from voxelvault_fl.provisioning.certificates import issue, make_authority, name, pem
from voxelvault_fl.provisioning.files import private_folder, write

_DAYS = 3650


@dataclass(frozen=True)
class LocalTls:
    """Files for TLS between processes of this machine; their authority's key is thrown away."""

    authority: Path
    certificate: Path
    key: Path
    both: Path


def make_local_tls(folder: Path, now: datetime) -> LocalTls:
    """Make the files, for `localhost` and 127.0.0.1."""
    private_folder(folder)
    signer, key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    authority = make_authority(signer, "loopback", now, _DAYS)
    subject = name("localhost", "loopback")
    made = issue(subject, key.public_key(), authority, signer, now, _DAYS, ("localhost", "127.0.0.1"))
    secret = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    files = LocalTls(*(folder / one for one in ("local-ca.pem", "local.pem", "local.key", "local-both.pem")))
    write(files.authority, pem(authority))
    write(files.certificate, pem(made))
    write(files.key, secret, private=True)
    write(files.both, pem(made) + secret, private=True)
    return files


__all__ = ["LocalTls", "make_local_tls"]
