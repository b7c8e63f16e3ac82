"""`deidentify project`, `custodian`, `approver`: whose pseudonyms, and who may reverse them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from voxelvault.errors import UsageError
from voxelvault.interfaces.cli.command import Session, pass_session, verb
from voxelvault.interfaces.cli.output import emit, facts, say, shown, table

if TYPE_CHECKING:
    from voxelvault.deid.approver import ApproverPublic
    from voxelvault.deid.stored_project import StoredProject
    from voxelvault.releasing.ledgers import Asked
    from voxelvault.resources import Resources

NO_LOG = "no audit log: open a vault for one"

_FILE = click.Path(path_type=Path)

in_project = click.option(
    "--project", metavar="PLACE", help="A folder, or the id of one in the vault; by default the vault's only."
)
as_custodian = click.option(
    "--custodian", "key_file", type=_FILE, metavar="FILE", help="Your key; by default the configuration's."
)


@contextmanager
def opened_vault(session: Session, *, reading: bool = False) -> Iterator[Resources | None]:
    """Open the vault that gets the entries, if one was named; say where none is, and something is done."""
    from voxelvault.config import default_vault

    if (session.vault or default_vault()) is None:
        if not reading:
            say(NO_LOG)
        yield None
        return
    with session.open() as vault:
        yield vault.resources


@contextmanager
def found_project(
    session: Session, project: str | None, *, reading: bool = False
) -> Iterator[tuple[StoredProject, Resources | None]]:
    """Find a project where it lies, and the vault that gets the entries of what is done."""
    from voxelvault.releasing.projects import stored

    with opened_vault(session, reading=reading) as resources:
        yield stored(project, resources), resources


def labelled(values: Sequence[str]) -> dict[str, ApproverPublic]:
    """Read public keys of approvers, each ``LABEL=FILE``.

    Raises
    ------
    UsageError
        One has no label, two have the same, or a file holds no such key.
    """
    from voxelvault.releasing.projects import approver_file

    pairs = [value.partition("=") for value in values]
    if not all(label and file for label, _, file in pairs):
        raise UsageError("an approver is LABEL=FILE: a short name, and the file of a public key")
    if len({label for label, _, _ in pairs}) < len(pairs):
        raise UsageError("two approvers have one label; each needs a label of their own")
    return {label: approver_file(file) for label, _, file in pairs}


@click.group("project")
def project() -> None:
    """Make a project, look at it, and enrol who may use and who may reverse it."""


@verb(
    "create",
    "voxelvault --vault ~/vault deidentify project create",
    "voxelvault --vault ~/vault deidentify project create --approver ann=ann.pub --approver bob=bob.pub",
    "voxelvault deidentify project create --project /keys/study-7",
)
@click.option("--project", "folder", type=_FILE, metavar="FOLDER", help="New; by default inside the vault.")
@click.option("--approver", "approvers", multiple=True, metavar="LABEL=FILE", help="Two or more; repeat it.")
@as_custodian
@pass_session
def create(
    session: Session, folder: Path | None, approvers: Sequence[str], key_file: Path | None, as_json: bool
) -> None:
    """Make a project; you are its first custodian.

    It has the key that all its pseudonyms come from. With approvers (see `approver new`) it keeps a
    ledger of what became of what, which any two of them open together; without, nothing is kept.
    """
    from voxelvault.releasing import projects

    with opened_vault(session) as resources:
        public = labelled(approvers)
        found = projects.create(folder, resources, approvers=public, key_file=key_file)
        _tell(found, as_json, resources)


@verb("show", "voxelvault --vault ~/vault deidentify project show")
@in_project
@pass_session
def show(session: Session, project: str | None, as_json: bool) -> None:
    """Print who is enrolled, and what was asked of the ledger."""
    with found_project(session, project, reading=True) as (found, resources):
        _tell(found, as_json, resources)


@verb(
    "add-custodian", "voxelvault --vault ~/vault deidentify project add-custodian night-shift colleague.pub"
)
@click.argument("label")
@click.argument("public_key", metavar="PUBLICKEYFILE", type=_FILE)
@in_project
@as_custodian
@pass_session
def add_custodian(
    session: Session, label: str, public_key: Path, project: str | None, key_file: Path | None, as_json: bool
) -> None:
    """Let somebody else make releases with the project's pseudonyms.

    PUBLICKEYFILE holds what `deidentify custodian public` printed to them. A custodian can test
    guesses of patient ids, and can't open the ledger.
    """
    from voxelvault.releasing import projects

    with found_project(session, project) as (found, resources):
        projects.add_custodian(
            found, label, projects.custodian_from_text(public_key), resources, key_file=key_file
        )
        _tell(found, as_json, resources)


@verb(
    "add-approver",
    "voxelvault --vault ~/vault deidentify project add-approver eve=eve.pub --purpose IRB-2031",
    "voxelvault --vault ~/vault deidentify project add-approver eve=eve.pub"
    " --request 0123456789abcdef0123456789abcdef",
)
@click.argument("approvers", nargs=-1, required=True, metavar="LABEL=FILE...")
@click.option("--purpose", metavar="CODE", help="Ask for it: why.")
@click.option("--request", "request_id", metavar="ID", help="Do it: the request that two approved.")
@in_project
@as_custodian
@pass_session
def add_approver(
    session: Session,
    approvers: Sequence[str],
    purpose: str | None,
    request_id: str | None,
    project: str | None,
    key_file: Path | None,
    as_json: bool,
) -> None:
    """Enrol further approvers: first ask for it, then do it when two of those who are approved.

    A project without a ledger gets one with its first two approvers, and needs no request.
    """
    from voxelvault.releasing import ledgers

    with found_project(session, project) as (found, resources):
        public = labelled(approvers)
        if purpose and request_id:
            raise UsageError("--purpose asks for approvers, --request enrols them; use one of them")
        if purpose:
            asked = ledgers.ask_for_approvers(found, public, purpose=purpose, resources=resources)
            tell_request(asked.request_id, as_json, resources)
            return
        ledgers.enrol(found, public, request_id, resources=resources, key_file=key_file)
        _tell(found, as_json, resources)


@verb("remove-custodian", "voxelvault --vault ~/vault deidentify project remove-custodian night-shift")
@click.argument("label")
@in_project
@as_custodian
@pass_session
def remove_custodian(
    session: Session, label: str, project: str | None, key_file: Path | None, as_json: bool
) -> None:
    """Let somebody make no more releases of the project.

    The project opens for their key no more. What they have seen of the project's key they keep: they
    can still test guesses of ids. Where that matters, make a new project, with other pseudonyms.
    """
    from voxelvault.releasing import projects

    with found_project(session, project) as (found, resources):
        projects.remove_custodian(found, label, resources, key_file=key_file)
        _tell(found, as_json, resources)


@verb("remove-approver", "voxelvault --vault ~/vault deidentify project remove-approver eve")
@click.argument("label")
@in_project
@as_custodian
@pass_session
def remove_approver(
    session: Session, label: str, project: str | None, key_file: Path | None, as_json: bool
) -> None:
    """Let somebody approve no more; two must be left.

    Their approvals count no more, and the ledger goes on with a fresh key. What was recorded before,
    they and another approver could still open from a copy of the project that they kept.
    """
    from voxelvault.releasing import ledgers

    with found_project(session, project) as (found, resources):
        ledgers.remove_approver(found, label, resources, key_file=key_file)
        _tell(found, as_json, resources)


def tell_request(request_id: str, as_json: bool, resources: Resources | None) -> None:
    """Print what two approvers need."""
    lines = [
        f"request {request_id}",
        f"two approvers each run: voxelvault … deidentify ledger approve {request_id} --key FILE",
    ]
    emit({"request": request_id, "audit_log": resources is not None}, lines, as_json)


def request_facts(one: Asked) -> dict[str, Any]:
    """Return what a request says, for people and for JSON."""
    request = one.request
    return {
        "request": request.request_id,
        "maps": list(request.maps),
        "purpose": request.purpose,
        "pseudonyms": list(request.pseudonyms),
        "approved_by": list(one.approved_by),
        "spoilt": one.spoilt,
        "carried_out": one.carried_out,
    }


def request_texts(told: Mapping[str, Any]) -> dict[str, Any]:
    """Return what `request_facts` tells as a person reads it."""
    approved = [*told["approved_by"], *([f"{told['spoilt']} that don't hold"] if told["spoilt"] else [])]
    shown = {name: value for name, value in told.items() if name != "spoilt"}
    return {**shown, "pseudonyms": told["pseudonyms"] or ["all"], "approved_by": approved or ["nobody"]}


def _tell(found: StoredProject, as_json: bool, resources: Resources | None) -> None:
    from voxelvault.releasing.ledgers import asked

    document, requests = found.read(), [request_facts(one) for one in asked(found)]
    known: dict[str, Any] = {
        "project": document.project_id,
        "signer": document.signing.hex(),
        "custodians": [one.label for one in document.custodians],
        "approvers": [one.label for one in document.approvers],
    }
    told = {name: cell(value) for name, value in known.items()}
    lines = facts({**told, "ledger": "kept" if document.ledger else "none: no approvers"})
    if requests:
        columns = ("request", "maps", "purpose", "approved_by", "carried_out")
        texts = map(request_texts, requests)
        cells = [[cell(one[name]) for name in columns] for one in texts]
        lines += table([name.replace("_", " ") for name in columns], cells)
    log = resources is not None
    emit({**known, "ledger": bool(document.ledger), "requests": requests, "audit_log": log}, lines, as_json)


def cell(value: object) -> str:
    """Return a value as a person reads it."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    return ", ".join(value) if isinstance(value, list) else shown(value)


