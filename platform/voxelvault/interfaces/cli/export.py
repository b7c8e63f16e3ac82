"""`export`: the original files, byte for byte."""

from __future__ import annotations

from pathlib import Path

import click

from voxelvault.errors import UsageError
from voxelvault.interfaces.cli.command import Session, pass_session, verb
from voxelvault.interfaces.cli.output import emit


@verb(
    "export",
    "voxelvault --vault ~/vault export --out out/ --study 1.2.840.113619.2.1",
    "voxelvault --vault ~/vault export --out out/ --all",
)
@click.option("--out", required=True, type=click.Path(path_type=Path), metavar="DIR", help="Made if need be.")
@click.option("--all", "everything", is_flag=True, help="Every file of the vault.")
@click.option("--study", metavar="UID", help="One study.")
@click.option("--series", metavar="UID", help="One series.")
@pass_session
def export(
    session: Session, out: Path, everything: bool, study: str | None, series: str | None, as_json: bool
) -> None:
    """Write the original files, byte for byte.

    They go into DIR, with a MANIFEST.csv of their SHA-256.
    What is there already with the same bytes is left alone, so an interrupted export can be run again.
    """
    if bool(everything) + bool(study) + bool(series) != 1:
        raise UsageError("say what to export: one of --all, --study UID, --series UID")
    with session.open() as vault:
        report = vault.export(out, study=study, series=series)
    emit(report, [str(report), f"in {report.folder}; hashes in {report.manifest}"], as_json)
