"""`deidentify ledger`: the way back from pseudonyms, for which two approvers must say yes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import click

from voxelvault.interfaces.cli.command import Session, pass_session, verb
from voxelvault.interfaces.cli.deidentify_projects import (
    cell,
    found_project,
    in_project,
    labelled,
    request_facts,
    request_texts,
    tell_request,
)
from voxelvault.interfaces.cli.output import emit, facts

_FILE = click.Path(path_type=Path)
_EXAMPLE = "0123456789abcdef0123456789abcdef"


@click.group("ledger")
def ledger() -> None:
    """Ask for the way back from pseudonyms, approve it, and open it."""


@verb(
    "request",
    "voxelvault --vault ~/vault deidentify ledger request --purpose IRB-2031",
    "voxelvault --vault ~/vault deidentify ledger request --maps patients --pseudonym PL24PNW0NXL044JN"
    " --purpose IRB-2031",
)
@click.option(
    "--maps", default="patients,uids,paths", show_default=True, metavar="NAMES", help="Which; with commas."
)
@click.option("--pseudonym", "pseudonyms", multiple=True, metavar="VALUE", help="Of these alone; repeat it.")
@click.option("--purpose", required=True, metavar="CODE", help="Why; stands in each approval and in the log.")
@in_project
@pass_session
def request(
    session: Session,
    maps: str,
    pseudonyms: Sequence[str],
    purpose: str,
    project: str | None,
    as_json: bool,
) -> None:
    """Ask for maps of old to new values, as a ledger has them.

    The request's key stays in your configuration, so you alone can open what was approved.
    """
    from voxelvault.releasing import ledgers

    with found_project(session, project) as (found, resources):
        names = tuple(name.strip() for name in maps.split(","))
        asked = ledgers.ask(found, names, purpose=purpose, pseudonyms=pseudonyms, resources=resources)
        tell_request(asked.request_id, as_json, resources)


@verb(
    "approve",
    f"voxelvault --vault ~/vault deidentify ledger approve {_EXAMPLE} --key /media/usb/ann.key --dry-run",
    f"voxelvault --vault ~/vault deidentify ledger approve {_EXAMPLE} --key /media/usb/ann.key",
)
@click.argument("request_id", metavar="REQUEST")
@click.option("--key", "key_file", type=_FILE, metavar="FILE", required=True, help="Your key as an approver.")
@click.option(
    "--approver", "approvers", multiple=True, metavar="LABEL=FILE", help="Whom it enrols; repeat it."
)
@click.option("--dry-run", is_flag=True, help="Print what is asked for, sign nothing.")
@in_project
@pass_session
def approve(
    session: Session,
    request_id: str,
    key_file: Path,
    approvers: Sequence[str],
    dry_run: bool,
    project: str | None,
    as_json: bool,
) -> None:
    """Say yes to a REQUEST, as an approver: for what it asks, for its purpose, and once.

    One to enrol approvers is approved with the public keys that they themselves handed you.

    Read it first with --dry-run. What you sign names all of it, and its digest stands in the log.
    """
    from voxelvault.releasing import ledgers

    with found_project(session, project, reading=dry_run) as (found, resources):
        digest = None
        if not dry_run:
            public = labelled(approvers)
            digest = ledgers.approve(found, request_id, key_file, resources, approvers=public).digest
        told = request_facts(ledgers.asked(found, request_id)[0])
    lines = facts({name: cell(value) for name, value in request_texts(told).items()})
    if digest:
        lines.append(f"approved; the statement's SHA-256 is {digest}")
    emit({**told, "statement": digest, "audit_log": resources is not None}, lines, as_json)


@verb(
    "open",
    f"voxelvault --vault ~/vault deidentify ledger open {_EXAMPLE} --out /keys/maps",
)
@click.argument("request_id", metavar="REQUEST")
@click.option("--out", type=_FILE, metavar="DIR", required=True, help="Made if need be.")
@in_project
@pass_session
def open_(session: Session, request_id: str, out: Path, project: str | None, as_json: bool) -> None:
    """Open what two approvers said yes to, once: one CSV a map, with the columns id_old,id_new.

    You must have made the REQUEST. The files re-identify people; they are readable by you alone.
    """
    from voxelvault.deid.card import counted
    from voxelvault.releasing import ledgers

    with found_project(session, project) as (found, resources):
        asked = ledgers.asked(found, request_id)[0].request
        files = ledgers.map_files(out, asked.maps)
        maps = ledgers.reidentify(found, request_id, resources)
        ledgers.write_maps(files, maps)
    lines = [f"{name}: {counted(len(maps[name]), 'row')} in {file}" for name, file in files.items()]
    lines.append("these files re-identify people: keep them apart, or delete them")
    told = {name: {"file": file, "rows": len(maps[name])} for name, file in files.items()}
    emit({"request": request_id, "maps": told, "audit_log": resources is not None}, lines, as_json)


for _verb in (request, approve, open_):
    ledger.add_command(_verb)

__all__ = ["ledger"]
