"""A verb: `voxelvault count`, which opens the vault as every verb does."""

from __future__ import annotations

from voxelvault.interfaces.cli.command import Session, pass_session, verb
from voxelvault.interfaces.cli.output import emit


@verb("count", "voxelvault --vault ~/vault count")
@pass_session
def count(session: Session, as_json: bool) -> None:
    """Print how many series there are of each modality."""
    with session.open() as vault:
        found = vault.sql("select Modality, count(*) as n from series group by all order by all").fetchall()
    emit(dict(found), [f"{modality} {number}" for modality, number in found], as_json)


__all__ = ["count"]