@click.group("custodian")
def custodian() -> None:
    """Your key as one who makes releases of a project."""


@verb("public", "voxelvault deidentify custodian public > mine.pub")
@as_custodian
@pass_session
def public(session: Session, key_file: Path | None, as_json: bool) -> None:
    """Print your public key as a custodian.

    Hand it to a custodian of the project. The key is made in your configuration if it isn't there.
    """
    from voxelvault.releasing.projects import custodian_public

    text = custodian_public(key_file)
    emit({"public_key": text}, text, as_json)


@click.group("approver")
def approver() -> None:
    """Keys of those who open a ledger together."""


@verb("new", "voxelvault deidentify approver new /media/usb/ann.key")
@click.argument("file", type=_FILE)
@pass_session
def new(session: Session, file: Path, as_json: bool) -> None:
    """Make your key as an approver: the secret half in FILE, the public one beside it, as .pub.

    Each approver does this alone, keeps FILE, and hands over the .pub. Its SHA-256 is told on another
    way: who gets the .pub compares it by `sha256sum`.
    """
    from voxelvault.releasing.projects import new_approver

    public = file.with_suffix(".pub")
    text, digest = new_approver(file, public)
    told = {"secret key, to keep": file, "public key, to hand over": public, "its SHA-256": digest}
    emit(
        {"public_key": text, "key_file": file, "public_key_file": public, "sha256": digest},
        facts(told),
        as_json,
    )


for _verb in (create, show, add_custodian, add_approver, remove_custodian, remove_approver):
    project.add_command(_verb)
custodian.add_command(public)
approver.add_command(new)

__all__ = [
    "approver",
    "cell",
    "custodian",
    "found_project",
    "in_project",
    "labelled",
    "project",
    "request_facts",
    "request_texts",
    "tell_request",
]
