"""`quarantine`: files kept aside."""

from __future__ import annotations

from pathlib import Path

import click

from voxelvault.interfaces.cli.command import PARTLY, Session, pass_session, verb
from voxelvault.interfaces.cli.output import emit, plain, shown, size


@click.group("quarantine")
def quarantine() -> None:
    """List, export and retry files that could not come in."""


@verb("list", "voxelvault --vault ~/vault quarantine list")
@pass_session
def list_(session: Session, as_json: bool) -> None:
    """List the files kept aside, with reason and advice.

    Sources may name people, so the listing is logged.
    """
    with session.open() as vault:
        items = vault.quarantine()
    lines = []
    for item in items:
        lines.append(f"{item.quarantine_id}  {size(item.size)}  {shown(item.source)}")
        lines.append(f"    {item.reason.code}: {item.reason.sentence}; {item.reason.advice}")
    documents = [
        {**plain(item), "sentence": item.reason.sentence, "advice": item.reason.advice} for item in items
    ]
    emit(documents, lines or "nothing is in quarantine", as_json)


@verb(
    "export",
    "voxelvault --vault ~/vault quarantine export --out aside/",
    "voxelvault --vault ~/vault quarantine export --out aside/ 0123456789abcdef0123456789abcdef",
)
@click.argument("ids", nargs=-1, metavar="[ID]...")
@click.option("--out", required=True, type=click.Path(path_type=Path), metavar="DIR", help="Made if need be.")
@pass_session
def export(session: Session, ids: tuple[str, ...], out: Path, as_json: bool) -> None:
    """Write files kept aside as they came.

    All of them, or those of the IDs, go into DIR, each named by its id.
    """
    from voxelvault.intake.quarantine import quarantine_export

    with session.open() as vault:
        written = quarantine_export(vault.resources, out, ids)
    emit({"files": written}, [f"{len(written)} files, byte for byte, in {out}"], as_json)


@verb(
    "retry",
    "voxelvault --vault ~/vault quarantine retry",
    "voxelvault --vault ~/vault quarantine retry 0123456789abcdef0123456789abcdef",
)
@click.argument("ids", nargs=-1, metavar="[ID]...")
@click.option("--issuer", metavar="NAME", help="Issuer of patient ids whose header names none.")
@pass_session
def retry(session: Session, ids: tuple[str, ...], issuer: str | None, as_json: bool) -> int:
    """Ingest files kept aside once more.

    All of them, or those of the IDs: after an update of the decoders, say.
    """
    from voxelvault.intake.retry import quarantine_retry

    with session.open() as vault:
        report = quarantine_retry(vault.resources, ids, issuer=issuer)
    lines = [str(report), *(f"stays {item.quarantine_id}: {item.reason.code}" for item in report.kept)]
    emit(report, lines, as_json)
    return 0 if report.complete else PARTLY


for _verb in (list_, export, retry):
    quarantine.add_command(_verb)
