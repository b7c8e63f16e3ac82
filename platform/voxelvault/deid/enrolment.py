"""Making a project, and enrolling its custodians and approvers.

References
----------
RFC 9180 (HPKE).
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import combinations

from voxelvault.crypto.hybrid import PrivateKey, seal_to
from voxelvault.deid.approver import ApproverPublic
from voxelvault.deid.project import (
    Approver,
    Custodian,
    Ledger,
    Project,
    Shares,
    custody_info,
    signing_key,
)
from voxelvault.deid.pseudonym import KEY_LENGTH, length_prefixed
from voxelvault.errors import UsageError
from voxelvault.model import new_id

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.@-]{0,63}")


def make(custodians: Mapping[str, bytes], approvers: Mapping[str, ApproverPublic] | None = None) -> Project:
    """Make a project: a fresh key, sealed to its custodians; with approvers, a ledger as well.

    Parameters
    ----------
    custodians : mapping of str to bytes
        Public key by label; at least one.
    approvers : mapping of str to ApproverPublic, optional
        By label; at least two. Without any, the project keeps no ledger.

    Raises
    ------
    UsageError
        No custodian, one approver alone, one key under two labels, or a label with spaces.
    """
    if not custodians:
        raise UsageError("a project needs a custodian; name the public key of one")
    key, project_id = os.urandom(KEY_LENGTH), new_id()
    signing = signing_key(key, project_id).public_key().public_bytes_raw()
    project = Project(project_id, signing, ())
    for label, public in custodians.items():
        project = add_custodian(project, key, label, public)
    return add_ledger(project, key, approvers) if approvers else project.signed(key)


def add_custodian(project: Project, key: bytes, label: str, public: bytes) -> Project:
    """Enrol a custodian; the caller holds the project key, so is one.

    Raises
    ------
    UsageError
        The label or the key is enrolled already, or malformed.
    """
    _check_label(label, [one.label for one in project.custodians])
    if any(one.public == public for one in project.custodians):
        raise UsageError("this public key is a custodian's already; nothing was changed")
    custodian_id = new_id()
    sealed = seal_to(public, key, custody_info(project.project_id, custodian_id))
    one = Custodian(custodian_id, label, public, sealed)
    return replace(project, custodians=(*project.custodians, one)).signed(key)


def remove_custodian(project: Project, key: bytes, label: str) -> Project:
    """Take a custodian off the list; what he has seen of the key he keeps.

    Raises
    ------
    UsageError
        There is none of that label, or it is the last one.
    """
    kept = tuple(one for one in project.custodians if one.label != label)
    if len(kept) == len(project.custodians) or not kept:
        raise UsageError("no such custodian, or the last one; nothing was changed")
    return replace(project, custodians=kept).signed(key)


def add_ledger(project: Project, key: bytes, approvers: Mapping[str, ApproverPublic]) -> Project:
    """Give a project a ledger that any two of the approvers open.

    Raises
    ------
    UsageError
        It has one, there is one approver alone, one key under two labels, or a label with spaces.
    """
    if project.ledger:
        raise UsageError("the project has a ledger; enrol approvers by an approved request")
    secret = PrivateKey.generate()
    return with_approvers(replace(project, ledger=secret.public_key()), key, approvers, [secret])


def with_approvers(
    project: Project, key: bytes, approvers: Mapping[str, ApproverPublic], secrets: Sequence[PrivateKey]
) -> Project:
    """Enrol these approvers beside those who are; the ledger's private keys are at hand, so two approved.

    Raises
    ------
    UsageError
        One approver alone, one key under two labels, or a label with spaces.
    """
    everyone = joined(project, approvers)
    current, *earlier = (_split(project, everyone, secret) for secret in secrets)
    return replace(project, approvers=tuple(everyone), shares=current.shares, earlier=tuple(earlier)).signed(
        key
    )


def joined(project: Project, approvers: Mapping[str, ApproverPublic]) -> list[Approver]:
    """Return the project's approvers and these, who aren't enrolled yet.

    Raises
    ------
    UsageError
        One approver alone, one key under two labels, or a label with spaces.
    """
    everyone = list(project.approvers)
    for label, public in approvers.items():
        _check_label(label, [one.label for one in everyone])
        if any(
            public.sealing == one.public.sealing or public.signing == one.public.signing for one in everyone
        ):
            raise UsageError("two approvers have one key; each needs a key of their own")
        everyone.append(Approver(new_id(), label, public))
    if len(everyone) < 2:
        raise UsageError("a ledger needs two approvers at least, since two open it together")
    return everyone


def without_approver(project: Project, key: bytes, label: str) -> Project:
    """Take an approver and every share of theirs off the list; the ledger goes on with a fresh key.

    So what is recorded from now on stays closed to who was removed, whatever copies of the project's
    document they kept. What was recorded before they could still open together with another approver,
    from such a copy: nobody can take back what somebody holds.

    Raises
    ------
    UsageError
        Fewer than two would be left, or there is none of that label.
    """
    kept = [one for one in project.approvers if one.label != label]
    if len(kept) == len(project.approvers):
        raise UsageError("no such approver; look with `deidentify project show`")
    if len(kept) < 2:
        raise UsageError("a ledger needs two approvers at least; enrol another one first")
    ids = {one.approver_id for one in kept}
    before = tuple(
        replace(one, shares=tuple(pair for pair in one.shares if ids.issuperset(pair.holders)))
        for one in project.ledgers
    )
    fresh = _split(project, kept, PrivateKey.generate())
    return replace(
        project, ledger=fresh.public, approvers=tuple(kept), shares=fresh.shares, earlier=before
    ).signed(key)


def digest_of(approvers: Mapping[str, ApproverPublic]) -> str:
    """Return the digest by which a request names the approvers to be enrolled, hexadecimal."""
    parts = [part for label in sorted(approvers) for part in (label.encode(), approvers[label].data())]
    return hashlib.sha256(length_prefixed(*parts)).hexdigest()


def _split(project: Project, approvers: Sequence[Approver], secret: PrivateKey) -> Ledger:
    """Return a ledger's key in shares for each pair of approvers."""
    public = secret.public_key()
    return Ledger(
        public, tuple(_halved(project, public, pair, secret) for pair in combinations(approvers, 2))
    )


def _halved(project: Project, ledger: bytes, pair: tuple[Approver, Approver], secret: PrivateKey) -> Shares:
    holders = (pair[0].approver_id, pair[1].approver_id)
    first = os.urandom(len(secret.seed))
    second = bytes(a ^ b for a, b in zip(first, secret.seed, strict=True))
    sealed = [
        seal_to(one.public.sealing, half, project.share_info(ledger, holders, one.approver_id))
        for one, half in zip(pair, (first, second), strict=True)
    ]
    return Shares(holders, (sealed[0], sealed[1]))


def _check_label(label: str, taken: Sequence[str]) -> None:
    if not _NAME.fullmatch(label) or label in taken:
        raise UsageError("a label is a short name without spaces, and each has its own; choose another")


__all__ = [
    "add_custodian",
    "add_ledger",
    "digest_of",
    "joined",
    "make",
    "remove_custodian",
    "with_approvers",
    "without_approver",
]
