"""`export`: the original files, byte for byte, or volumes in other tools' formats."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import click

from voxelvault.errors import UsageError
from voxelvault.formats.report import FormatReport, LeavesTheVault
from voxelvault.interfaces.cli.command import PARTLY, Session, pass_session, scheduling, verb
from voxelvault.interfaces.cli.output import emit


@verb(
    "export",
    "voxelvault --vault ~/vault export --out out/ --study 1.2.840.113619.2.1",
    "voxelvault --vault ~/vault export --out out/ --all",
    "voxelvault --vault ~/vault export --out out/ --all --format nifti",
)
@click.option("--out", required=True, type=click.Path(path_type=Path), metavar="DIR", help="Made if need be.")
@click.option("--all", "everything", is_flag=True, help="Every file of the vault.")
@click.option("--study", metavar="UID", help="One study.")
@click.option("--series", metavar="UID", help="One series.")
@click.option(
    "--format",
    "format_",
    type=click.Choice(["dicom", "nifti", "ome-zarr"]),
    default="dicom",
    show_default=True,
    help="The files as they came, or decrypted volumes for other tools.",
)
@click.option("--resample", is_flag=True, help="Volumes: interpolate uneven slices onto an even grid.")
@scheduling
@pass_session
def export(
    session: Session,
    out: Path,
    everything: bool,
    study: str | None,
    series: str | None,
    format_: str,
    resample: bool,
    cluster: dict[str, Any],
    as_json: bool,
) -> int:
    """Write the original files, byte for byte, or volumes for other tools.

    Original files go into DIR with a MANIFEST.csv of their SHA-256. What is there already with the
    same bytes is left alone, so an interrupted export can be run again.

    As nifti a volume becomes a .nii.gz with a JSON sidecar, as ome-zarr an OME-Zarr 0.5; both are
    named by the series' opaque id, and nothing in them names anybody but the pixels themselves. What
    can't be written in the format is left out and listed (exit code 3).
    """
    if bool(everything) + bool(study) + bool(series) != 1:
        raise UsageError("say what to export: one of --all, --study UID, --series UID")
    with session.open() as vault, warnings.catch_warnings():
        # The report says it, too; and a line of Python on stderr is no help here.
        warnings.simplefilter("ignore", LeavesTheVault)
        chosen: dict[str, Any] = {"study": study, "series": series, "format": format_, "resample": resample}
        report = vault.export(out, **chosen, **cluster)
    if isinstance(report, FormatReport):
        emit(report, [*str(report).splitlines(), f"in {report.folder}"], as_json)
        return 0 if report.complete else PARTLY
    emit(report, [str(report), f"in {report.folder}; hashes in {report.manifest}"], as_json)
    return 0
