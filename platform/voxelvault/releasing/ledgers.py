"""Opening a project's ledger: asked for by one, approved by two others, opened by who asked.

Each step is entered in the log of the vault that is open, ahead of its effect. Without a vault a
project's folder has no log: the approvals lie there, and nothing proves that none was deleted.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from voxelvault.audit.events import Kind
from voxelvault.config import config_home
from voxelvault.crypto.hybrid import PrivateKey
from voxelvault.crypto.providers.file import FileProvider
from voxelvault.deid import approving, enrolment
from voxelvault.deid.approver import ApproverPublic
from voxelvault.deid.approving import ENROL, MAPS, Approval, Request
from voxelvault.deid.ledger import Pair, map_csv
from voxelvault.deid.project import OpenProject, Project
from voxelvault.deid.stored_project import StoredProject
from voxelvault.errors import IntegrityError, KeyUnavailable, ObjectExists, ObjectMissing, UsageError
from voxelvault.files import write_new
from voxelvault.releasing.entries import step
from voxelvault.releasing.projects import PathLike, approver_key, change, custodian
from voxelvault.resources import Resources

Found = dict[str, list[Pair]]
"""Pairs of old and new, for each map that was asked for; a path is None where the file was refused."""


@dataclass(frozen=True, slots=True)
class Asked:
    """A request, and how far it got."""

    request: Request
    approved_by: tuple[str, ...]
    """Labels of the approvers who said yes."""
    carried_out: bool
    spoilt: int = 0
    """Files among its approvals that are none, or don't hold: the request can't be carried out."""


def request_file(request_id: str) -> Path:
    """Return where the key of a request of this user's is, until the request is carried out."""
    return config_home() / "requests" / f"{request_id}.key"


def ask(
    found: StoredProject,
    maps: Sequence[str] = MAPS,
    *,
    purpose: str,
    pseudonyms: Sequence[str] = (),
    resources: Resources | None = None,
) -> Request:
    """Ask for the way back from pseudonyms; nothing is opened yet.

    Parameters
    ----------
    found : StoredProject
        The project.
    maps : sequence of str
        Of ``patients``, ``uids`` and ``paths``.
    purpose : str
        Code of the purpose, such as a number of an ethics committee.
    pseudonyms : sequence of str
        Those to be told of; without any, all of these maps.
    resources : Resources, optional
        The open vault.

    Returns
    -------
    Request
        Its id is what the approvers need. Its key is in this user's configuration.

    Raises
    ------
    UsageError
        The project keeps no ledger, the maps are unknown, the purpose is no code, or the ledger doesn't
        hold a pseudonym; an id that a site's rule kept is none.
    """
    return _ask(found, *approving.request(found.read(), maps, purpose, pseudonyms), resources)


def ask_for_approvers(
    found: StoredProject,
    approvers: Mapping[str, ApproverPublic],
    *,
    purpose: str,
    resources: Resources | None = None,
) -> Request:
    """Ask for further approvers, public keys by label; two of those who are must approve.

    Raises
    ------
    UsageError
        The project keeps no ledger, a label or key is enrolled already, or the purpose is no code.
    """
    document = found.read()
    enrolment.joined(document, approvers)
    subject = enrolment.digest_of(approvers)
    return _ask(found, *approving.request(document, (ENROL,), purpose, (), subject), resources)


def _ask(found: StoredProject, asked: Request, key: PrivateKey, resources: Resources | None) -> Request:
    place = request_file(asked.request_id)
    with step(resources, Kind.LEDGER_REQUESTED, _ids(asked), asked.purpose) as entry:
        missing = found.not_held(asked)
        if missing:
            raise UsageError(
                f"the ledger doesn't hold {missing} of the pseudonyms asked for, in these maps: check their"
                " spelling, and which maps"
            )
        entry.intend(**_about(asked))
        place.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        write_new(place, [key.text().encode() + b"\n"], private=True)
        found.ask(asked)
    return asked


