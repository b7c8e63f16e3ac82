"""Keys made at the party's own place: the request that leaves it, and the reply that completes the kit."""

from __future__ import annotations

import hashlib
import json
from base64 import b64decode, b64encode
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from voxelvault_fl.consortium import require_name
from voxelvault_fl.errors import KitRefused
from voxelvault_fl.provisioning import certificates as certs
from voxelvault_fl.provisioning.files import canonical, private_folder, write
from voxelvault_fl.provisioning.keys import (
    Keys,
    make_keys,
    node_key_of,
    node_text,
    read_keys,
    signing_key_of,
    signing_text,
    tls_key_of,
    write_keys,
)
from voxelvault_fl.provisioning.kit import Kit, about, require_together, write_about
from voxelvault_fl.provisioning.roster import ROLES, open_roster

_LABEL = b"voxelvault federated request v1\n"


@dataclass(frozen=True)
class Request:
    """What a party asks the authority to sign; public keys only, each proven to be its own.

    Parameters
    ----------
    consortium, party, role : str
        Who asks for what.
    csr : str
        PKCS #10 request of the TLS key, PEM.
    node_key, signing_key : str
        The public keys, as in the roster.
    node_proof, signing_proof : str
        Signatures of both over the rest, base64.
    """

    consortium: str
    party: str
    role: str
    csr: str
    node_key: str
    signing_key: str
    node_proof: str = ""
    signing_proof: str = ""

    def tls_key(self) -> ec.EllipticCurvePublicKey:
        """Return the TLS key, whose possession the PKCS #10 request proves.

        Raises
        ------
        KitRefused
            No such proof.
        """
        try:
            csr = x509.load_pem_x509_csr(self.csr.encode())
        except ValueError:
            raise KitRefused("the request has no readable certificate request; make it anew") from None
        key = csr.public_key()
        if not csr.is_signature_valid or not isinstance(key, ec.EllipticCurvePublicKey):
            raise KitRefused("the certificate request is not signed with its own key; make it anew")
        return key

    def verify(self) -> None:
        """Check that whoever asks has all three keys.

        Raises
        ------
        KitRefused
            A proof is missing or wrong.
        """
        self.tls_key()
        said = self._signed()
        try:
            node_key_of(self.node_key).verify(b64decode(self.node_proof), said, ec.ECDSA(hashes.SHA256()))
            signing_key_of(self.signing_key).verify(b64decode(self.signing_proof), said)
        except (InvalidSignature, ValueError):
            raise KitRefused("the request is not signed with the keys that it names; make it anew") from None

    def _signed(self) -> bytes:
        rest = {key: value for key, value in asdict(self).items() if not key.endswith("_proof")}
        return _LABEL + canonical(rest)

    @property
    def fingerprint(self) -> str:
        """What both sides compare by telephone: of the SHA-256 of `request.json` the first 32 digits."""
        digest = hashlib.sha256(self.to_bytes()).hexdigest()
        return "-".join(digest[start : start + 4] for start in range(0, 32, 4))

    def require(self, fingerprint: str) -> None:
        """Require the request whose fingerprint the party read out.

        Parameters
        ----------
        fingerprint : str
            Blanks, hyphens and capitals mean nothing.

        Raises
        ------
        KitRefused
            It is another one.
        """
        said = "".join(fingerprint.replace("-", "").split()).lower()
        if said != self.fingerprint.replace("-", ""):
            raise KitRefused(
                "the request has another fingerprint; admit nobody before the party's own one matches"
            )

    def to_bytes(self) -> bytes:
        """Return it as JSON."""
        return json.dumps(asdict(self), indent=1).encode() + b"\n"


@dataclass(frozen=True, repr=False)
class Reply:
    """What the authority gives back: nothing of it is secret."""

    party: str
    role: str
    authority: bytes
    certificate: bytes
    roster: bytes
    signature: bytes
    revoked: bytes

    def to_bytes(self) -> bytes:
        """Return it as JSON."""
        said = {k: v if isinstance(v, str) else v.decode() for k, v in asdict(self).items()}
        return json.dumps(said, indent=1).encode() + b"\n"


