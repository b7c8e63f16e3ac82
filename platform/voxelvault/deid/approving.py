"""Opening a ledger: a request, two approvals, and the key that both of them give back together.

A request names what is to be opened and has an ephemeral public key. An approver signs a statement
that names the request by digest, and seals their shares anew to that key. So an approval is good
for one request, for its scope and purpose as they were, and for nobody but the requester.

References
----------
RFC 9180 (HPKE), RFC 8032 (Ed25519).
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from voxelvault.crypto.hybrid import PUBLIC_LENGTH, PrivateKey, seal_to
from voxelvault.crypto.text_code import from_base64, to_base64
from voxelvault.deid.approver import ApproverKey
from voxelvault.deid.project import Ledger, Project, Shares
from voxelvault.deid.pseudonym import length_prefixed
from voxelvault.errors import IntegrityError, KeyUnavailable, UsageError
from voxelvault.model import new_id

MAPS = ("patients", "uids", "paths")
ENROL = "enrol"
"""A scope by itself: to enrol approvers, nothing is read."""

_LABEL = b"voxelvault/1/deid/"
_PURPOSE = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.:/-]{0,63}")
_ID = re.compile(r"[0-9a-f]{32}")


@dataclass(frozen=True)
class Request:
    """What somebody asks to be opened; signed by nobody, since it asks only.

    Parameters
    ----------
    request_id, project_id : str
        Random ids.
    maps : tuple of str
        Of `MAPS`, or `ENROL` alone.
    pseudonyms : tuple of str
        Those to be told of; empty for all of these maps.
    purpose : str
        Code of the purpose, such as a number of an ethics committee.
    public : str
        Ephemeral public key, base64.
    subject : str
        SHA-256 of what is to be enrolled, hexadecimal; empty otherwise.
    """

    request_id: str
    project_id: str
    maps: tuple[str, ...]
    pseudonyms: tuple[str, ...]
    purpose: str
    public: str
    subject: str = ""

    def data(self) -> bytes:
        """Return the request as it is stored and signed for: ASCII JSON."""
        return json.dumps(asdict(self), sort_keys=True, separators=(",", ":")).encode()

    @classmethod
    def from_data(cls, data: bytes) -> Request:
        """Read what `data` wrote.

        Raises
        ------
        UsageError
            It is no request.
        """
        try:
            body = json.loads(data)
            one = cls(**{**body, "maps": tuple(body["maps"]), "pseudonyms": tuple(body["pseudonyms"])})
            one.check()
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            raise UsageError("this is no request to open a ledger; ask for it again") from None
        return one

    @property
    def digest(self) -> str:
        """SHA-256 of `data`, hexadecimal: what an approval names."""
        return hashlib.sha256(self.data()).hexdigest()

    @property
    def public_key(self) -> bytes:
        """The ephemeral public key."""
        return from_base64(self.public)

    def check(self) -> None:
        """Refuse a request that asks for nothing that there is.

        Raises
        ------
        UsageError
            Unknown maps, or a purpose that is no code.
        ValueError
            Ids or the key are malformed.
        """
        known = set(self.maps) <= set(MAPS) if self.maps != (ENROL,) else bool(self.subject)
        if not self.maps or not known:
            raise UsageError(f"a request opens one or more of {', '.join(MAPS)}; name them")
        if not _PURPOSE.fullmatch(self.purpose):
            raise UsageError("a request needs a purpose: a code such as IRB-2031")
        ids = _ID.fullmatch(self.request_id) and _ID.fullmatch(self.project_id)
        if (
            not ids
            or len(self.public_key) != PUBLIC_LENGTH
            or not all(isinstance(p, str) for p in self.pseudonyms)
        ):
            raise ValueError


@dataclass(frozen=True)
class Approval:
    """One approver's yes to one request.

    Parameters
    ----------
    statement : bytes
        What is signed, ASCII JSON: project, request by digest, maps, purpose, approver, and the
        approver's shares, sealed to the request's key.
    signature : bytes
        Ed25519, 64 bytes.
    """

    statement: bytes = field(repr=False)
    signature: bytes = field(repr=False)

    @property
    def digest(self) -> str:
        """SHA-256 of the statement, hexadecimal: what the audit log keeps of it."""
        return hashlib.sha256(self.statement).hexdigest()

    def data(self) -> bytes:
        """Return the approval as it is stored: ASCII JSON."""
        body = {"statement": self.statement.decode(), "signature": self.signature.hex()}
        return json.dumps(body, sort_keys=True, separators=(",", ":")).encode()

    @classmethod
    def from_data(cls, data: bytes) -> Approval:
        """Read what `data` wrote.

        Raises
        ------
        UsageError
            It is no approval.
        """
        try:
            body = json.loads(data)
            return cls(body["statement"].encode(), bytes.fromhex(body["signature"]))
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            raise UsageError("this is no approval; ask the approver for it again") from None


def request(
    project: Project,
    maps: Sequence[str],
    purpose: str,
    pseudonyms: Sequence[str] = (),
    subject: str = "",
) -> tuple[Request, PrivateKey]:
    """Ask for a ledger to be opened.

    Returns
    -------
    Request
        To be shown to the approvers.
    PrivateKey
        Opens what they answer; stays with the requester.

    Raises
    ------
    UsageError
        The project keeps no ledger, the maps are unknown, or the purpose is no code.
    """
    if not project.ledger:
        raise UsageError("this project keeps no ledger, so there is nothing to open")
    private = PrivateKey.generate()
    public = to_base64(private.public_key())
    asked = Request(
        new_id(), project.project_id, tuple(maps), tuple(sorted(pseudonyms)), purpose, public, subject
    )
    asked.check()
    return asked, private


def approve(project: Project, asked: Request, key: ApproverKey) -> Approval:
    """Say yes to a request: sign a statement, and seal one's shares to the request's key.

    Raises
    ------
    KeyUnavailable
        The key is no enrolled approver's.
    UsageError
        The request is for another project.
    IntegrityError
        A share was changed, or is of another project or ledger.
    """
    if asked.project_id != project.project_id:
        raise UsageError("the request is for another project; approve it there")
    public = key.public()
    me = next((one for one in project.approvers if one.public == public), None)
    if me is None:
        raise KeyUnavailable("this key is no approver's of this project; nothing was approved")
    shares = [_resealed(project, asked, ledger, me.approver_id, key) for ledger in project.ledgers]
    statement = {
        "approver": me.approver_id,
        "maps": asked.maps,
        "project": project.project_id,
        "purpose": asked.purpose,
        "request": asked.digest,
        "shares": shares[0] if shares else {},
        **({"earlier": shares[1:]} if shares[1:] else {}),
    }
    data = json.dumps(statement, sort_keys=True, separators=(",", ":")).encode()
    return Approval(data, key.sign(_LABEL + b"approval\0" + data))


def approver_of(project: Project, asked: Request, approval: Approval) -> str:
    """Return the id of who approved, after checking that it was this request, by one enrolled.

    Raises
    ------
    KeyUnavailable
        The approver isn't enrolled.
    IntegrityError
        The signature does not hold, or it is for another request, project, scope or purpose.
    """
    return str(_checked(project, asked, approval)["approver"])


def ledger_keys(
    project: Project, asked: Request, private: PrivateKey, approvals: Sequence[Approval]
) -> tuple[PrivateKey, ...]:
    """Return the private keys of `Project.ledgers` from two approvals; use them once, and forget them.

    Raises
    ------
    KeyUnavailable
        There are not two approvals by two enrolled approvers.
    IntegrityError
        An approval is forged, or is for another request, project, scope or purpose.
    """
    said = {one["approver"]: one for one in (_checked(project, asked, approval) for approval in approvals)}
    if len(said) < 2:
        raise KeyUnavailable("two approvals by two different approvers are needed; ask another approver")
    two = dict(list(said.items())[:2])
    return tuple(
        _joined(project, asked, private, two, number, ledger) for number, ledger in enumerate(project.ledgers)
    )


def _joined(
    project: Project,
    asked: Request,
    private: PrivateKey,
    said: Mapping[Any, Mapping[str, Any]],
    number: int,
    ledger: Ledger,
) -> PrivateKey:
    pair = next((one for one in ledger.shares if set(one.holders) == set(said)), None)
    if pair is None:
        raise KeyUnavailable("these two approvers hold no shares together; ask another approver")
    halves = [
        private.open(
            _half(said[holder], number, _peer(pair, holder)),
            _answer_info(project, asked, ledger, pair, holder),
        )
        for holder in pair.holders
    ]
    secret = PrivateKey(bytes(a ^ b for a, b in zip(*halves, strict=True)))
    if secret.public_key() != ledger.public:
        raise IntegrityError("the shares don't make the ledger's key: restore the project from a copy")
    return secret


def is_enrolled(project: Project, approval: Approval) -> bool:
    """Tell whether an approval says that it is by one who is enrolled: a removed one's counts no more."""
    try:
        approver_id = json.loads(approval.statement)["approver"]
    except (ValueError, KeyError, TypeError, RecursionError):
        return True  # `approver_of` says what is wrong with it
    return any(one.approver_id == approver_id for one in project.approvers)