def approve(
    found: StoredProject,
    request_id: str,
    key_file: PathLike,
    resources: Resources | None = None,
    *,
    approvers: Mapping[str, ApproverPublic] | None = None,
) -> Approval:
    """Say yes to a request, as an approver; read it first: `asked`.

    Parameters
    ----------
    found : StoredProject
        The project.
    request_id : str
        From who asks.
    key_file : path
        The approver's secret key.
    resources : Resources, optional
        The open vault.
    approvers : mapping of str to ApproverPublic, optional
        Of a request to enrol some: who they are, as the approver knows them.

    Raises
    ------
    KeyUnavailable
        The key is no enrolled approver's.
    UsageError
        This approver approved it already, it is to enrol others, or there is no such request.
    """
    key, asked = approver_key(key_file), _asked(found, request_id)
    # Who signs for somebody's enrolment has seen that one's key, not only what the request says.
    if asked.subject != (enrolment.digest_of(approvers) if approvers else ""):
        raise UsageError("the request is to enrol others: name who they are, each LABEL=FILE, as it does")
    with step(resources, Kind.LEDGER_APPROVED, _ids(asked), asked.purpose) as entry:
        entry.add(**_about(asked))
        try:
            return found.approve(request_id, key, lambda said: entry.intend(**_who(said)))
        except ObjectExists:
            raise UsageError(
                "this approver has approved the request already; another one's approval is needed"
            ) from None


def reidentify(found: StoredProject, request_id: str, resources: Resources | None = None) -> Found:
    """Carry out one's own approved request, once: return the maps that it asked for.

    Parameters
    ----------
    found : StoredProject
        The project.
    request_id : str
        From `ask`, by this user.
    resources : Resources, optional
        The open vault.

    Raises
    ------
    KeyUnavailable
        Two approvers haven't approved it, or this user didn't make it, or carried it out before.
    IntegrityError
        An approval or the ledger was changed.
    """
    asked = _asked(found, request_id)
    with step(resources, Kind.LEDGER_OPENED, _ids(asked), asked.purpose) as entry:
        entry.add(**_about(asked))
        key = _key(found, asked)
        maps = found.reidentify(request_id, key, lambda said: entry.intend(**_who(said)))
        batches = sum(1 for _ in found.shelf.names("batches"))
        entry.add(counts={"batches": batches, "rows": sum(map(len, maps.values()))})
    request_file(request_id).unlink()
    return maps


def enrol(
    found: StoredProject,
    approvers: Mapping[str, ApproverPublic],
    request_id: str | None = None,
    *,
    resources: Resources | None = None,
    key_file: PathLike | None = None,
) -> OpenProject:
    """Enrol approvers: by a request that two approved, or with the first of them begin a ledger.

    Parameters
    ----------
    found : StoredProject
        The project.
    approvers : mapping of str to ApproverPublic
        By label; those that the request named.
    request_id : str, optional
        From `ask_for_approvers`; without, for a project that keeps no ledger yet.
    resources : Resources, optional
        The open vault.
    key_file : path, optional
        The key file of who enrols, a custodian.

    Raises
    ------
    UsageError
        The request is for others, or the project has approvers and there is no request.
    KeyUnavailable
        Two approvers haven't approved it, or who asks is no custodian.
    """
    opened = found.open(custodian(key_file))
    if request_id is None:
        return _begin_ledger(found, opened, approvers, resources)
    asked = _asked(found, request_id)
    with step(resources, Kind.APPROVER_ENROLLED, _ids(asked), asked.purpose) as entry:
        entry.add(digests={"request": asked.digest})
        key = _key(found, asked)
        changed = found.enrol(
            opened, request_id, key, approvers, lambda said: entry.intend(digests=_statements(said))
        )
        entry.add(**_enrolled(changed.project, approvers), digests={"document": changed.project.digest})
    request_file(request_id).unlink()
    return changed


def _begin_ledger(
    found: StoredProject,
    opened: OpenProject,
    approvers: Mapping[str, ApproverPublic],
    resources: Resources | None,
) -> OpenProject:
    changed = enrolment.add_ledger(opened.project, opened.key, approvers)
    return change(found, opened, changed, resources, Kind.APPROVER_ENROLLED, **_enrolled(changed, approvers))


