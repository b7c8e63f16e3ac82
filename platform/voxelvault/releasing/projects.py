"""Which project a release has its pseudonyms of: in the vault, in a folder, or for one run alone."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from voxelvault.audit.events import Kind
from voxelvault.config import config_home
from voxelvault.crypto.hybrid import PrivateKey, public_from_text, public_text
from voxelvault.crypto.providers.file import FileProvider
from voxelvault.deid import enrolment
from voxelvault.deid.approver import ApproverKey, ApproverPublic
from voxelvault.deid.enrolment import make
from voxelvault.deid.project import OpenProject, Project, open_project
from voxelvault.deid.project_shelf import DOCUMENT, FolderShelf, SealedShelf, only_project, projects_in
from voxelvault.deid.stored_project import StoredProject
from voxelvault.errors import KeyUnavailable, ObjectExists, ObjectMissing, UsageError
from voxelvault.files import write_new
from voxelvault.releasing.entries import step
from voxelvault.resources import Resources
from voxelvault.storage.objects import LocalObjects

PathLike = str | os.PathLike[str]


@dataclass(frozen=True, slots=True)
class Using:
    """A project that is open, and where it is stored; nowhere, if it is for one run alone."""

    opened: OpenProject = field(repr=False)
    stored: StoredProject | None = None

    @property
    def one_time(self) -> bool:
        """Its key is gone after the run."""
        return self.stored is None

    @property
    def keeps_ledger(self) -> bool:
        """Pairs of old and new values are kept, sealed to the approvers."""
        return self.stored is not None and bool(self.opened.project.ledger)


def custodian_file() -> Path:
    """Return where this user's key as a custodian is, unless another file is named."""
    return config_home() / "keys" / "custodian.key"


def custodian(path: PathLike | None = None, *, make_one: bool = False) -> PrivateKey:
    """Return this user's key as a custodian.

    Parameters
    ----------
    path : path, optional
        Key file; by default `custodian_file()`.
    make_one : bool
        Make it if it isn't there.

    Raises
    ------
    KeyUnavailable
        There is no usable key file.
    """
    place = Path(path or custodian_file()).expanduser()
    if make_one and not place.exists():
        FileProvider(place).create()
    if path is None and not place.exists():
        raise KeyUnavailable(
            "you have no custodian's key: bring the configuration back that held it, or hand what `voxelvault"
            " deidentify custodian public` prints to a custodian of the project"
        )
    return FileProvider(place).private_key()


def stored(project: PathLike | None, resources: Resources | None) -> StoredProject:
    """Return a project where it lies.

    Parameters
    ----------
    project : path or str, optional
        A folder, or the id of a project inside the vault; by default the vault's only one.
    resources : Resources, optional
        The open vault.

    Raises
    ------
    ObjectMissing
        There is none.
    UsageError
        The vault holds several, or no vault is open.
    """
    if resources is not None and (project is None or str(project) in projects_in(resources.objects)):
        project_id = only_project(resources.objects) if project is None else str(project)
        return StoredProject(SealedShelf(resources.objects, resources.keys, project_id))
    if project is None:
        raise UsageError("name the project: --project FOLDER, or open the vault that holds it")
    place = Path(project).expanduser()
    if not (place / DOCUMENT).is_file():
        raise ObjectMissing(
            "there is no project of that name: check it, or make one with"
            " `voxelvault deidentify project create`"
        )
    return StoredProject(FolderShelf(LocalObjects(place)))


def using(
    project: PathLike | None, resources: Resources | None = None, key_file: PathLike | None = None
) -> Using:
    """Open the project of a release.

    Parameters
    ----------
    project : path or str, optional
        As `stored` takes it. Without one, a vault's only project, which is made if there is none;
        without a vault, a project for this run alone.
    resources : Resources, optional
        The open vault.
    key_file : path, optional
        The custodian's key file.

    Raises
    ------
    KeyUnavailable
        The key is no custodian's of the project.
    """
    if project is None and resources is None:
        key = PrivateKey.generate()
        return Using(open_project(make({"one-time": key.public_key()}), key))
    try:
        found = stored(project, resources)
    except ObjectMissing:
        if project is not None or resources is None:
            raise
        found = create(None, resources)
    return Using(found.open(custodian(key_file)), found)


def create(
    folder: PathLike | None,
    resources: Resources | None = None,
    *,
    approvers: dict[str, ApproverPublic] | None = None,
    key_file: PathLike | None = None,
) -> StoredProject:
    """Make a project, its maker the first custodian.

    Parameters
    ----------
    folder : path, optional
        A new or empty one; without it, the project is sealed inside the vault.
    resources : Resources, optional
        The open vault; the making is entered in its log.
    approvers : dict of str to ApproverPublic, optional
        By label, at least two; without any, no ledger is kept.
    key_file : path, optional
        The custodian's key file; made if need be.

    Raises
    ------
    UsageError
        One approver alone, or neither folder nor vault.
    ObjectExists
        A project is there already.
    """
    if folder is None and resources is None:
        raise UsageError("say where the project lies: --project FOLDER, or open a vault for it")
    made = make({"custodian": custodian(key_file, make_one=True).public_key()}, approvers)
    if folder is not None:
        place = Path(folder).expanduser()
        if (place / DOCUMENT).exists():
            raise ObjectExists("there is a project in that folder already: use it, or choose another place")
        place.mkdir(parents=True, exist_ok=True)
        found = StoredProject(FolderShelf(LocalObjects(place)))
    else:
        assert resources is not None  # noqa: S101 - checked above
        found = StoredProject(SealedShelf(resources.objects, resources.keys, made.project_id))
    counts = {"custodians": len(made.custodians), "approvers": len(made.approvers)}
    with step(resources, Kind.PROJECT_MADE, {"project": (made.project_id,)}) as entry:
        entry.intend(counts=counts, digests={"document": made.digest})
        found.create(made)
    return found


