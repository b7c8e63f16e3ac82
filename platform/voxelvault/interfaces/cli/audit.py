"""`audit`: the log of every access."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from voxelvault.errors import UsageError
from voxelvault.interfaces.cli.audit_witness import cosign, proved_by_witnesses, witness
from voxelvault.interfaces.cli.command import Session, pass_session, read_text, verb
from voxelvault.interfaces.cli.output import emit, plain, table

if TYPE_CHECKING:
    from voxelvault.audit.leaf import Entry


_SHOWN = ("index", "when", "kind", "outcome", "who", "purpose", "action", "ids", "counts", "digests", "codes")


@click.group("audit")
def audit() -> None:
    """Read, verify and prove the tamper-evident log."""


@verb("log", "voxelvault --vault ~/vault audit log --last 20")
@click.option("--last", type=click.IntRange(1), metavar="N", help="Only the newest entries.")
@pass_session
def log(session: Session, last: int | None, as_json: bool) -> None:
    """Print who did what and when.

    Entries come in order, with how each ended and which random ids it is about.
    """
    with session.open() as vault:
        entries = vault.audit.log(last)
    rows = [
        (item.index, f"{item.when:%Y-%m-%d %H:%M:%S}", item.who, item.kind, item.outcome, _about(item))
        for item in entries
    ]
    lines = table(("entry", "when (UTC)", "who", "what", "outcome", "about"), rows)
    emit([_document(item) for item in entries], lines, as_json)


def _about(entry: Entry) -> str:
    found = [f"purpose {entry.purpose}"] if entry.purpose else []
    found += [f"{name} {', '.join(ids[:2])}{'…' if len(ids) > 2 else ''}" for name, ids in entry.ids.items()]
    found += [f"{name} {count}" for name, count in entry.counts.items()]
    return "; ".join(found)


def _document(entry: Entry) -> dict[str, Any]:
    names = (
        "index",
        "when",
        "kind",
        "outcome",
        "who",
        "purpose",
        "action",
        "ids",
        "counts",
        "digests",
        "codes",
    )
    return {name: plain(getattr(entry, name)) for name in names}


@verb(
    "verify",
    "voxelvault --vault ~/vault audit verify",
    "voxelvault --vault ~/vault audit verify --against checkpoint.txt",
    "voxelvault --vault ~/vault audit verify --policy witnesses.txt",
)
@click.option("--against", type=click.Path(path_type=Path), metavar="FILE", help="A kept checkpoint.")
@click.option("--policy", type=click.Path(path_type=Path), metavar="FILE", help="Witnesses to be trusted.")
@pass_session
def verify(session: Session, against: Path | None, policy: Path | None, as_json: bool) -> None:
    """Check the log and say what that proves: every entry, the tree, the signature.

    With a policy it fails where the quorum of witnesses attests nothing.
    """
    note = None if against is None else read_text(against)
    with session.open() as vault:
        report = vault.audit.verify(note)
        if policy is not None:
            report = proved_by_witnesses(vault, report, policy)
    emit({**plain(report), "says": str(report)}, str(report), as_json)


@verb("prove", "voxelvault --vault ~/vault audit prove 12 --out entry-12.json")
@click.argument("entry", type=click.IntRange(0))
@click.option("--out", type=click.Path(path_type=Path), metavar="FILE", help="Write the proof there.")
@pass_session
def prove(session: Session, entry: int, out: Path | None, as_json: bool) -> None:
    """Prove that ENTRY is in the log.

    The proof is JSON with the entry in clear, for someone who has the log's public key.
    """
    from voxelvault.files import write_new

    with session.open() as vault:
        if entry >= len(vault.audit):
            raise UsageError(f"the log has entries 0 to {len(vault.audit) - 1}; choose one of them")
        proof = vault.audit.prove(entry)
        key = str(vault.resources.log.key)
    if out is not None:
        write_new(out.expanduser(), [json.dumps(proof, indent=2).encode()])
    lines = [json.dumps(proof, indent=2)] if out is None else [f"proof in {out}", f"log's public key: {key}"]
    emit({**proof, "log_public_key": key}, lines, as_json)


@verb(
    "checkpoint",
    "voxelvault --vault ~/vault audit checkpoint",
    "voxelvault --vault ~/vault audit checkpoint --export /mnt/usb/checkpoint.txt",
)
@click.option("--export", "out", type=click.Path(path_type=Path), metavar="FILE", help="Write it there.")
@pass_session
def checkpoint(session: Session, out: Path | None, as_json: bool) -> None:
    """Print the newest signed checkpoint.

    Kept elsewhere, it proves later that nothing was rewritten.
    """
    with session.open() as vault:
        note = vault.audit.checkpoint() if out is None else vault.audit.export_checkpoint(out)
        key = str(vault.resources.log.key)
    lines = note.rstrip("\n") if out is None else f"checkpoint in {out}; keep it where the vault is not"
    emit({"checkpoint": note, "log_public_key": key, "file": out}, lines, as_json)


for _verb in (log, verify, prove, checkpoint, cosign, witness):
    audit.add_command(_verb)
