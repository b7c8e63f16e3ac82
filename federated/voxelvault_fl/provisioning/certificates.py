"""Certificates of the consortium's own authority: EC, short-lived, one name each (RFC 5280)."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from datetime import datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from voxelvault_fl.errors import KitRefused

_SKEW = timedelta(minutes=5)


def digest(certificate: x509.Certificate) -> str:
    """Return the SHA-256 of a certificate's DER, hex."""
    return certificate.fingerprint(hashes.SHA256()).hex()


def pem(certificate: x509.Certificate) -> bytes:
    """Return a certificate as PEM."""
    return certificate.public_bytes(serialization.Encoding.PEM)


def certificate_of(content: bytes) -> x509.Certificate:
    """Read a PEM certificate.

    Raises
    ------
    KitRefused
        It is none.
    """
    try:
        return x509.load_pem_x509_certificate(content)
    except ValueError:
        raise KitRefused("a certificate of this kit is not PEM; ask for a new kit") from None


def name(common: str, organisation: str) -> x509.Name:
    """Return a subject: the party's name and the consortium's id."""
    return x509.Name(
        [
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, organisation),
            x509.NameAttribute(NameOID.COMMON_NAME, common),
        ]
    )


def make_authority(
    key: ec.EllipticCurvePrivateKey, consortium: str, now: datetime, days: int
) -> x509.Certificate:
    """Return the certificate of an authority that signs itself; it can't make further authorities."""
    subject = name(f"{consortium} authority", consortium)
    usage = _usage(key_cert_sign=True, crl_sign=True, digital_signature=True)
    return (
        _builder(subject, subject, key.public_key(), now, days)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(usage, critical=True)
        .sign(key, hashes.SHA384())
    )


def issue(
    subject: x509.Name,
    public: ec.EllipticCurvePublicKey,
    authority: x509.Certificate,
    key: ec.EllipticCurvePrivateKey,
    now: datetime,
    days: int,
    hosts: Iterable[str] = (),
) -> x509.Certificate:
    """Return a party's certificate: for a server where it has hosts, for a client otherwise."""
    names = [_general_name(host) for host in hosts]
    purpose = ExtendedKeyUsageOID.SERVER_AUTH if names else ExtendedKeyUsageOID.CLIENT_AUTH
    built = (
        _builder(subject, authority.subject, public, now, days)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(digital_signature=True), critical=True)
        .add_extension(x509.ExtendedKeyUsage([purpose]), critical=False)
    )
    if names:
        built = built.add_extension(x509.SubjectAlternativeName(names), critical=False)
    return built.sign(key, hashes.SHA384())


def revocation_list(
    revoked: Iterable[x509.Certificate],
    authority: x509.Certificate,
    key: ec.EllipticCurvePrivateKey,
    now: datetime,
) -> bytes:
    """Return the list of revoked certificates as PEM.

    It is good until the authority expires: a gate without a newer list must not shut everybody out.
    """
    built = (
        x509.CertificateRevocationListBuilder()
        .issuer_name(authority.subject)
        .last_update(now - _SKEW)
        .next_update(authority.not_valid_after_utc)
    )
    for one in revoked:
        entry = x509.RevokedCertificateBuilder().serial_number(one.serial_number).revocation_date(now - _SKEW)
        built = built.add_revoked_certificate(entry.build())
    return built.sign(key, hashes.SHA384()).public_bytes(serialization.Encoding.PEM)


def require_list(content: bytes, authority: x509.Certificate) -> None:
    """Require a list of revoked certificates that an authority signed, PEM.

    Raises
    ------
    KitRefused
        It is none, or another signed it.
    """
    key = authority.public_key()
    try:
        listed = x509.load_pem_x509_crl(content)
        good = isinstance(key, ec.EllipticCurvePublicKey) and listed.is_signature_valid(key)
    except (ValueError, TypeError):
        good = False
    if not good:
        raise KitRefused("the list of revoked certificates isn't the authority's; ask for the reply anew")


def _builder(
    subject: x509.Name, issuer: x509.Name, public: ec.EllipticCurvePublicKey, now: datetime, days: int
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(public)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _SKEW)
        .not_valid_after(now + timedelta(days=days))
    )


def _usage(**given: bool) -> x509.KeyUsage:
    names = (
        "digital_signature",
        "content_commitment",
        "key_encipherment",
        "data_encipherment",
        "key_agreement",
        "key_cert_sign",
        "crl_sign",
        "encipher_only",
        "decipher_only",
    )
    return x509.KeyUsage(**{one: given.get(one, False) for one in names})


def _general_name(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)


__all__ = [
    "certificate_of",
    "digest",
    "issue",
    "make_authority",
    "name",
    "pem",
    "require_list",
    "revocation_list",
]
