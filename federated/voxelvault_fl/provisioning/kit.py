"""A kit: the folder with which a party takes part, and what it says."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from cryptography import x509

from voxelvault_fl.consortium import Consortium
from voxelvault_fl.errors import Expired, KitRefused
from voxelvault_fl.provisioning.certificates import certificate_of, digest
from voxelvault_fl.provisioning.files import write
from voxelvault_fl.provisioning.keys import Keys, node_text, read_keys, signing_text
from voxelvault_fl.provisioning.roster import Party, Roster, open_roster

SOON = timedelta(days=30)


@dataclass(frozen=True, repr=False)
class Kit:
    """What a party has: its folder, its name and role, its keys, its certificate and the signed roster."""

    path: Path
    party: str
    role: str
    keys: Keys
    certificate: x509.Certificate
    authority: x509.Certificate
    roster: Roster

    @property
    def consortium(self) -> Consortium:
        """The consortium, with its terms, as the authority signed it."""
        return self.roster.consortium

    @property
    def entry(self) -> Party:
        """The party's own entry in the roster."""
        return self.roster.party(self.party)

    def file(self, name: str) -> Path:
        """Return the path of a file of this kit, such as `tls.pem`."""
        return self.path / name

    def warnings(self, now: datetime) -> tuple[str, ...]:
        """Return what will expire within thirty days, a line each.

        Raises
        ------
        Expired
            The certificate or the authority's is no longer valid.
        KitRefused
            It isn't valid yet, by this machine's clock.
        """
        said = []
        for what, certificate in (("this kit", self.certificate), ("the authority", self.authority)):
            if now < certificate.not_valid_before_utc:
                raise KitRefused(f"the certificate of {what} isn't valid yet: set this machine's clock right")
            left = certificate.not_valid_after_utc - now
            if left <= timedelta(0):
                raise Expired(f"the certificate of {what} has expired; `voxelvault federated request` renews")
            if left <= SOON:
                until = certificate.not_valid_after_utc
                said.append(f"the certificate of {what} expires on {until:%Y-%m-%d %H:%M} UTC: renew it now")
        return tuple(said)


def read_kit(path: Path) -> Kit:
    """Read a kit and check that its parts belong together.

    Raises
    ------
    KitRefused
        A file is missing, a private file can be read by others, or key, certificate and roster don't match.
    RosterForged
        The roster is not what the authority signed.
    """
    said = about(path)
    _check_private(path)
    authority = certificate_of(_bytes(path, "ca.pem"))
    certificate = certificate_of(_bytes(path, "tls.pem"))
    roster = open_roster(_bytes(path, "roster.json"), _bytes(path, "roster.sig"), authority)
    kit = Kit(path, said["party"], said["role"], read_keys(path), certificate, authority, roster)
    require_together(kit, said["consortium"])
    return kit


def write_about(path: Path, consortium: str, party: str, role: str) -> None:
    """Write `kit.toml`: whose kit it is."""
    write(path / "kit.toml", f'consortium = "{consortium}"\nparty = "{party}"\nrole = "{role}"\n'.encode())


def about(path: Path) -> dict[str, str]:
    """Return what `kit.toml` says: consortium, party and role.

    Raises
    ------
    KitRefused
        It is missing, or doesn't say all three.
    """
    if not (path / "kit.toml").exists():
        raise KitRefused("there is no kit in this folder; `voxelvault federated request` begins one")
    try:
        said = tomllib.loads(_bytes(path, "kit.toml").decode())
        return {key: str(said[key]) for key in ("consortium", "party", "role")}
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, KeyError):
        raise KitRefused("kit.toml does not say consortium, party and role; ask for a new kit") from None


def _bytes(path: Path, name: str) -> bytes:
    try:
        return (path / name).read_bytes()
    except OSError:
        raise KitRefused(
            f"{name} is missing from this kit; `voxelvault federated accept` completes it"
        ) from None


def _check_private(path: Path) -> None:
    for name in ("tls.key", "node.key", "signing.key"):
        if (path / name).exists() and (path / name).stat().st_mode & 0o077:
            raise KitRefused(f"{name} can be read by others on this machine; chmod 600 it")


def require_together(kit: Kit, consortium: str) -> None:
    """Require certificate, keys and roster that belong together.

    Raises
    ------
    KitRefused
        They don't, or the certificate has been revoked.
    """
    try:
        kit.certificate.verify_directly_issued_by(kit.authority)
    except Exception as problem:
        raise KitRefused("the certificate of this kit is not from its authority") from problem
    if kit.certificate.public_key() != kit.keys.tls.public_key():
        raise KitRefused("certificate and key of this kit don't belong together; accept the newest reply")
    if kit.consortium.id != consortium:
        raise KitRefused("this kit is of another consortium than its roster")
    if digest(kit.certificate) in kit.roster.revoked:
        raise KitRefused("the certificate of this kit has been revoked; ask the lead")
    _check_entry(kit)


def _check_entry(kit: Kit) -> None:
    said = kit.entry
    own = (
        kit.role,
        node_text(kit.keys.node.public_key()),
        signing_text(kit.keys.signing.public_key()),
    )
    if (said.role, said.node_key, said.signing_key) != own or digest(
        kit.certificate
    ) not in said.certificates:
        raise KitRefused(
            "the roster tells other keys of this party than the kit has; accept the newest reply"
        )


__all__ = ["SOON", "Kit", "about", "read_kit", "require_together", "write_about"]
