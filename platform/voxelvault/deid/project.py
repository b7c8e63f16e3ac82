"""A project: one key for all its pseudonyms, kept by custodians; a ledger that two approvers open.

The project key is sealed to each custodian's public key, like a vault's root to its slots. What
reverses pseudonyms is sealed to the ledger's public key, so writing needs nobody; its private key
exists in shares alone, one pair of shares for each two approvers, so reading needs two of them.

All here are values: nothing reads a clock or a disk.

References
----------
RFC 9180 (HPKE), RFC 8032 (Ed25519), RFC 5869 (HKDF).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from voxelvault.crypto.hybrid import PUBLIC_LENGTH, PrivateKey
from voxelvault.crypto.text_code import from_base64, to_base64
from voxelvault.deid.approver import ApproverPublic
from voxelvault.deid.pseudonym import ProjectPseudonyms, length_prefixed
from voxelvault.errors import IntegrityError, KeyUnavailable, NewerFormat, UsageError

FORMAT = 1
_LABEL = b"voxelvault/1/deid/"


@dataclass(frozen=True)
class Custodian:
    """One who may use the project key.

    Parameters
    ----------
    custodian_id : str
        Random id.
    label : str
        An account's name or a role; no spaces.
    public : bytes
        Public key, 1,216 bytes (`crypto.hybrid`).
    sealed : bytes
        The project key, sealed to it.
    """

    custodian_id: str
    label: str
    public: bytes = field(repr=False)
    sealed: bytes = field(repr=False)


@dataclass(frozen=True)
class Approver:
    """One of those of whom two together open the ledger."""

    approver_id: str
    label: str
    public: ApproverPublic = field(repr=False)


@dataclass(frozen=True)
class Shares:
    """The ledger's private key, split for one pair of approvers; each half sealed to its holder."""

    holders: tuple[str, str]
    sealed: tuple[bytes, bytes] = field(repr=False)


@dataclass(frozen=True)
class Ledger:
    """A key that batches are sealed to, and the shares of its private half, one for each pair."""

    public: bytes = field(repr=False)
    shares: tuple[Shares, ...] = ()


@dataclass(frozen=True)
class Project:
    """What is stored of a project; nothing in it opens anything by itself.

    Parameters
    ----------
    project_id : str
        Random id.
    signing : bytes
        Public key of the project's signatures, 32 bytes; who knows it knows the project.
    custodians : tuple of Custodian
        At least one.
    ledger : bytes
        Public key of the ledger, 1,216 bytes; empty for a project that keeps none.
    approvers : tuple of Approver
        None, or at least two.
    shares : tuple of Shares
        One for each pair of approvers.
    earlier : tuple of Ledger
        Keys of the ledger before an approver was removed: what was sealed to them stays readable.
    signature : bytes
        By the project, over all the rest.
    """

    project_id: str
    signing: bytes
    custodians: tuple[Custodian, ...]
    ledger: bytes = field(default=b"", repr=False)
    approvers: tuple[Approver, ...] = ()
    shares: tuple[Shares, ...] = ()
    earlier: tuple[Ledger, ...] = ()
    signature: bytes = field(default=b"", repr=False)

    def data(self) -> bytes:
        """Return the document as it is stored: ASCII JSON."""
        return _canonical({**self._signed(), "signature": to_base64(self.signature)})

    @classmethod
    def from_data(cls, data: bytes) -> Project:
        """Read what `data` wrote, its signature checked.

        Raises
        ------
        IntegrityError
            The document was changed.
        NewerFormat
            It was written by a newer version.
        """
        try:
            body = json.loads(data)
            if body["format"] != FORMAT:
                raise NewerFormat("the project was written by a newer version: update voxelvault")
            project = _project(body)
            Ed25519PublicKey.from_public_bytes(project.signing).verify(project.signature, project._message())
        except (ValueError, KeyError, TypeError, UsageError, InvalidSignature, RecursionError):
            raise IntegrityError("the project's document was changed: restore it from a copy") from None
        return project

    @property
    def digest(self) -> str:
        """SHA-256 of `data`, hexadecimal: what the audit log keeps of it."""
        return hashlib.sha256(self.data()).hexdigest()

    @property
    def ledgers(self) -> tuple[Ledger, ...]:
        """The ledger's keys, the one that is written with first; none where no ledger is kept."""
        return (Ledger(self.ledger, self.shares), *self.earlier) if self.ledger else ()

    def approver(self, approver_id: str) -> Approver:
        """Return an enrolled approver.

        Raises
        ------
        KeyUnavailable
            There is none of that id.
        """
        for one in self.approvers:
            if one.approver_id == approver_id:
                return one
        raise KeyUnavailable("an approval is by nobody who is enrolled in this project; ask an approver")

    def share_info(self, ledger: bytes, holders: Sequence[str], holder: str) -> bytes:
        """Return what a share is bound to: project, ledger, the pair and the holder."""
        ids = (self.project_id, *holders, holder)
        keys = (self.signing, ledger)
        return length_prefixed(_LABEL + b"share", *(one.encode() for one in ids), *keys)

    def signed(self, key: bytes) -> Project:
        """Return the project with the signature that its key gives."""
        signature = signing_key(key, self.project_id).sign(self._message())
        return replace(self, signature=signature)

    def _message(self) -> bytes:
        return _LABEL + b"project\0" + _canonical(self._signed())

    def _signed(self) -> dict[str, Any]:
        earlier = [{"ledger": to_base64(one.public), "shares": _told(one.shares)} for one in self.earlier]
        return {
            "format": FORMAT,
            "project_id": self.project_id,
            "signing": to_base64(self.signing),
            "ledger": to_base64(self.ledger),
            "custodians": [
                {
                    "id": one.custodian_id,
                    "label": one.label,
                    "public": to_base64(one.public),
                    "sealed": to_base64(one.sealed),
                }
                for one in self.custodians
            ],
            "approvers": [
                {"id": one.approver_id, "label": one.label, "public": to_base64(one.public.data())}
                for one in self.approvers
            ],
            "shares": _told(self.shares),
            **({"earlier": earlier} if earlier else {}),
        }


