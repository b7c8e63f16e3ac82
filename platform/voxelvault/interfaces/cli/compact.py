"""`compact`: join the many small packs of series that arrived image by image."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from voxelvault.interfaces.cli.command import PARTLY, Session, destructive, pass_session, scheduling, verb
from voxelvault.interfaces.cli.output import agreed, emit, plain

if TYPE_CHECKING:
    from voxelvault.upkeep.compaction import CompactReport
    from voxelvault.vault import Vault


@verb(
    "compact",
    "voxelvault --vault ~/vault compact --dry-run",
    "voxelvault --vault ~/vault compact --yes",
)
@scheduling
@destructive
@pass_session
def compact(session: Session, cluster: dict[str, Any], dry_run: bool, yes: bool, as_json: bool) -> int:
    """Join small packs, so that a series is a few objects again.

    Nothing is decoded, and whoever has a series open keeps reading; `verify --repair` sweeps what
    was replaced a week later.
    """
    with session.open() as vault:
        go = _agreed(vault, yes, dry_run)
        report = vault.compact(dry_run=not go, **cluster)
    emit({**plain(report), "complete": report.complete}, [str(report)], as_json)
    return 0 if report.complete else PARTLY


def _agreed(vault: Vault, yes: bool, dry_run: bool) -> bool:
    found: CompactReport = vault.compact(dry_run=True, progress=False)
    return agreed([f"{found}", "sweep the former objects with `verify --repair` after a week"], yes, dry_run)
