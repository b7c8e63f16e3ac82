"""`show`: what a series is, and a picture of it."""

from __future__ import annotations

import io
from pathlib import Path

import click

from voxelvault.errors import UsageError
from voxelvault.interfaces.cli.command import Session, pass_session, verb
from voxelvault.interfaces.cli.output import emit, facts


@verb(
    "show",
    "voxelvault --vault ~/vault show 1.2.840.113619.2.1 --out head.png --window brain",
    "voxelvault --vault ~/vault show 1.2.840.113619.2.1 --stack 1 --out second.png --window 40,400",
)
@click.argument("uid")
@click.option("--study", metavar="UID", help="Where several studies have a series of this UID.")
@click.option("--out", type=click.Path(path_type=Path), metavar="FILE", help="Write a contact sheet, PNG.")
@click.option("--window", metavar="NAME|CENTER,WIDTH", help="brain, bone, lung, …, or two numbers.")
@click.option("--stack", metavar="N|LABEL", help="Which volume; by default the largest.")
@click.option("--count", type=click.IntRange(1, 400), default=20, show_default=True, help="Slices drawn.")
@pass_session
def show(
    session: Session,
    uid: str,
    study: str | None,
    out: Path | None,
    window: str | None,
    stack: str | None,
    count: int,
    as_json: bool,
) -> None:
    """Print what a series is; draw it with --out.

    Nothing printed or drawn names anybody.
    """
    from voxelvault.files import write_new

    chosen = _stack(stack)
    with session.open() as vault, vault.series(uid, study=study) as series:
        found = {**series.summary(), "picture": None}
        if out is not None:
            picture = io.BytesIO()
            series.contact_sheet(_window(window), stack=chosen, count=count).save(picture, "PNG")
            write_new(out.expanduser(), [picture.getvalue()])
            found["picture"] = str(out)
    emit(found, facts({name: value for name, value in found.items() if value is not None}), as_json)


def _stack(text: str | None) -> int | str:
    # A summary needs no choice and a picture is no measurement: the largest volume will do.
    if text is None:
        return 0
    return int(text) if text.isdecimal() else text


def _window(text: str | None) -> str | tuple[float, float] | None:
    if text is None or "," not in text:
        return text
    try:
        center, width = map(float, text.split(","))
    except ValueError:
        raise UsageError("--window takes a preset's name, or CENTER,WIDTH such as 40,80") from None
    return center, width