@dataclass(frozen=True)
class OpenProject:
    """A project whose key is at hand.

    Parameters
    ----------
    project : Project
        As stored.
    key : bytes
        The project key; never shown by `repr`.
    custodian_id : str
        Who opened it.
    """

    project: Project
    key: bytes = field(repr=False)
    custodian_id: str

    def pseudonyms(self, scope: str = "") -> ProjectPseudonyms:
        """Return the pseudonyms of the project, or of one export that shall not link to others."""
        return ProjectPseudonyms(self.key, self.project.project_id, scope)

    @property
    def signing_key(self) -> Ed25519PrivateKey:
        """The key that signs receipts and what goes into the ledger."""
        return signing_key(self.key, self.project.project_id)


def open_project(project: Project, private: PrivateKey) -> OpenProject:
    """Open a project as one of its custodians.

    Raises
    ------
    KeyUnavailable
        The key is no custodian's.
    IntegrityError
        The sealed project key was changed, or is not the one that signs for the project.
    """
    public = private.public_key()
    for one in project.custodians:
        if one.public == public:
            key = private.open(one.sealed, custody_info(project.project_id, one.custodian_id))
            made = signing_key(key, project.project_id).public_key().public_bytes_raw()
            if made != project.signing:
                raise IntegrityError("the project's key is not its own: restore the project from a copy")
            return OpenProject(project, key, one.custodian_id)
    raise KeyUnavailable("this key is no custodian's of this project; ask a custodian to enrol it")


def signing_key(key: bytes, project_id: str) -> Ed25519PrivateKey:
    """Return the project's signing key, made of its key."""
    seed = HKDF(SHA256(), 32, length_prefixed(project_id.encode()), _LABEL + b"signing").derive(key)
    return Ed25519PrivateKey.from_private_bytes(seed)


def custody_info(project_id: str, custodian_id: str) -> bytes:
    """Return what the sealed project key is bound to."""
    return length_prefixed(_LABEL + b"custodian", project_id.encode(), custodian_id.encode())


def _told(shares: Sequence[Shares]) -> list[dict[str, Any]]:
    return [
        {"holders": list(one.holders), "sealed": [to_base64(half) for half in one.sealed]} for one in shares
    ]


def _shares(told: Sequence[Mapping[str, Any]]) -> tuple[Shares, ...]:
    return tuple(
        Shares(
            (one["holders"][0], one["holders"][1]),
            (from_base64(one["sealed"][0]), from_base64(one["sealed"][1])),
        )
        for one in told
    )


def _ledger(text: str) -> bytes:
    public = from_base64(text)
    if len(public) != PUBLIC_LENGTH:
        raise ValueError
    return public


def _project(body: Mapping[str, Any]) -> Project:
    return Project(
        project_id=str(body["project_id"]),
        signing=from_base64(body["signing"]),
        custodians=tuple(
            Custodian(one["id"], one["label"], from_base64(one["public"]), from_base64(one["sealed"]))
            for one in body["custodians"]
        ),
        ledger=_ledger(body["ledger"]) if body["ledger"] else b"",
        approvers=tuple(
            Approver(one["id"], one["label"], ApproverPublic.from_bytes(from_base64(one["public"])))
            for one in body["approvers"]
        ),
        shares=_shares(body["shares"]),
        earlier=tuple(
            Ledger(_ledger(one["ledger"]), _shares(one["shares"])) for one in body.get("earlier", ())
        ),
        signature=from_base64(body["signature"]),
    )


def _canonical(body: Mapping[str, Any]) -> bytes:
    return json.dumps(body, sort_keys=True, separators=(",", ":"), allow_nan=False).encode()


__all__ = [
    "Approver",
    "Custodian",
    "Ledger",
    "OpenProject",
    "Project",
    "Shares",
    "custody_info",
    "open_project",
    "signing_key",
]