def remove_approver(
    found: StoredProject,
    label: str,
    resources: Resources | None = None,
    key_file: PathLike | None = None,
) -> OpenProject:
    """Take an approver off a project, as a custodian; see `enrolment.without_approver`.

    Parameters
    ----------
    found : StoredProject
        The project.
    label : str
        Whom.
    resources : Resources, optional
        The open vault; the step is entered in its log.
    key_file : path, optional
        The key file of who does it, a custodian.

    Raises
    ------
    UsageError
        There is none of that label, or fewer than two would be left.
    KeyUnavailable
        Who asks is no custodian.
    """
    opened = found.open(custodian(key_file))
    changed = enrolment.without_approver(opened.project, opened.key, label)
    gone = {one.approver_id for one in opened.project.approvers} - {
        one.approver_id for one in changed.approvers
    }
    ids, counts = {"approver": tuple(gone)}, {"approvers": len(changed.approvers)}
    return change(found, opened, changed, resources, Kind.APPROVER_REMOVED, ids=ids, counts=counts)


def asked(found: StoredProject, request_id: str | None = None) -> list[Asked]:
    """Return the project's requests, or one of them, with who approved.

    Raises
    ------
    UsageError
        There is no such request.
    """
    document, done = found.read(), found.carried_out()
    requests = found.requests() if request_id is None else [_asked(found, request_id)]
    return [_told(found, document, one, carried_out=one.request_id in done) for one in requests]


def map_files(folder: PathLike, maps: Sequence[str]) -> dict[str, Path]:
    """Return where each map goes, in a folder that holds none of them; look before opening.

    Raises
    ------
    UsageError
        One is there already.
    """
    place = Path(folder).expanduser()
    files = {name: place / f"{name}.csv" for name in maps}
    if any(file.exists() for file in files.values()):
        raise UsageError("the folder holds maps already; choose another")
    place.mkdir(mode=0o700, parents=True, exist_ok=True)
    return files


def write_maps(files: Mapping[str, Path], maps: Found) -> None:
    """Write maps as CSV with the columns `id_old,id_new`, readable by their owner alone."""
    for name, pairs in maps.items():
        write_new(files[name], [map_csv(pairs).encode()], private=True)


def _asked(found: StoredProject, request_id: str) -> Request:
    try:
        return found.asked(request_id)
    except ObjectMissing:
        raise UsageError("there is no request of this id; look with `deidentify project show`") from None


def _key(found: StoredProject, asked: Request) -> PrivateKey:
    place = request_file(asked.request_id)
    if place.exists():
        return FileProvider(place).private_key()
    if asked.request_id in found.carried_out():
        raise UsageError("this request was carried out before; make a new one")
    raise KeyUnavailable("the request's key isn't here: only who made a request carries it out")


def _told(found: StoredProject, document: Project, request: Request, *, carried_out: bool) -> Asked:
    labels, spoilt = [], 0
    for data in found.approval_files(request.request_id):
        try:
            approval = Approval.from_data(data)
            if approving.is_enrolled(document, approval):
                approver_id = approving.approver_of(document, request, approval)
                labels.append(document.approver(approver_id).label)
        except (UsageError, IntegrityError, KeyUnavailable):
            spoilt += 1  # one file must not hide the project's other requests
    return Asked(request, tuple(labels), carried_out, spoilt)


def _ids(asked: Request) -> dict[str, tuple[str, ...]]:
    return {"project": (asked.project_id,), "request": (asked.request_id,)}


def _about(asked: Request) -> dict[str, dict[str, Any]]:
    return {
        "counts": {"pseudonyms": len(asked.pseudonyms)},
        "digests": {"request": asked.digest},
        "codes": {"maps": asked.maps},
    }


def _who(said: Mapping[str, Approval]) -> dict[str, dict[str, Any]]:
    return {"ids": {"approver": tuple(said)}, "digests": _statements(said)}


def _statements(said: Mapping[str, Approval]) -> dict[str, str]:
    return dict(zip(("statement", "second"), (one.digest for one in said.values()), strict=False))


def _enrolled(changed: Project, approvers: Mapping[str, ApproverPublic]) -> dict[str, dict[str, Any]]:
    new = tuple(one.approver_id for one in changed.approvers if one.label in approvers)
    return {
        "ids": {"approver": new},
        "counts": {"approvers": len(changed.approvers)},
    }


__all__ = [
    "Asked",
    "Found",
    "approve",
    "ask",
    "ask_for_approvers",
    "asked",
    "enrol",
    "map_files",
    "reidentify",
    "remove_approver",
    "request_file",
    "write_maps",
]
