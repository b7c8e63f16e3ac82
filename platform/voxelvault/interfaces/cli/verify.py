"""`verify`: make sure that everything is there, and is what came in."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from voxelvault.errors import UsageError
from voxelvault.interfaces.cli.command import Session, destructive, pass_session, read_text, scheduling, verb
from voxelvault.interfaces.cli.output import agreed, emit, plain, shown
from voxelvault.interfaces.cli.rebuild import rebuild

if TYPE_CHECKING:
    from voxelvault.upkeep.verify import VerifyReport
    from voxelvault.vault import Vault

FAILED = 1


@verb(
    "verify",
    "voxelvault --vault ~/vault verify --quick",
    "voxelvault --vault ~/vault verify --sample 0.1 --against checkpoint.txt",
    "voxelvault --vault ~/vault verify --repair --dry-run",
    "voxelvault --vault ~/vault verify --rebuild-catalog --dry-run",
)
@click.option("--quick", is_flag=True, help="Lengths, manifests, references and log; no pixels.")
@click.option("--sample", type=float, metavar="SHARE", help="Read this share of the packs, 0 to 1.")
@click.option("--repair", is_flag=True, help="Sweep what a killed run left behind, and complete the log.")
@click.option("--rebuild-catalog", is_flag=True, help="Write the catalog anew from packs and log.")
@click.option("--against", type=click.Path(path_type=Path), metavar="FILE", help="A kept checkpoint.")
@click.option("--names", is_flag=True, help="Name what failed by UID and source: logged.")
@scheduling
@destructive
@pass_session
def verify(
    session: Session,
    quick: bool,
    sample: float | None,
    repair: bool,
    rebuild_catalog: bool,
    against: Path | None,
    names: bool,
    cluster: dict[str, Any],
    dry_run: bool,
    yes: bool,
    as_json: bool,
) -> int:
    """Check that everything is there and unchanged.

    Every object, every frame's digest, every catalog reference, and the audit log.
    """
    if rebuild_catalog:
        if repair or quick or names or sample is not None or against is not None:
            raise UsageError("--rebuild-catalog stands alone; verify afterwards")
        return rebuild(session, yes, dry_run, as_json)
    note = None if against is None else read_text(against)
    with session.open() as vault:
        go = repair and _agreed(vault, yes, dry_run)
        # A plan needs no pixels.
        fast = quick or (repair and dry_run)
        report = vault.verify(quick=fast, sample=sample, repair=go, against=note, **cluster)
        found = _names(vault) if names and report.failures else {}
    failures = [{**plain(item), **found.get(item.object_id, {})} for item in report.failures]
    document = {**plain(report), "ok": report.ok, "failures": failures, "log_says": str(report.log)}
    emit(document, _lines(report, found), as_json)
    return 0 if report.ok else FAILED


def _agreed(vault: Vault, yes: bool, dry_run: bool) -> bool:
    count = vault.verify(quick=True, progress=False).orphans
    plan = [
        f"sweep those of {count} unreferenced objects whose run never committed and is an hour old",
        "sweep the objects of packs that were compacted a week ago, or removed",
        "enter the outcomes that a killed run could not, and finish its removals",
        "drop derived copies that are damaged",
    ]
    return agreed(plan, yes, dry_run)


def _names(vault: Vault) -> dict[str, dict[str, str]]:
    """Return what people call the things that failures name by opaque id."""
    packs = vault.sql(
        "select pack_id, StudyInstanceUID, SeriesInstanceUID from packs join series using (series_id)"
    )
    found = {row[0]: {"study": str(row[1]), "series": str(row[2])} for row in packs.fetchall()}
    kept = vault.sql("select quarantine_id, source from quarantine")
    return found | {row[0]: {"source": str(row[1])} for row in kept.fetchall()}


def _lines(report: VerifyReport, names: Mapping[str, Mapping[str, str]]) -> list[str]:
    found = [str(report)]
    for item in report.failures:
        about = ", ".join(f"{what} {shown(name)}" for what, name in names.get(item.object_id, {}).items())
        found.append(f"FAILED {item}" + (f" ({about})" if about else ""))
    return found
