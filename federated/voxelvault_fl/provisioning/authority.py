"""The consortium's authority: admits parties, renews and revokes; a folder that stays with the lead."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from voxelvault_fl.consortium import Consortium
from voxelvault_fl.errors import KitRefused, RosterForged
from voxelvault_fl.provisioning import certificates as certs
from voxelvault_fl.provisioning.files import private_folder, write
from voxelvault_fl.provisioning.keys import tls_key_of
from voxelvault_fl.provisioning.requests import Reply, Request
from voxelvault_fl.provisioning.roster import Party, Roster, open_roster, sign_roster

AUTHORITY_DAYS = 3650
CERTIFICATE_DAYS = 365
_WHOLE = "roster.whole"
"""Roster and signature in one file: written before the two that are given out."""


@dataclass(frozen=True, repr=False)
class Authority:
    """The folder of an authority, its certificate and its key."""

    path: Path
    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey

    def roster(self) -> Roster:
        """Return the newest roster; what a crash left half published is published first.

        Raises
        ------
        RosterForged
            It isn't what this authority signed.
        """
        try:
            content, signature = ((self.path / name).read_bytes() for name in ("roster.json", "roster.sig"))
            return open_roster(content, signature, self.certificate)
        except (RosterForged, OSError):
            content, signature = self._whole()
            found = open_roster(content, signature, self.certificate)
        _lay_out(self.path, content, signature)
        return found

    def _whole(self) -> tuple[bytes, bytes]:
        try:
            content, _, signature = (self.path / _WHOLE).read_bytes().partition(b"\n")
        except OSError:
            raise RosterForged(
                "the authority's roster is not what it signed; restore roster.json and roster.sig"
            ) from None
        return content, signature

    def revocation_list(self) -> bytes:
        """Return the newest list of revoked certificates, PEM."""
        return (self.path / "crl.pem").read_bytes()


def found(consortium: Consortium, path: Path, now: datetime, days: int = AUTHORITY_DAYS) -> Authority:
    """Make the authority of a consortium in an empty folder.

    Raises
    ------
    KitRefused
        The folder has an authority already: a second one would shut out whoever has a kit of the first.
    """
    if (path / "ca.key").exists():
        raise KitRefused("this folder has an authority already; `--amend` has it take over a changed file")
    private_folder(path)
    key = ec.generate_private_key(ec.SECP384R1())
    certificate = certs.make_authority(key, consortium.id, now, days)
    pkcs8 = serialization.PrivateFormat.PKCS8
    secret = key.private_bytes(serialization.Encoding.PEM, pkcs8, serialization.NoEncryption())
    write(path / "ca.key", secret, private=True)
    write(path / "ca.pem", certs.pem(certificate))
    made = Authority(path, certificate, key)
    _publish(made, Roster(consortium), now)
    return made


def amend(authority: Authority, consortium: Consortium, now: datetime) -> Roster:
    """Take over a changed consortium's file: more sites, other terms, another address.

    Raises
    ------
    KitRefused
        It is another consortium's, or an admitted party is missing in it: revoke that one first.
    """
    before = authority.roster()
    known = {"server", consortium.lead, *(site.name for site in consortium.sites)}
    if consortium.id != before.consortium.id:
        raise KitRefused(f"the file is of {consortium.id}; this authority is that of {before.consortium.id}")
    if missing := sorted({one.name for one in before.parties} - known):
        raise KitRefused(f"the file lacks {', '.join(missing)}, who take part; revoke them first")
    roster = replace(before, consortium=consortium, serial=before.serial + 1)
    _publish(authority, roster, now)
    return roster


def read_authority(path: Path) -> Authority:
    """Read an authority's folder.

    Raises
    ------
    KitRefused
        It has no authority.
    """
    try:
        key, certificate = (path / "ca.key").read_bytes(), (path / "ca.pem").read_bytes()
    except OSError:
        raise KitRefused("no authority here; `voxelvault federated provision` makes one") from None
    return Authority(path, certs.certificate_of(certificate), tls_key_of(key))


def admit(authority: Authority, request: Request, now: datetime, days: int = CERTIFICATE_DAYS) -> Reply:
    """Admit a party, or renew one: its certificate and the next roster.

    A party that asks again with the same node and signing keys is renewed, and its certificate of before
    stays good until it expires or is revoked. One that comes with other keys replaces what was, and the
    certificates of before are revoked.

    Raises
    ------
    KitRefused
        The consortium's file doesn't know the party, or the request is for another consortium or role.
    """
    request.verify()
    before = authority.roster()
    _check_known(before.consortium, request)
    # The name `server` is what connectors check: whoever holds it is the server, wherever it moves to.
    hosts = (before.consortium.server.host, "server") if request.role == "server" else ()
    subject = certs.name(request.party, before.consortium.id)
    tls = request.tls_key()
    made = certs.issue(subject, tls, authority.certificate, authority.key, now, days, hosts)
    write(authority.path / "issued" / f"{certs.digest(made)}.pem", certs.pem(made))
    roster = _admitted(before, request, made)
    _publish(authority, roster, now)
    return _reply(authority, roster, request, made)


def revoke(authority: Authority, name: str, now: datetime) -> Roster:
    """Take a party out of the roster and its certificates onto the list of the revoked.

    Raises
    ------
    KitRefused
        Nobody of this name has been admitted.
    """
    roster = authority.roster().without(name)
    _publish(authority, roster, now)
    return roster


def deliver(authority: Authority, kit: Path) -> None:
    """Write the newest roster and list of the revoked into a kit's folder."""
    authority.roster()
    for name in ("crl.pem", "roster.sig", "roster.json"):
        write(kit / name, (authority.path / name).read_bytes())