def add_custodian(
    found: StoredProject,
    label: str,
    public: bytes,
    resources: Resources | None = None,
    key_file: PathLike | None = None,
) -> OpenProject:
    """Seal the project's key to another custodian.

    Parameters
    ----------
    found : StoredProject
        The project.
    label : str
        An account's name or a role; no spaces.
    public : bytes
        What `custodian(...).public_key()` is to the other one.
    resources : Resources, optional
        The open vault; the step is entered in its log.
    key_file : path, optional
        The key file of who enrols, a custodian.

    Raises
    ------
    UsageError
        The label or the key is enrolled already.
    KeyUnavailable
        Who asks is no custodian.
    """
    opened = found.open(custodian(key_file))
    changed = enrolment.add_custodian(opened.project, opened.key, label, public)
    new = changed.custodians[-1].custodian_id
    ids, counts = {"custodian": (new,)}, {"custodians": len(changed.custodians)}
    return change(found, opened, changed, resources, Kind.CUSTODIAN_ENROLLED, ids=ids, counts=counts)


def remove_custodian(
    found: StoredProject,
    label: str,
    resources: Resources | None = None,
    key_file: PathLike | None = None,
) -> OpenProject:
    """Take a custodian off a project: the document opens for that key no more.

    What the custodian has seen of the project's key stays seen, and the key can't be exchanged without
    other pseudonyms: a copy of an older document still opens with that custodian's key.

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
        There is none of that label, or it is the last one.
    KeyUnavailable
        Who asks is no custodian.
    """
    opened = found.open(custodian(key_file))
    changed = enrolment.remove_custodian(opened.project, opened.key, label)
    gone = next(one.custodian_id for one in opened.project.custodians if one.label == label)
    ids, counts = {"custodian": (gone,)}, {"custodians": len(changed.custodians)}
    return change(found, opened, changed, resources, Kind.CUSTODIAN_REMOVED, ids=ids, counts=counts)


def change(
    found: StoredProject,
    opened: OpenProject,
    changed: Project,
    resources: Resources | None,
    kind: Kind,
    *,
    ids: Mapping[str, tuple[str, ...]],
    counts: Mapping[str, int],
) -> OpenProject:
    """Store a changed project, entered in the log ahead of it."""
    with step(resources, kind, {"project": (changed.project_id,)}) as entry:
        entry.intend(ids=ids, counts=counts, digests={"document": changed.digest})
        return found.change(opened, changed)


def custodian_public(path: PathLike | None = None) -> str:
    """Return this user's public key as a custodian, one line to hand over; it is made if need be."""
    return public_text(custodian(path, make_one=True).public_key())


def custodian_from_text(path: PathLike) -> bytes:
    """Read another custodian's public key from a file.

    Raises
    ------
    UsageError
        It is none.
    """
    return public_from_text(_line(path))


def approver_file(path: PathLike) -> ApproverPublic:
    """Read an approver's public key from a file.

    Raises
    ------
    UsageError
        It is none.
    """
    return ApproverPublic.from_text(_line(path))


def new_approver(path: PathLike, public: PathLike) -> tuple[str, str]:
    """Write a new approver's keys: the secret one to a file of its owner's, the public one to another.

    Returns
    -------
    str, str
        The public key as text, and the SHA-256 of its file, hexadecimal.

    Raises
    ------
    UsageError
        One of the files is there already; then neither was written.
    """
    key, places = ApproverKey.generate(), [Path(one).expanduser() for one in (path, public)]
    if places[0] == places[1] or any(place.exists() for place in places):
        raise UsageError("a key of that name is there already; choose another name")
    text = key.public().text()
    line = text.encode() + b"\n"
    write_new(places[0], [key.text().encode() + b"\n"], private=True)
    write_new(places[1], [line])
    return text, hashlib.sha256(line).hexdigest()


def approver_key(path: PathLike) -> ApproverKey:
    """Read an approver's secret key.

    Raises
    ------
    KeyUnavailable
        It is none, or others can read the file.
    """
    place = Path(path).expanduser()
    key = ApproverKey.from_text(_line(place))
    if place.stat().st_mode & 0o077:
        raise KeyUnavailable("others can read the approver's key: run chmod 600 on its file")
    return key


def _line(path: PathLike) -> str:
    try:
        return Path(path).expanduser().read_text("ascii").strip()
    except UnicodeDecodeError:
        raise UsageError("this file holds no key; name the right one") from None


__all__ = [
    "Using",
    "add_custodian",
    "approver_file",
    "approver_key",
    "change",
    "create",
    "custodian",
    "custodian_file",
    "custodian_from_text",
    "custodian_public",
    "new_approver",
    "remove_custodian",
    "stored",
    "using",
]
