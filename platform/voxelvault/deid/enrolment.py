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
from voxelvault.deid.project import Approver, Custodian, Project, Shares, custody_info, signing_key
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
    return with_approvers(replace(project, ledger=secret.public_key()), key, approvers, secret)


def with_approvers(
    project: Project, key: bytes, approvers: Mapping[str, ApproverPublic], secret: PrivateKey
) -> Project:
    """Enrol these approvers beside those who are; the ledger's private key is at hand, so two approved.

    Raises
    ------
    UsageError
        One approver alone, one key under two labels, or a label with spaces.
    """
    everyone = joined(project, approvers)
    bare = replace(project, approvers=tuple(everyone), shares=())
    shares = tuple(_split(bare, pair, secret.seed) for pair in combinations(everyone, 2))
    return replace(bare, shares=shares).signed(key)


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


def without_approver(project: Project, key: bytes, approver_id: str) -> Project:
    """Take an approver and every share of theirs off the list.

    Raises
    ------
    UsageError
        Fewer than two would be left.
    KeyUnavailable
        There is none of that id.
    """
    project.approver(approver_id)
    kept = tuple(one for one in project.approvers if one.approver_id != approver_id)
    if len(kept) < 2:
        raise UsageError("a ledger needs two approvers at least; enrol another one first")
    shares = tuple(one for one in project.shares if approver_id not in one.holders)
    return replace(project, approvers=kept, shares=shares).signed(key)


def digest_of(approvers: Mapping[str, ApproverPublic]) -> str:
    """Return the digest by which a request names the approvers to be enrolled, hexadecimal."""
    parts = [part for label in sorted(approvers) for part in (label.encode(), approvers[label].data())]
    return hashlib.sha256(length_prefixed(*parts)).hexdigest()


def _split(project: Project, pair: tuple[Approver, Approver], seed: bytes) -> Shares:
    holders = (pair[0].approver_id, pair[1].approver_id)
    first = os.urandom(len(seed))
    second = bytes(a ^ b for a, b in zip(first, seed, strict=True))
    sealed = [
        seal_to(one.public.sealing, half, project.share_info(holders, one.approver_id))
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
