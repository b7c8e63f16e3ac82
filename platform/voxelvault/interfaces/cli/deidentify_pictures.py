"""`deidentify pictures`: what a vault keeps of what was blanked in its releases."""

from __future__ import annotations

from pathlib import Path

import click

from voxelvault.errors import UsageError
from voxelvault.interfaces.cli.command import Session, pass_session, verb
from voxelvault.interfaces.cli.deidentify_projects import found_project, in_project
from voxelvault.interfaces.cli.output import emit


@verb(
    "pictures",
    "voxelvault --vault ~/vault deidentify pictures look.html",
    "voxelvault --vault ~/vault deidentify pictures --remove",
)
@click.argument("page", required=False, type=click.Path(path_type=Path))
@click.option("--remove", is_flag=True, help="Take them out of the vault, after the page if there is one.")
@in_project
@pass_session
def pictures(session: Session, page: Path | None, remove: bool, project: str | None, as_json: bool) -> None:
    """Write a PAGE of what was blanked in the releases of a vault, before and after; it shows names.

    A vault that holds the project keeps these pictures sealed; --review writes the same page while a
    release is made. With --remove they are gone from the vault.
    """
    from voxelvault.deid.card import counted
    from voxelvault.releasing.review import remove_kept, show_kept

    if page is None and not remove:
        raise UsageError("say where the page goes, or --remove")
    with found_project(session, project) as (found, resources):
        if resources is None:
            raise UsageError("pictures are kept in a vault alone; open one")
        shown = show_kept(found, page, resources) if page is not None else None
        removed = remove_kept(found, resources) if remove else None
    lines = []
    if shown is not None:
        lines.append(f"{counted(shown, 'picture')} on the page, of patients' own values: delete it after")
    if removed is not None:
        lines.append(f"{counted(removed, 'picture')} taken out of the vault")
    emit({"page": page, "shown": shown, "removed": removed}, lines, as_json)


__all__ = ["pictures"]
