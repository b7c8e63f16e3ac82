"""`triage evaluate`: what a bundle of this pipeline reaches on synthetic studies it has not seen."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from voxelvault.errors import MissingExtra
from voxelvault.interfaces.cli.command import verb
from voxelvault.interfaces.cli.output import emit

_FOLDER = click.Path(path_type=Path, file_okay=False)


@verb(
    "evaluate",
    "voxelvault triage evaluate --cache studies --templates ../shared/data/templates",
    "voxelvault triage evaluate --bundle run/bundle --cache studies --studies 40 --head ct/series --json",
)
@click.option("--bundle", type=_FOLDER, help="The model; the one that comes with this package by default.")
@click.option("--cache", type=_FOLDER, required=True, help="Where synthetic studies are kept; made once.")
@click.option("--templates", type=_FOLDER, help="Averaged anatomy (NIfTI); the analytic head without.")
@click.option("--studies", type=click.IntRange(4), default=100, show_default=True, help="Of the shifted set.")
@click.option("--set", "number", type=click.IntRange(1), default=1, show_default=True, help="Which one.")
@click.option("--head", type=_FOLDER, help="DICOM files of a real head CT without bleeding, held out.")
@click.option("--note", is_flag=True, help="Write the figures into the bundle's own card.")
@click.option(
    "--implants", type=click.IntRange(2), default=40, show_default=True, help="Bleeds laid into it."
)
def command(
    as_json: bool,
    bundle: Path | None,
    cache: Path,
    templates: Path | None,
    studies: int,
    number: int,
    head: Path | None,
    note: bool,
    implants: int,
) -> None:
    """Evaluate a model on a shifted set of synthetic head CTs, with the brightness rule beside it.

    Threshold and calibration are the bundle's own, fixed before; nothing is chosen on this set. A set that
    was looked at while a model was made is no test of it any more: take another number.
    """
    try:
        from voxelvault_triage.training import evaluate
        from voxelvault_triage.training.dataset import plans
        from voxelvault_triage.training.export import runner
        from voxelvault_triage.training.making import note_figures
        from voxelvault_triage.training.making import studies as made
    except ImportError:
        raise MissingExtra("evaluation needs PyTorch and MONAI: pip install 'voxelvault[triage]'") from None
    graph, operating = evaluate.read_bundle(bundle or shipped())
    run = runner(graph)
    test = plans(0, 0, studies, seed=number)[-1]
    found: dict[str, Any] = evaluate.report(
        evaluate.score(made(test, cache, templates), run, operating.pixels), operating
    )
    lines = evaluate.lines(found)
    if head is not None:
        from voxelvault_triage.phantom.implant import host
        from voxelvault_triage.training.scans import read_head

        found["held_out"] = evaluate.held_out(host(*read_head(head)), run, operating, implants)
        lines += evaluate.held_out_lines(found["held_out"])
    if note:
        note_figures(bundle or shipped(), lines[1:])
    emit(found, lines, as_json)


def shipped() -> Path:
    """Return the folder of the bundle that comes with this package."""
    from voxelvault_triage import hemorrhage

    return Path(hemorrhage.__path__[0]) / "bundle"
