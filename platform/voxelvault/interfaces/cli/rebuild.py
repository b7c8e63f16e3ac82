"""`verify --rebuild-catalog`: the catalog written anew, from a vault whose catalog may not open."""

from __future__ import annotations

from typing import TYPE_CHECKING

from voxelvault.interfaces.cli.command import PARTLY, Session
from voxelvault.interfaces.cli.output import agreed, emit, plain

if TYPE_CHECKING:
    from voxelvault.upkeep.rebuilding import RebuildReport


def rebuild(session: Session, yes: bool, dry_run: bool, as_json: bool) -> int:
    """Write the catalog anew, and say what is lost."""
    from voxelvault.display.progress import Progress
    from voxelvault.opening import Ways, close_vault, open_vault
    from voxelvault.upkeep.rebuilding import rebuild_catalog

    resources = open_vault(
        session.place,
        Ways(session.key_file, session.passphrase()),
        purpose=session.purpose,
        fingerprint=session.fingerprint,
        checkpoint=session.checkpoint(),
        accept=session.accept_restore,
        anew=True,
    )
    try:
        report = rebuild_catalog(resources, dry_run=True)
        if agreed(_plan(report), yes, dry_run):
            with Progress("rebuild", report.packs, unit="pack") as bar:
                report = rebuild_catalog(resources, advance=bar.advance)
    finally:
        close_vault(resources)
    document = {**plain(report), "complete": report.complete}
    emit(
        document, [str(report), *(f"LOST {pack_id}: {why}" for pack_id, why in report.lost.items())], as_json
    )
    return 0 if report.complete else PARTLY


def _plan(report: RebuildReport) -> list[str]:
    return [
        f"{report}",
        "carry over frozen cohorts, quarantine and derived copies from the present catalog, if it opens",
        "put the new catalog in the place of the present one",
    ]