def reminder(authority: Authority) -> str:
    """Return what the lead does after a change of the roster."""
    return (
        "everybody needs the newest crl.pem, roster.sig and roster.json in the kit, copied in this order from"
        f" {authority.path}: send them when all that is to change has changed"
    )


def _check_known(consortium: Consortium, request: Request) -> None:
    names = {"server": ("server",), "lead": (consortium.lead,)}
    known = names.get(request.role, tuple(site.name for site in consortium.sites))
    if request.consortium != consortium.id or request.party not in known:
        raise KitRefused("the consortium's file knows no such party; check name, role and consortium")


def _admitted(before: Roster, request: Request, made: x509.Certificate) -> Roster:
    old = next((one for one in before.parties if one.name == request.party), None)
    same = old is not None and (old.node_key, old.signing_key) == (request.node_key, request.signing_key)
    if old is not None and not same:
        before = before.without(request.party)
    kept = old.certificates[:1] if old is not None and same else ()
    dropped = old.certificates[1:] if old is not None and same else ()
    party = Party(
        name=request.party,
        role=request.role,
        certificates=(certs.digest(made), *kept),
        node_key=request.node_key,
        signing_key=request.signing_key,
        expires=made.not_valid_after_utc.isoformat(),
    )
    return replace(before.with_party(party), revoked=(*before.revoked, *dropped))


def _publish(authority: Authority, roster: Roster, now: datetime) -> None:
    revoked = [
        certs.certificate_of((authority.path / "issued" / f"{one}.pem").read_bytes())
        for one in roster.revoked
    ]
    listed = certs.revocation_list(revoked, authority.certificate, authority.key, now)
    # The list first: whoever sees the new roster finds the list that goes with it.
    write(authority.path / "crl.pem", listed)
    content, signature = roster.to_bytes(), sign_roster(roster, authority.key)
    write(authority.path / _WHOLE, content + b"\n" + signature)
    _lay_out(authority.path, content, signature)


def _lay_out(place: Path, content: bytes, signature: bytes) -> None:
    write(place / "roster.sig", signature)
    write(place / "roster.json", content)


def _reply(authority: Authority, roster: Roster, request: Request, made: x509.Certificate) -> Reply:
    return Reply(
        party=request.party,
        role=request.role,
        authority=certs.pem(authority.certificate),
        certificate=certs.pem(made),
        roster=roster.to_bytes(),
        signature=(authority.path / "roster.sig").read_bytes(),
        revoked=authority.revocation_list(),
    )


__all__ = [
    "AUTHORITY_DAYS",
    "CERTIFICATE_DAYS",
    "Authority",
    "admit",
    "amend",
    "deliver",
    "found",
    "read_authority",
    "revoke",
]