def _checked(project: Project, asked: Request, approval: Approval) -> dict[str, Any]:
    try:
        said = json.loads(approval.statement)
        approver = project.approver(str(said["approver"]))
    except (ValueError, KeyError, TypeError, RecursionError):
        raise IntegrityError("an approval can't be read; ask for it again") from None
    approver.public.verify(approval.signature, _LABEL + b"approval\0" + approval.statement)
    if said.get("project") != project.project_id or said.get("request") != asked.digest:
        raise IntegrityError("an approval is for another request or scope; ask for one of this request")
    return dict(said)


def _resealed(project: Project, asked: Request, ledger: Ledger, me: str, key: ApproverKey) -> dict[str, str]:
    """Return one's shares of a ledger's key by the other holder, sealed to the request's key."""
    answers = {}
    for one in (one for one in ledger.shares if me in one.holders):
        info = project.share_info(ledger.public, one.holders, me)
        half = key.sealing.open(one.sealed[one.holders.index(me)], info)
        sealed = seal_to(asked.public_key, half, _answer_info(project, asked, ledger, one, me))
        answers[_peer(one, me)] = to_base64(sealed)
    return answers


def _answer_info(project: Project, asked: Request, ledger: Ledger, shares: Shares, holder: str) -> bytes:
    ids = (asked.digest, project.project_id, *shares.holders, holder)
    earlier = () if ledger.public == project.ledger else (ledger.public,)
    return length_prefixed(_LABEL + b"answer", *(one.encode() for one in ids), *earlier)


def _peer(shares: Shares, me: str) -> str:
    return next(one for one in shares.holders if one != me)


def _half(said: Mapping[str, Any], number: int, peer: str) -> bytes:
    try:
        shares = said["earlier"][number - 1] if number else said["shares"]
        return from_base64(shares[peer])
    except (LookupError, TypeError, ValueError):
        raise IntegrityError("an approval lacks its share; ask for it again") from None


__all__ = [
    "ENROL",
    "MAPS",
    "Approval",
    "Request",
    "approve",
    "approver_of",
    "is_enrolled",
    "ledger_keys",
    "request",
]
