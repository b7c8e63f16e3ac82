"""`ingest`: DICOM comes in."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from voxelvault.interfaces.cli.command import PARTLY, Session, destructive, pass_session, scheduling, verb
from voxelvault.interfaces.cli.init import CODECS
from voxelvault.interfaces.cli.output import agreed, emit, plain, shown

if TYPE_CHECKING:
    from voxelvault.intake.ingest import IngestReport


@verb(
    "ingest",
    "voxelvault --vault ~/vault ingest /data/dicom",
    "voxelvault --vault ~/vault ingest study.zip DICOMDIR --issuer 'General Hospital'",
    "voxelvault --vault ~/vault ingest /inbox --move --yes",
    "voxelvault --vault ~/vault ingest /data/dicom --scheduler tls://10.0.0.7:8786",
)
@click.argument("paths", nargs=-1, required=True, metavar="PATH...")
@click.option("--move", is_flag=True, help="Delete each source file once it is safely in the vault.")
@click.option("--issuer", metavar="NAME", help="Issuer of patient ids whose header names none.")
@click.option("--codec", metavar=CODECS, help="Instead of the vault's own.")
@scheduling
@destructive
@pass_session
def ingest(
    session: Session,
    paths: tuple[str, ...],
    move: bool,
    issuer: str | None,
    codec: str | None,
    cluster: dict[str, Any],
    dry_run: bool,
    yes: bool,
    as_json: bool,
) -> int:
    """Take DICOM in.

    PATHs are folders, files, zip and tar archives, DICOMDIRs, or NAME:WHERE of a source that another
    package adds. Files that can't come in as they are
    go to quarantine, each with its reason. Ctrl-C finishes the series at hand; run it again, and it
    goes on where it stopped. --dry-run reads and reports only.
    """
    if move and not dry_run:
        agreed(
            [
                f"take in {len(paths)} paths and delete each file once it is stored and committed",
                "archives, quarantined files and files that are no DICOM stay where they are",
            ],
            yes,
            dry_run=False,
        )
    with session.open() as vault:
        report = vault.ingest(*paths, issuer=issuer, move=move, dry_run=dry_run, codec=codec, **cluster)
    emit({**plain(report), "complete": report.complete}, _lines(report), as_json)
    return 0 if report.complete else PARTLY


_UNDECODABLE = "select SOPInstanceUID from instances where pixels = 'undecodable'"


def _lines(report: IngestReport) -> list[str]:
    from voxelvault.intake.quarantine import Reason

    found = [str(report)]
    directories = sum(item.reason is Reason.MEDIA_DIRECTORY for item in report.quarantined)
    if directories:
        found.append(f"of these, {directories} DICOMDIR: kept as they came, no action is needed")
    if report.undecodable:
        found.append("damaged or in an encoding that isn't known: kept byte for byte, without an image;")
        found.append(f"    `voxelvault sql` names them: {_UNDECODABLE}")
    for item in report.quarantined:
        if item.reason is not Reason.MEDIA_DIRECTORY:
            name = "would be quarantined" if report.dry_run else f"quarantined {item.quarantine_id}"
            found.append(f"{name}: {shown(item.source)}")
            found.append(f"    {item.reason.code}: {item.reason.sentence}; {item.reason.advice}")
    return found + [f"refused {shown(line)}" for line in report.refused]