def ask(consortium: str, party: str, role: str, kit: Path) -> Request:
    """Make a party's keys in its own folder, or renew the TLS key of those that are there.

    Only `request.json` leaves the folder. A new TLS key waits beside the old one until the reply comes.

    Raises
    ------
    ConsortiumRefused
        A name can't be one.
    KitRefused
        The role is none, the folder is another party's, or the keys that are there can't be read.
    """
    require_name(consortium, "a consortium's id")
    require_name(party, "a party's name")
    if role not in ROLES:
        raise KitRefused(f"a role is one of {', '.join(ROLES)}")
    if (kit / "kit.toml").exists() and about(kit) != {"consortium": consortium, "party": party, "role": role}:
        raise KitRefused("the folder is another party's kit; ask from a fresh one")
    private_folder(kit)
    if (kit / "signing.key").exists():
        keys = Keys(make_keys().tls, (old := read_keys(kit)).node, old.signing)
    else:
        keys = make_keys()
        write_keys(keys, kit)
    pkcs8 = serialization.PrivateFormat.PKCS8
    secret = keys.tls.private_bytes(serialization.Encoding.PEM, pkcs8, serialization.NoEncryption())
    write(kit / "tls.next.key", secret, private=True)
    made = _request(consortium, party, role, keys)
    write(kit / "request.json", made.to_bytes())
    write_about(kit, consortium, party, role)
    return made


def accept(reply: Reply, kit: Path) -> None:
    """Complete a kit with the authority's reply: checked first, so that a wrong one changes nothing.

    Raises
    ------
    KitRefused
        The reply is not for the keys of this kit, or from another authority than before.
    RosterForged
        The roster in it is not what its authority signed.
    """
    certificate = certs.certificate_of(reply.certificate)
    waiting = kit / "tls.next.key"
    if not waiting.exists() and (kit / "tls.pem").exists():
        raise KitRefused("this kit is complete and waits for no reply; `federated request` renews it")
    if not waiting.exists():
        raise KitRefused("nothing was asked for from this folder; `voxelvault federated request` asks")
    key = tls_key_of(waiting.read_bytes())
    if key.public_key() != certificate.public_key():
        raise KitRefused("the reply is not for the keys of this kit; accept the one to its newest request")
    if (kit / "ca.pem").exists() and (kit / "ca.pem").read_bytes() != reply.authority:
        raise KitRefused("the reply is from another authority than this kit; ask the lead which is right")
    _require_good(reply, kit, certificate, key)
    write(kit / "ca.pem", reply.authority)
    write(kit / "roster.json", reply.roster)
    write(kit / "roster.sig", reply.signature)
    write(kit / "crl.pem", reply.revoked)
    write(kit / "tls.key", waiting.read_bytes(), private=True)
    write(kit / "tls.pem", reply.certificate)
    waiting.unlink()


def _require_good(
    reply: Reply, kit: Path, certificate: x509.Certificate, key: ec.EllipticCurvePrivateKey
) -> None:
    said, authority = about(kit), certs.certificate_of(reply.authority)
    roster = open_roster(reply.roster, reply.signature, authority)
    keys = replace(read_keys(kit), tls=key)
    require_together(
        Kit(kit, said["party"], said["role"], keys, certificate, authority, roster), said["consortium"]
    )
    certs.require_list(reply.revoked, authority)


def request_of(content: bytes) -> Request:
    """Read a request.

    Raises
    ------
    KitRefused
        It is none.
    """
    try:
        said = json.loads(content)
        return Request(**{key: str(value) for key, value in said.items()})
    except (ValueError, TypeError, AttributeError):
        raise KitRefused("this file is no request; `voxelvault federated request` writes one") from None


def reply_of(content: bytes) -> Reply:
    """Read a reply.

    Raises
    ------
    KitRefused
        It is none.
    """
    try:
        said = json.loads(content)
        names = {key: said.pop(key) for key in ("party", "role")}
        return Reply(**names, **{key: value.encode() for key, value in said.items()})
    except (ValueError, TypeError, AttributeError, KeyError):
        raise KitRefused("this file is no reply; `voxelvault federated admit` writes one") from None


def _request(consortium: str, party: str, role: str, keys: Keys) -> Request:
    subject = certs.name(party, consortium)
    csr = x509.CertificateSigningRequestBuilder().subject_name(subject).sign(keys.tls, hashes.SHA256())
    bare = Request(
        consortium=consortium,
        party=party,
        role=role,
        csr=csr.public_bytes(serialization.Encoding.PEM).decode(),
        node_key=node_text(keys.node.public_key()),
        signing_key=signing_text(keys.signing.public_key()),
    )
    said = bare._signed()
    node = b64encode(keys.node.sign(said, ec.ECDSA(hashes.SHA256()))).decode()
    signing = b64encode(keys.signing.sign(said)).decode()
    return Request(**{**asdict(bare), "node_proof": node, "signing_proof": signing})


__all__ = ["Reply", "Request", "accept", "ask", "reply_of", "request_of"]
