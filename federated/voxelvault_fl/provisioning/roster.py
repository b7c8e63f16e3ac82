"""Who is who: name, role, certificate, node key and signing key of each party, signed by the authority."""

from __future__ import annotations

import json
from base64 import b64decode, b64encode
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519

from voxelvault_fl.consortium import Consortium, consortium_of
from voxelvault_fl.errors import ConsortiumRefused, KitRefused, RosterForged
from voxelvault_fl.provisioning.files import canonical
from voxelvault_fl.provisioning.keys import signing_key_of

ROLES = ("server", "lead", "site")
_LABEL = b"voxelvault federated roster v1\n"


@dataclass(frozen=True)
class Party:
    """One party.

    Parameters
    ----------
    name : str
        The site's name, the lead's, or `server`.
    role : str
        One of `server`, `lead`, `site`.
    certificates : tuple of str
        SHA-256 of each certificate (DER) that opens the gate, hex, the newest first. Two while a renewed
        one is on its way.
    node_key : str
        Flower's node key, PEM.
    signing_key : str
        Ed25519, base64 of 32 bytes.
    expires : str
        When the newest certificate expires, ISO 8601, UTC.
    """

    name: str
    role: str
    certificates: tuple[str, ...]
    node_key: str
    signing_key: str
    expires: str

    def verifying_key(self) -> ed25519.Ed25519PublicKey:
        """Return the key that its signatures are checked with."""
        return signing_key_of(self.signing_key)

    def expires_at(self) -> datetime:
        """Return when its newest certificate expires, UTC."""
        return datetime.fromisoformat(self.expires)


@dataclass(frozen=True)
class Roster:
    """The parties of a consortium; a higher serial replaces a lower one.

    Parameters
    ----------
    consortium : Consortium
        Who trains together, and the terms.
    serial : int
        Counts up with each admission and revocation.
    parties : tuple of Party
        Those whose certificates are good.
    revoked : tuple of str
        SHA-256 of certificates (DER) that are not, hex.
    """

    consortium: Consortium
    serial: int = 0
    parties: tuple[Party, ...] = ()
    revoked: tuple[str, ...] = ()

    def party(self, name: str) -> Party:
        """Return a party by its name.

        Raises
        ------
        KitRefused
            Nobody of this name has been admitted.
        """
        found = next((one for one in self.parties if one.name == name), None)
        if found is None:
            names = ", ".join(one.name for one in self.parties) or "nobody yet"
            raise KitRefused(f"no party of this name has been admitted; admitted are: {names}")
        return found

    def of_role(self, role: str) -> tuple[Party, ...]:
        """Return the parties of a role, in the order of their admission."""
        return tuple(one for one in self.parties if one.role == role)

    def sites(self) -> tuple[Party, ...]:
        """Return the admitted sites."""
        return self.of_role("site")

    def lacking(self, *names: str) -> tuple[str, ...]:
        """Return who of these, by default of all that the consortium names, isn't admitted (any more)."""
        consortium, have = self.consortium, {one.name for one in self.parties}
        wanted = names or ("server", consortium.lead, *(site.name for site in consortium.sites))
        return tuple(one for one in wanted if one not in have)

    def with_party(self, party: Party) -> Roster:
        """Return the next roster, in which this party replaces the one of its name."""
        others = tuple(one for one in self.parties if one.name != party.name)
        return replace(self, serial=self.serial + 1, parties=(*others, party))

    def without(self, name: str) -> Roster:
        """Return the next roster, without this party and with its certificates revoked."""
        gone = self.party(name)
        others = tuple(one for one in self.parties if one.name != name)
        revoked = (*self.revoked, *(one for one in gone.certificates if one not in self.revoked))
        return replace(self, serial=self.serial + 1, parties=others, revoked=revoked)

    def to_bytes(self) -> bytes:
        """Return the canonical JSON that is signed."""
        return canonical(
            {
                "consortium": self.consortium.as_dict(),
                "serial": self.serial,
                "parties": [vars(one) for one in self.parties],
                "revoked": list(self.revoked),
            }
        )


def sign_roster(roster: Roster, key: ec.EllipticCurvePrivateKey) -> bytes:
    """Return the authority's signature over a roster, base64."""
    return b64encode(key.sign(_LABEL + roster.to_bytes(), ec.ECDSA(hashes.SHA384()))) + b"\n"


def open_roster(content: bytes, signature: bytes, authority: x509.Certificate) -> Roster:
    """Read a roster that the consortium's authority signed.

    Raises
    ------
    RosterForged
        Another signed it, or nobody did.
    """
    key = authority.public_key()
    if not isinstance(key, ec.EllipticCurvePublicKey):
        raise RosterForged(
            "the authority's certificate has no elliptic curve key; ask the lead for a new kit"
        )
    try:
        key.verify(b64decode(signature), _LABEL + content, ec.ECDSA(hashes.SHA384()))
    except (InvalidSignature, ValueError):
        raise RosterForged(
            "the roster is not what the consortium's authority signed; ask the lead for it anew"
        ) from None
    return _roster_of(content)


def _roster_of(content: bytes) -> Roster:
    try:
        said: dict[str, Any] = json.loads(content)
        parties = tuple(_party_of(one) for one in said["parties"])
        made = Roster(consortium_of(said["consortium"]), said["serial"], parties, tuple(said["revoked"]))
    except (KeyError, TypeError, ValueError, ConsortiumRefused):
        raise RosterForged("the roster is signed but means nothing to this version; update it") from None
    return made


def _party_of(said: dict[str, Any]) -> Party:
    return Party(**{**said, "certificates": tuple(said["certificates"])})


__all__ = ["ROLES", "Party", "Roster", "open_roster", "sign_roster"]
